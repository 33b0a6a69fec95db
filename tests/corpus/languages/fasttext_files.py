"""Small models of fastText, written byte by byte: each word speaks for one label."""

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

LABELS = ("__label__eng_Latn", "__label__de", "__label__rus_Cyrl")
WORDS = {
    "river": "__label__eng_Latn",
    "water": "__label__eng_Latn",
    "Fluss": "__label__de",
    "Wasser": "__label__de",
    "река": "__label__rus_Cyrl",
}


def write_model(
    path: Path,
    labels: Sequence[str] = LABELS,
    words: Mapping[str, str] = WORDS,
    *,
    kind: int = 3,
    weight: float = 9.0,
) -> Path:
    """Write a model of a bag of words with a softmax over its labels.

    Args:
        path: where.
        labels: with their prefix.
        words: each with the label that it speaks for.
        kind: 3: supervised.
        weight: of a word for its label, divided by the words of a text.
    """
    size = len(labels)
    settings = [size, 5, 1, 1, 5, 1, 3, kind, 0, 0, 0, 100]
    data = struct.pack("<2i12id", 793712314, 12, *settings, 1e-4)
    data += struct.pack("<3i2q", len(words) + size, len(words), size, 100, -1)
    for is_label, names in enumerate((words, labels)):
        for name in names:
            data += name.encode() + b"\0" + struct.pack("<qb", 1, is_label)
    data += _matrix([[float(label == one) for one in labels] for label in words.values()])
    data += _matrix([[weight * (one == two) for two in labels] for one in labels])
    path.write_bytes(data)
    return path


def _matrix(rows: list[list[float]]) -> bytes:
    head = struct.pack("<?2q", False, len(rows), len(rows[0]))
    return head + b"".join(struct.pack(f"<{len(row)}f", *row) for row in rows)
