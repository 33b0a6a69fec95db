"""Words near a match: what makes a number a telephone number rather than any number."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import regex

from headrace.corpus.privacy.pack import Context

_UNPARTED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
"""Scripts that do not part words, and Hangul, where particles are joined to them."""
_MARKER = regex.compile(r"<[a-z][a-z_]*(?::[a-p]{12})?>")


def without_markers(lower: str) -> str:
    """The text with blanks in the place of what was masked: ``<PHONE>`` is no context."""
    if "<" not in lower:
        return lower
    return _MARKER.sub(lambda match: " " * len(match[0]), lower)  # type: ignore[no-any-return]


class Surroundings:
    """The context of one detector, ready to be looked for.

    Args:
        context: what the detector asks for.
        topics: lists of words by topic, of the universal pack and the language's.
    """

    def __init__(self, context: Context, topics: Mapping[str, Sequence[str]]) -> None:
        words = list(context.words)
        for topic in context.topics:
            words += topics.get(topic, ())
        self._pattern = _compiled(tuple(sorted(set(words)))) if words else None
        self._before = context.before
        self._after = context.after

    def surround(self, lower: str, start: int, end: int) -> bool:
        """Whether one of the words is near ``lower[start:end]``."""
        if self._pattern is None:
            return False
        if self._pattern.search(lower, max(0, start - self._before), start):
            return True
        return bool(self._after and self._pattern.search(lower, end, end + self._after))


@cache
def _compiled(words: Iterable[str]) -> Any:
    return regex.compile("|".join(map(_expression, words)))


def _expression(word: str) -> str:
    text = unicodedata.normalize("NFC", word.lower())
    stem = text.removesuffix("*")
    free = regex.search(_UNPARTED, stem)
    before = "" if free or not regex.match(r"\w", stem) else r"(?<!\w)"
    ends = not free and text == stem and regex.search(r"\w$", stem)
    escaped: str = regex.escape(stem, literal_spaces=True)
    return before + escaped + (r"(?!\w)" if ends else "")
