"""Texts to words by a rule of Unicode properties, for any script.

A word is a run of letters, marks, digits and underscores, composed (NFC) and in lower case.
Chinese, Japanese, Thai, Lao, Khmer and Burmese are written without spaces between words: a run of
such letters becomes the overlapping pairs of its letters (each with its marks), and a run of one
letter that letter.  A text of other signs alone has each of them as a word.
"""

from __future__ import annotations

import unicodedata
from itertools import pairwise

import regex

_UNSPACED = "".join(
    rf"\p{{Script_Extensions={script}}}"
    for script in ("Han", "Hiragana", "Katakana", "Thai", "Lao", "Khmer", "Myanmar")
)
_RUNS = regex.compile(
    rf"(?V1)(?P<unspaced>[[{_UNSPACED}]&&[\p{{L}}\p{{M}}]][[{_UNSPACED}\p{{M}}]&&[\p{{L}}\p{{M}}]]*)"
    rf"|[[\w\p{{M}}\u200c\u200d]--[[{_UNSPACED}]&&\p{{L}}]]+"
)
_LETTER = regex.compile(r"\P{M}?\p{M}*")


def words_of(text: str) -> list[str]:
    """The words of a text, in order; empty only if the text is empty or white space.

    No word holds white space.
    """
    text = unicodedata.normalize("NFC", text).lower()
    words: list[str] = []
    for run in _RUNS.finditer(text):
        if run["unspaced"] is None:
            words.append(run[0])
            continue
        letters = [letter for letter in _LETTER.findall(run[0]) if letter]
        words += [first + second for first, second in pairwise(letters)] or letters
    return words or [sign for sign in text if not sign.isspace()]
