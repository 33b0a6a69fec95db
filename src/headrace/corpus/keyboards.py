"""Keyboard layouts: which letters lie beside which.

``data/keyboards.json`` has the rows of letters of each layout, one key a character, a space where a
key has no letter of its own; a row begins half a key to the right of the one above it.  Letters
behind Shift are left out.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

LATIN = "qwerty"
"""The layout of Latin letters in texts of languages that have another layout, or none here."""
_AROUND = ((0, -1), (0, 1), (-1, 0), (-1, 1), (1, 0), (1, -1))


def layouts() -> tuple[str, ...]:
    """Names of all layouts."""
    return tuple(_data()["layouts"])


def rows_of(layout: str) -> Sequence[str]:
    """The rows of letters of a layout, top to bottom."""
    rows: Sequence[str] = _data()["layouts"][layout]
    return rows


def layout_of(language: str | None) -> str | None:
    """The usual layout of a language (BCP-47); None where there is none here."""
    if language is None:
        return None
    layout: str | None = _data()["languages"].get(language.replace("_", "-").split("-")[0].lower())
    return layout


def neighbours_of(rows: Sequence[str]) -> dict[str, str]:
    """Letter -> the letters on the up to six keys around it, for letters that have some."""
    keys = {(row, column): key for row, line in enumerate(rows) for column, key in enumerate(line)}
    neighbours: dict[str, str] = {}
    for (row, column), key in keys.items():
        near = [keys.get((row + down, column + right), " ") for down, right in _AROUND]
        letters = "".join(other for other in near if _is_letter(other))
        if _is_letter(key) and letters:
            neighbours[key] = letters
    return neighbours


@cache
def neighbours(layout: str | None) -> Mapping[str, str]:
    """Letter -> its neighbours on a layout; Latin letters that it lacks are those of QWERTY."""
    own = {} if layout is None else neighbours_of(rows_of(layout))
    return {**neighbours_of(rows_of(LATIN)), **own}


def _is_letter(character: str) -> bool:
    return unicodedata.category(character).startswith("L")


@cache
def _data() -> Any:
    file = resources.files(__package__) / "data" / "keyboards.json"
    return json.loads(file.read_text(encoding="utf-8"))
