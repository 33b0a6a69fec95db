"""Cutting the files of a corpus into parts: what one worker takes at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from headrace.corpus.recipe.files import InputFile

FILE_BYTES = 64 << 10
"""What opening a file counts as, so that a part does not get any number of small files."""


@dataclass(frozen=True, slots=True)
class Slice:
    """A file, or the records of it that begin in a range of its bytes."""

    file: InputFile
    start: int
    end: int | None
    """None: the end of the file."""

    @property
    def size(self) -> int:
        """Bytes, as they are stored."""
        return (self.file.stamp.size if self.end is None else self.end) - self.start


@dataclass(frozen=True, slots=True)
class Part:
    """Slices that are read one behind the other."""

    number: int
    slices: tuple[Slice, ...]

    @property
    def name(self) -> str:
        """Of its files."""
        return f"{self.number:06d}"

    @property
    def size(self) -> int:
        """Bytes, as they are stored."""
        return sum(one.size for one in self.slices)


def cut(
    files: Iterable[tuple[InputFile, Sequence[tuple[int, int | None]]]], size: int
) -> list[Part]:
    """Cut files into parts of ``size`` bytes or less, wherever a file can be cut.

    Args:
        files: each with the ranges in which it can be read, in order.
        size: bytes of a part; a range that is larger is a part of its own.

    Returns:
        Every range exactly once, in order; a part never has files of two sources.
    """
    parts: list[Part] = []
    held: list[Slice] = []
    weight = 0

    def finish() -> None:
        nonlocal weight
        if held:
            parts.append(Part(len(parts), tuple(held)))
        held.clear()
        weight = 0

    for file, ranges in files:
        if held and held[-1].file.source != file.source:
            finish()
        for start, end in ranges:
            one = Slice(file, start, end)
            if weight + one.size + FILE_BYTES > size:
                finish()
            held.append(one)
            weight += one.size + FILE_BYTES
    finish()
    return parts
