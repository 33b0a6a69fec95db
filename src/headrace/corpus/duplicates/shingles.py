"""A text as the set of its shingles: runs of words, or of characters, as 64-bit hashes.

Words are runs of letters, marks, digits and underscores (``\\w`` of the ``regex`` module, which
keeps the vowel signs of Indic scripts in their words), after ``str.casefold``.  Scripts that put no
white space between words have no such runs: a text of which they make up half or more is cut into
runs of characters.  All of it is done on arrays of code points, at the speed of numpy.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np
import regex
from numpy.typing import NDArray

from headrace.corpus.duplicates.settings import NearSettings

UNSPACED = (
    "Han", "Hiragana", "Katakana", "Bopomofo", "Thai", "Lao", "Khmer", "Myanmar", "Tai_Le",
    "New_Tai_Lue", "Tai_Tham", "Tai_Viet", "Javanese", "Balinese", "Yi", "Tibetan",
)  # fmt: skip
"""Scripts, by their Unicode names, that put no white space between words."""

_OTHER, _SPACE, _SPACED, _UNSPACED = range(4)
_GOLDEN = 0x9E3779B97F4A7C15
_BASE = 0xD6E8FEB86659FD93
"""Odd: a power of it never vanishes modulo 2^64."""
Hashes = NDArray[np.uint64]


def shingles(text: str, settings: NearSettings) -> Hashes:
    """Return the distinct shingles of a text, sorted; none if it is only white space.

    A text of fewer words (or characters) than a shingle has is one shingle.  One without any word
    is cut into characters.
    """
    return np.unique(shingle_sequence(text, settings))


def shingle_sequence(text: str, settings: NearSettings) -> Hashes:
    """Like :func:`shingles`, in the order of the text and with repetitions."""
    points = np.frombuffer(text.casefold().encode("utf-32-le", "surrogatepass"), np.uint32)
    kinds = _kinds()[points]
    if unit_of(kinds, settings) == "words":
        units, length = _words(points, kinds), settings.words
    else:
        units, length = _characters(points, kinds), settings.characters
    return _runs(units, length)


def unit_of(kinds: NDArray[np.uint8], settings: NearSettings) -> Literal["words", "characters"]:
    """What a text is cut into, by the kinds of its code points."""
    spaced = np.count_nonzero(kinds == _SPACED)
    unspaced = np.count_nonzero(kinds == _UNSPACED)
    if settings.unit == "characters" or not spaced + unspaced:
        return "characters"
    return "words" if settings.unit == "words" or spaced > unspaced else "characters"


@cache
def _kinds() -> NDArray[np.uint8]:
    """What each of Unicode's code points is."""
    kinds = np.full(0x110000, _OTHER, np.uint8)
    everything = "".join(map(chr, range(0x110000)))
    scripts = "".join(rf"\p{{Script={name}}}" for name in UNSPACED)
    for kind, pattern in (
        (_SPACE, r"\s+"),
        (_SPACED, r"\w+"),
        (_UNSPACED, rf"[[{scripts}]&&\w]+"),
    ):
        for match in regex.finditer(pattern, everything, regex.VERSION1):
            kinds[slice(*match.span())] = kind
    return kinds


def _words(points: NDArray[np.uint32], kinds: NDArray[np.uint8]) -> Hashes:
    """A hash of each word: a polynomial in the hashes of its letters."""
    letter = kinds >= _SPACED
    edges = np.flatnonzero(np.diff(letter, prepend=False, append=False))
    starts, ends = edges[::2], edges[1::2]
    lengths = ends - starts
    places = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    terms = mixed(points[letter]) * _powers(int(lengths.max(initial=0)))[places]
    return mixed(np.add.reduceat(terms, np.cumsum(lengths) - lengths))


def _characters(points: NDArray[np.uint32], kinds: NDArray[np.uint8]) -> Hashes:
    """A hash of each character, white space as one blank and none of it at the ends."""
    space = kinds == _SPACE
    kept = ~space
    kept[1:] |= ~space[:-1]  # the first blank of a run stays
    characters = np.where(space, np.uint32(32), points)[kept]
    if len(characters) and characters[0] == 32:
        characters = characters[1:]
    if len(characters) and characters[-1] == 32:
        characters = characters[:-1]
    return mixed(characters)


def _runs(units: Hashes, length: int) -> Hashes:
    """A hash of each run of so many units; of all of them where there are fewer."""
    if not len(units):
        return units
    length = min(length, len(units))
    count = len(units) - length + 1
    total = np.zeros(count, np.uint64)
    for place, power in enumerate(_powers(length)):
        total += units[place : place + count] * power
    return mixed(total)


def _powers(count: int) -> Hashes:
    powers = np.full(count, _BASE, np.uint64)
    powers[:1] = 1
    return np.multiply.accumulate(powers)


def mixed(values: NDArray[np.uint64] | NDArray[np.uint32]) -> Hashes:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014): a permutation of 64-bit words."""
    x = values.astype(np.uint64) + np.uint64(_GOLDEN)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
