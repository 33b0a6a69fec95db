"""Typing errors for any script: letters lost, doubled, swapped or mistaken for another."""

from __future__ import annotations

import random
import unicodedata

from headrace.corpus.sample_corpus.randomness import pick


def with_typos(text: str, rate: float, source: random.Random) -> str:
    """Return the text with an error at each letter with probability ``rate``.

    A letter goes with the marks that follow it, such as vowel signs.  It is lost, doubled, swapped
    with the next one, or replaced by another letter of the same text, which is of the same script.
    All else stays: spaces, digits, punctuation, and the last letter of a word that would have
    none; so the number of words does not change.
    """
    units = _units(text)
    letters = [unit for unit in units if unit[0].isalpha()]
    result: list[str] = []
    word_has_letter = False
    position = 0
    while position < len(units):
        unit = units[position]
        position += 1
        if unit.isspace():
            word_has_letter = False
        # drawn for every unit, so that the rate alone decides how many errors there are
        if source.random() >= rate or not unit[0].isalpha():
            result.append(unit)
            word_has_letter |= unit[0].isalpha()
            continue
        following = units[position] if position < len(units) else " "
        error = pick(source, ("lose", "double", "swap", "replace"))
        if error == "lose" and (word_has_letter or following[0].isalpha()):
            continue
        if error == "swap" and following[0].isalpha():
            result += [following, unit]
            position += 1
        elif error == "replace":
            result.append(pick(source, letters))
        else:
            result += [unit, unit]
        word_has_letter = True
    return "".join(result)


def _units(text: str) -> list[str]:
    """Characters, each with the marks and joiners behind it."""
    units: list[str] = []
    for character in text:
        joined = unicodedata.category(character).startswith("M") or character in "\u200c\u200d"
        if joined and units and units[-1][0].isalpha():
            units[-1] += character
        else:
            units.append(character)
    return units
