"""The commonest function words of languages."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import hjson


@cache
def stop_words() -> dict[str, frozenset[str]]:
    """By language, as its primary tag; lower case, NFC."""
    text = files(__package__).joinpath("stop_words.hjson").read_text(encoding="utf-8")
    return {language: frozenset(words.split()) for language, words in hjson.loads(text).items()}
