"""Classes of characters, looked up once for each."""

from __future__ import annotations

import unicodedata
from collections import Counter
from functools import lru_cache
from typing import Literal

Kind = Literal["upper", "lower", "letter", "digit", "punctuation", "symbol", "space", "damage"]

TERMINAL = frozenset(".!?…。！？؟۔।॥።｡")
"""What ends sentences, in the scripts that have such marks."""
CLOSING = "\"'”’»›)]）」』】"
"""May stand after the end of a sentence."""
WITHOUT_SPACES = {
    "Hans": 2, "Hant": 2, "Hani": 2, "Jpan": 2, "Bopo": 2, "Yiii": 2,
    "Thai": 4, "Laoo": 4, "Khmr": 4, "Mymr": 4, "Tibt": 4, "Lana": 4, "Java": 4, "Bali": 4,
}  # fmt: skip
"""Scripts that put no white space between words, with about how many characters a word has."""

WITHOUT_SENTENCES = frozenset({"Thai", "Laoo"})
"""Scripts that do not mark the ends of sentences."""


@lru_cache(maxsize=1 << 16)
def kind_of(character: str) -> Kind:
    """The class of a character; ``damage`` are U+FFFD, private and unassigned ones."""
    category = unicodedata.category(character)
    if category == "Lu" or category == "Lt":
        return "upper"
    if category == "Ll":
        return "lower"
    if category[0] in "LM" or category == "Cf":
        return "letter"
    if category[0] == "N":
        return "digit"
    if character.isspace() or category == "Cc":
        return "space"
    if character == "\ufffd" or category[0] == "C":
        return "damage"
    return "punctuation" if category[0] == "P" else "symbol"


def kinds(text: str) -> Counter[Kind]:
    """Characters of a text by class."""
    counts: Counter[Kind] = Counter()
    for character, count in Counter(text).items():
        counts[kind_of(character)] += count
    return counts
