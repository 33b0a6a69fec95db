"""Where words begin in a text of any script, and in the tokens that a tokenizer makes of it.

A word is a run of letters, digits and the marks that belong to them; an apostrophe between two
letters is a part of it.  Every other character that is not a space is a word of its own.  So are
the characters of scripts that put no spaces between words (Han, kana, Thai, Lao, Khmer, Myanmar
and others): where the tokenizer puts several of them into one token, that token is the word, since
without a dictionary nothing else is known about it.

This is about the text, not about how a tokenizer marks words, so that SentencePiece, WordPiece and
byte-level BPE agree.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import cache

import numpy as np
from numpy.typing import NDArray

_SPACE, _ALONE, _JOINED, _MARK, _APOSTROPHE = range(5)
"""What a character is: spaces separate; a mark belongs to what stands before it."""
_SPACELESS = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19DF),  # Tai Le, New Tai Lue
    (0x1A20, 0x1AAF),  # Tai Tham
    (0x1B00, 0x1B7F),  # Balinese
    (0x2E80, 0x2FDF),  # radicals of Han
    (0x3005, 0x3007),  # marks that repeat characters of Han
    (0x3021, 0x3029),  # numerals of Hangzhou
    (0x3040, 0x312F),  # kana, Bopomofo
    (0x31A0, 0x31BF),  # Bopomofo
    (0x31F0, 0x31FF),  # kana
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),  # Han
    (0xA980, 0xA9FF),  # Javanese, Myanmar
    (0xAA60, 0xAADF),  # Myanmar, Tai Viet
    (0xF900, 0xFAFF),  # Han
    (0xFF66, 0xFF9F),  # kana
    (0x1AFF0, 0x1B16F),  # kana
    (0x20000, 0x3FFFF),  # Han
)
"""First and last code point of scripts without spaces between words."""
_APOSTROPHES = "'\u2019"
_JOINERS = "\u200c\u200d"
"""They shape letters of Arabic and Indic scripts within a word."""


@cache
def _kinds() -> NDArray[np.uint8]:
    """What each code point is."""
    kinds = np.full(0x110000, _ALONE, dtype=np.uint8)
    for code in range(0x110000):
        character = chr(code)
        category = unicodedata.category(character)
        if category[0] in "LN":
            kinds[code] = _JOINED
        elif category[0] == "M" or character in _JOINERS:
            kinds[code] = _MARK
        elif category[0] in "ZC" and category != "Co":
            kinds[code] = _SPACE
    for first, last in _SPACELESS:
        part = kinds[first : last + 1]
        part[part == _JOINED] = _ALONE
    for character in _APOSTROPHES:
        kinds[ord(character)] = _APOSTROPHE
    return kinds


def code_points(text: str) -> NDArray[np.uint32]:
    """The characters of a text as numbers, uint32 ``[characters]``."""
    return np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)


def word_starts_of_text(codes: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """Whether a word begins at each character, and False at spaces; ``[characters]``."""
    kinds = _kinds()[codes]
    if not len(kinds):
        return np.zeros(0, dtype=np.bool_)
    # A mark is what it belongs to; the first character may be one.
    places = np.where(kinds == _MARK, 0, np.arange(len(kinds)))
    base = kinds[np.maximum.accumulate(places)]
    before = np.concatenate(([np.uint8(_SPACE)], base[:-1]))
    after = np.concatenate((base[1:], [np.uint8(_SPACE)]))
    joined = base == _JOINED
    inside = (base == _APOSTROPHE) & (before == _JOINED) & (after == _JOINED)
    joined |= inside
    follows = np.concatenate(([False], joined[:-1]))
    attached = (kinds == _MARK) & (before != _SPACE)
    starts: NDArray[np.bool_] = (base != _SPACE) & ~(joined & follows) & ~attached
    return starts


def word_starts_of_tokens(
    codes: NDArray[np.uint32],
    starts: NDArray[np.bool_],
    offsets: Iterable[tuple[int, int]],
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Whether a word begins at each token of a text, and the character where each token begins.

    Both ``[tokens]``.  Tokens of nothing but spaces belong to the word behind them; tokens of one
    character (its bytes) are together.

    Args:
        codes: the text, from :func:`code_points`.
        starts: from :func:`word_starts_of_text`.
        offsets: first character of each token, and the one behind its last.
    """
    bounds = np.fromiter((bound for pair in offsets for bound in pair), dtype=np.int64)
    # Where a tokenizer trims spaces off its tokens, one of a space has no character, and one that
    # stands for a space in front of the text comes behind the first word: (1, 1), (0, 1).
    first, end = np.minimum.accumulate(bounds[0::2][::-1])[::-1], bounds[1::2]
    if not len(first):
        return np.zeros(0, dtype=np.bool_), first
    is_text = np.append(_kinds()[codes] != _SPACE, True)
    # The first character from each one on that is not a space: some tokens include the space.
    places = np.where(is_text, np.arange(len(is_text)), len(is_text))
    seen = np.minimum.accumulate(places[::-1])[::-1][np.minimum(first, len(codes))]
    is_blank = (seen >= end) | (bounds[0::2] >= end)
    begins = np.append(starts, True)[np.minimum(seen, len(codes))] | is_blank
    ends = np.where(is_blank, first, end)
    ends_before = np.maximum.accumulate(np.concatenate(([-1], ends[:-1])))
    begins &= first >= ends_before  # else it has a part of the character before
    behind_blank = np.concatenate(([False], is_blank[:-1]))
    begins &= ~behind_blank
    begins[0] = True
    return begins, first
