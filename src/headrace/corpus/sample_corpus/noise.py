"""Typing and recognition errors, as in the noisy part of the MultiCoNER II test sets.

An error changes the letters of one word: a neighbouring key of the language's keyboard, a letter
that looks alike, two letters swapped, one lost or doubled, or a wrong capital.  Digits, punctuation
and vowel signs are left alone, and no token appears or disappears.  Chinese words are single
characters here, which only have look-alikes and sound-alikes.
"""

from __future__ import annotations

import json
import random
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import pairwise

from headrace.corpus.keyboards import neighbours_of, rows_of
from headrace.corpus.sample_corpus.randomness import pick

WORD_RATE = 0.2
"""Share of the words of a noisy sentence that carry an error."""


@dataclass(frozen=True)
class _ErrorModel:
    """What goes wrong in one language: letter -> letters that take its place."""

    neighbours: Mapping[str, str]
    lookalikes: Mapping[str, str]
    edits: tuple[Callable[[_ErrorModel, str, random.Random], str], ...]


def corrupt(
    tokens: Sequence[str], language: str, source: random.Random, *, rate: float = WORD_RATE
) -> tuple[str, ...]:
    """Return ``tokens`` with errors in about ``rate`` of them, in one at least where possible."""
    model = _load_error_model(language)
    result = list(tokens)
    chosen = [number for number in range(len(result)) if source.random() < rate]
    if not chosen and result:
        chosen = [int(source.random() * len(result))]
    for number in chosen:
        result[number] = pick(source, model.edits)(model, result[number], source)
    return tuple(result)


def is_letter(character: str) -> bool:
    """Whether Unicode files ``character`` under letters (vowel signs are marks, not letters)."""
    return unicodedata.category(character).startswith("L")


def _free_letters(word: str) -> list[int]:
    """Positions of letters that carry no mark, which may move without breaking a syllable."""
    return [
        position
        for position, character in enumerate(word)
        if is_letter(character)
        and not unicodedata.category(word[position + 1 : position + 2] or "x").startswith("M")
    ]


def _replace(table: Mapping[str, str], word: str, source: random.Random) -> str:
    positions = [position for position, character in enumerate(word) if character in table]
    if not positions:
        return word
    position = pick(source, positions)
    return word[:position] + pick(source, table[word[position]]) + word[position + 1 :]


def _neighbouring_key(model: _ErrorModel, word: str, source: random.Random) -> str:
    return _replace(model.neighbours, word, source)


def _look_alike(model: _ErrorModel, word: str, source: random.Random) -> str:
    return _replace(model.lookalikes, word, source)


def _swap(model: _ErrorModel, word: str, source: random.Random) -> str:
    free = _free_letters(word)
    pairs = [first for first, second in pairwise(free) if second == first + 1]
    if not pairs:
        return word
    position = pick(source, pairs)
    swapped = word[position + 1] + word[position]
    return word[:position] + swapped + word[position + 2 :]


def _lose(model: _ErrorModel, word: str, source: random.Random) -> str:
    free = _free_letters(word)
    # A lost first letter may leave a mark without its letter, and short words become unreadable.
    positions = [position for position in free if position > 0]
    if len(free) < 4:
        return word
    position = pick(source, positions)
    return word[:position] + word[position + 1 :]


def _double(model: _ErrorModel, word: str, source: random.Random) -> str:
    free = _free_letters(word)
    if not free:
        return word
    position = pick(source, free)
    return word[: position + 1] + word[position:]


def _wrong_capitals(model: _ErrorModel, word: str, source: random.Random) -> str:
    if source.random() < 0.5:
        return word.upper()
    return word[:1].upper() + word[1:]


@cache
def _load_error_model(language: str) -> _ErrorModel:
    path = resources.files(__package__).joinpath("data", "noise.json")
    data = json.loads(path.read_text(encoding="utf-8"))
    settings = data["languages"][language]
    lookalikes: dict[str, str] = {}
    for group in data["lookalikes"][settings["lookalikes"]].split():
        for letter in group:
            lookalikes[letter] = lookalikes.get(letter, "") + group.replace(letter, "")
    edits: tuple[Callable[[_ErrorModel, str, random.Random], str], ...] = (_look_alike,)
    neighbours: dict[str, str] = {}
    if settings["layout"] is not None:
        neighbours = neighbours_of(rows_of(settings["layout"]))
        edits = (_neighbouring_key, _neighbouring_key, _look_alike, _swap, _lose, _double)
    if settings["cased"]:
        edits = (*edits, _wrong_capitals)
    return _ErrorModel(neighbours, lookalikes, edits)
