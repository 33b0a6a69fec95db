"""The lines of a range of a file, without ever holding one that is too long."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ByteLine:
    """A line without its end."""

    offset: int
    length: int
    content: bytes | None
    """None: it was too long to be held."""


def byte_lines(
    file: IO[bytes],
    start: int = 0,
    end: int | None = None,
    *,
    most: int,
    separator: bytes = b"\n",
) -> Iterator[ByteLine]:
    """The lines that begin in ``[start, end)``, read to their ends wherever those are.

    However a file is cut into ranges, each of its lines is in exactly one of them.

    Args:
        file: Stands at its beginning; can be sought in if ``start`` is not 0.
        most: Bytes of a line that are held.
        separator: What ends a line: a line feed in the file's encoding.  Lines begin at multiples
            of its length.
    """
    width = len(separator)
    begin = -(-start // width) * width
    at = 0
    skipping = begin > 0
    if skipping:
        # A line begins behind a separator: the first of these may end right where the range begins.
        at = begin - width
        file.seek(at)
    elif end is not None and end <= 0:
        return
    held = bytearray()
    length = 0
    while piece := file.read(_PIECE_BYTES - _PIECE_BYTES % width):
        i = 0
        while (stop := _find(piece, separator, i)) >= 0:
            if not skipping:
                length += stop - i
                if length <= most:
                    held += piece[i:stop]
                yield ByteLine(begin, length, bytes(held) if length <= most else None)
            skipping = False
            held.clear()
            length = 0
            i = stop + width
            begin = at + i
            if end is not None and begin >= end:
                return
        length += len(piece) - i
        at += len(piece)
        if skipping and end is not None and at >= end:
            return  # a line that began before the range and ends behind it
        if length <= most and not skipping:
            held += piece[i:]
        else:
            held.clear()
    if length and not skipping:
        yield ByteLine(begin, length, bytes(held) if length <= most else None)


def _find(piece: bytes, separator: bytes, i: int) -> int:
    """Where the next separator is at a multiple of its length; -1 if there is none."""
    stop = piece.find(separator, i)
    while stop >= 0 and stop % len(separator):
        stop = piece.find(separator, stop + 1)
    return stop
