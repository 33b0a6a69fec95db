"""What encoding did to a source: counts, and everything that was lost on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass


@dataclass(frozen=True)
class EncodingReport:
    """Counts over a shard or a source; reports of parts are added up with ``+``."""

    sentences: int = 0
    words: int = 0
    tokens: int = 0
    """Pieces that are kept, special tokens included."""
    sentences_truncated: int = 0
    """Sentences with more pieces than ``max_length`` leaves room for."""
    words_truncated: int = 0
    """Words whose first piece was cut off: they have no label in training and count as "O" in
    evaluation."""
    words_without_pieces: int = 0
    """Words that the tokenizer turns into nothing (a lone zero-width space)."""
    entities: int = 0
    entities_cut: int = 0
    """Entities of which some words, not all, were truncated or have no piece."""
    entities_lost: int = 0
    """Entities of which no word is left."""

    def __add__(self, other: EncodingReport) -> EncodingReport:
        return EncodingReport(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    @property
    def is_complete(self) -> bool:
        """Whether every word and entity is encoded."""
        lost = self.words_truncated + self.words_without_pieces
        return lost + self.entities_cut + self.entities_lost == 0

    def as_dict(self) -> dict[str, int]:
        """The counts by name, for JSON."""
        return asdict(self)


_COLUMNS = (
    ("sentences", "sentences"),
    ("words", "words"),
    ("tokens", "tokens"),
    ("entities", "entities"),
    ("sentences_truncated", "sentences cut"),
    ("words_truncated", "words cut off"),
    ("words_without_pieces", "words without pieces"),
    ("entities_cut", "entities cut"),
    ("entities_lost", "entities lost"),
)


def render_table(rows: Sequence[tuple[str, EncodingReport]]) -> str:
    """A plain text table with one line for each named report, and their sum if there are more."""
    if len(rows) > 1:
        rows = [*rows, ("all", sum((report for _, report in rows), EncodingReport()))]
    table = [["source", *(title for _, title in _COLUMNS), "tokens/word"]]
    for name, report in rows:
        counts = report.as_dict()
        ratio = report.tokens / report.words if report.words else 0.0
        table.append([name, *(f"{counts[key]:,}" for key, _ in _COLUMNS), f"{ratio:.2f}"])
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    )
