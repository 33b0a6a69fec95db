"""Statements about licences, as words that can be compared."""

from __future__ import annotations

import re
import unicodedata

_VERSION = re.compile(r"(?<![^\W_])v(?:er(?:sion)?)?[. ]*(?=\d)")
_WORD = re.compile(r"\d+(?:\.\d+)+|[^\W_]+")


def words(text: str) -> list[str]:
    """Lower case, without accents, punctuation and the word "version"; ``4.0`` is one word."""
    folded = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(letter for letter in folded if not unicodedata.combining(letter))
    return _WORD.findall(_VERSION.sub(" ", unicodedata.normalize("NFKC", plain)))
