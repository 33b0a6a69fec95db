"""Writes sentences in the CoNLL layout of MultiCoNER II."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from headrace.corpus.sample_corpus.generator import Sentence
from headrace.shards import storage

FILE_NAMES = {"train": "{language}_train.conll", "validation": "{language}_dev.conll"}
"""Split -> file name, as MultiCoNER II names its files."""


def format_sentence(sentence: Sentence) -> str:
    """Return the header line, one ``token _ _ tag`` line a token, and an empty line."""
    lines = [f"# id {sentence.id}\tdomain={sentence.language}\tsubset={sentence.subset}"]
    pairs = zip(sentence.tokens, sentence.tags, strict=True)
    lines.extend(f"{token} _ _ {tag}" for token, tag in pairs)
    return "\n".join(lines) + "\n\n"


def write_conll(path: str | Path, sentences: Iterable[Sentence]) -> int:
    """Write ``sentences`` to a file or URL, whole or not at all, and return their number."""
    blocks = [format_sentence(sentence) for sentence in sentences]
    storage.write_atomically(str(path), "".join(blocks).encode("utf-8"))
    return len(blocks)
