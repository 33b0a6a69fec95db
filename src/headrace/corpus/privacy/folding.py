"""The text that detectors search: NFC, one script of digits, no invisible marks, offsets kept.

People write numbers with full-width, Arabic-Indic or Devanagari digits, and invisible marks end up
inside them: zero-width characters, marks of direction, soft hyphens.  Detectors see none of that.
What they find is told in code points of the text as it was.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import regex

_REMOVED = (
    "\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufe0e\ufe0f\ufeff"
)
_SPACES = "\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"
_HYPHENS = "\u2010-\u2015\u2212\ufe58\ufe63"


def _characters(pattern: str) -> list[str]:
    """All characters of the inside of a regular expression's class."""
    found = re.compile(f"[{pattern}]")
    return [character for character in map(chr, range(0x10000)) if found.match(character)]


def _table() -> dict[str, str]:
    table = {}
    for number in range(0x80, sys.maxunicode + 1):
        if unicodedata.category(chr(number)) == "Nd":
            table[chr(number)] = str(unicodedata.digit(chr(number)))
    for number in range(0xFF01, 0xFF5F):  # full-width forms of ASCII
        table[chr(number)] = chr(number - 0xFEE0)
    table |= dict.fromkeys(_characters(_SPACES), " ")
    table |= dict.fromkeys(_characters(_HYPHENS), "-")
    table["\ufe6b"] = "@"  # small commercial at
    table |= dict.fromkeys(_characters(_REMOVED), "")
    return table


_FOLDED = _table()
_WORD = regex.compile(r"\S+")
_SEQUENCE = regex.compile(r"[\u1100-\u11ff]+|\P{M}\p{M}*|\p{M}+")
"""Characters that become one, or others, in NFC: jamo, and a letter with its marks."""
_MARK = re.compile(f"[{_REMOVED}]")


@dataclass(frozen=True)
class Folded:
    """A text in the form in which it is searched."""

    text: str
    """Digits are ASCII, spaces and hyphens are the plain ones, invisible marks are gone."""
    lower: str
    """The same in lower case, character by character."""
    marks: tuple[int, ...] = ()
    """The place in ``text`` before which each removed mark stood, in order."""
    starts: Sequence[int] = ()
    """Where each character, marks included, begins in the original; empty for a text in NFC."""
    ends: Sequence[int] = ()

    def original(self, start: int, end: int) -> tuple[int, int]:
        """The part of the original text that ``text[start:end]`` was made of.

        Marks inside belong to it, marks at its borders do not.
        """
        last = end - 1
        if self.marks:
            start += bisect_right(self.marks, start)
            last += bisect_right(self.marks, last)
        if self.starts:
            return self.starts[start], self.ends[last]
        return start, last + 1


def fold(text: str) -> Folded:
    """Fold a text of any script; what ``unicodedata`` calls a decimal digit is one."""
    if text.isascii():
        return Folded(text, text.lower())
    starts: list[int] = []
    ends: list[int] = []
    if not unicodedata.is_normalized("NFC", text):
        text, starts, ends = _composed(text)
    found = _FOLDED.keys() & set(text)
    marks: tuple[int, ...] = ()
    if not all(map(_FOLDED.__getitem__, found)):
        marks = tuple(match.start() - before for before, match in enumerate(_MARK.finditer(text)))
    for character in found:  # few in any one text: faster than a table over all of it
        text = text.replace(character, _FOLDED[character])
    return Folded(text, _lower(text), marks, starts, ends)


def _composed(text: str) -> tuple[str, list[int], list[int]]:
    """The text in NFC, and where each of its characters begins and ends in the given one."""
    pieces: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    end = 0
    for word in _WORD.finditer(text):
        if unicodedata.is_normalized("NFC", word[0]):
            continue  # most are, and the look is quick
        for match in _SEQUENCE.finditer(text, *word.span()):
            composed = unicodedata.normalize("NFC", match[0])
            if composed == match[0]:
                continue
            start = match.start()
            pieces += [text[end:start], composed]
            starts += [*range(end, start), *[start] * len(composed)]
            ends += [*range(end + 1, start + 1), *[match.end()] * len(composed)]
            end = match.end()
    starts += range(end, len(text))
    ends += range(end + 1, len(text) + 1)
    return "".join([*pieces, text[end:]]), starts, ends


def _lower(text: str) -> str:
    lower = text.lower()
    if len(lower) == len(text):
        return lower
    return "".join(low if len(low := letter.lower()) == 1 else letter for letter in text)
