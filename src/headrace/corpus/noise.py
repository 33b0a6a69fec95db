"""Noise for robust training and noisy test data: errors of typing, casing and recognition.

Words stay words, so that tags stay with them.  A letter goes with the marks behind it, as one unit:
a grapheme cluster (Unicode Annex 29), with which vowel signs, tones and conjuncts stay whole.

- ``typing``: at each letter with this probability; it is lost, doubled, swapped with the next one,
  or (as often as two of these) mistaken for one beside it on the keyboard, where there is one.
- ``ocr``: at each place where something looks like something else (``data/ocr.json``).
- ``casing``: of each word; in lower case, upper case or with a capital, whichever differs.
- ``text_casing``: of a whole text; all of its words in one of these forms.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from importlib import resources
from typing import Any

import regex

from headrace.config.messages import did_you_mean
from headrace.corpus import keyboards
from headrace.corpus.sample_corpus.randomness import pick
from headrace.errors import Problem

_ATTACHED = regex.compile(r"[\p{M}\u200c\u200d]")
_CLUSTER = regex.compile(r"\X")
_BLANKS = re.compile(r"(\s+)")
_Form = Callable[[str], str]


@dataclass(frozen=True)
class Noise:
    """Probabilities of errors; see the module."""

    typing: float = 0.0
    ocr: float = 0.0
    casing: float = 0.0
    text_casing: float = 0.0

    def settings(self) -> dict[str, float]:
        """What is not 0, by kind."""
        return {kind: rate for kind, rate in asdict(self).items() if rate}

    def of_sample(self, source: random.Random, language: str | None = None) -> Errors:
        """Return what puts errors into all parts of one sample, with one ``text_casing``.

        Args:
            source: what is drawn from; draws do not depend on the Python version.
            language: BCP-47, chooses the keyboard and the rules of capitals.
        """
        form: _Form | None = None
        if self.text_casing and source.random() < self.text_casing:
            form = pick(source, _forms(language))
        near = keyboards.neighbours(keyboards.layout_of(language))
        return Errors(self, source, near, _forms(language), form)


@dataclass(frozen=True)
class Errors:
    """Puts errors into the parts of one sample, in their order."""

    noise: Noise
    source: random.Random
    near: Mapping[str, str]
    """Letter -> those beside it on the keyboard."""
    forms: Sequence[_Form]
    form: _Form | None
    """That of all words; None: each word has its own."""

    def words(self, words: Sequence[str]) -> list[str]:
        """Return as many words, with errors: none loses its last letter, or gets a blank."""
        return [self._word(word) for word in words]

    def text(self, text: str) -> str:
        """Return a text with errors in its words; what is between them stays."""
        parts = _BLANKS.split(text)
        parts[::2] = self.words(parts[::2])
        return "".join(parts)

    def _word(self, word: str) -> str:
        noise, source = self.noise, self.source
        if noise.typing:
            word = _rejoined(word, _mistyped(units_of(word), noise.typing, self.near, source))
        if noise.ocr:
            word = _rejoined(word, _misread(units_of(word), noise.ocr, source))
        # drawn for every word, so that the rate alone decides how many are changed
        if noise.casing and source.random() < noise.casing:
            changed = [one for form in self.forms if (one := form(word)) != word]
            word = pick(source, changed or [word])
        return word if self.form is None else self.form(word)


KINDS = tuple(field.name for field in fields(Noise))


def parse_noise(text: str, problems: list[Problem]) -> Noise:
    """Return ``typing:0.05,ocr:0.02`` as noise; what is wrong with it goes to ``problems``."""
    noise = Noise()
    given: set[str] = set()
    for part in text.split(","):
        kind, _, number = part.strip().partition(":")
        rate = _probability(number)
        if kind not in KINDS:
            remedy = did_you_mean(kind, KINDS)
            problems.append(Problem("no such kind of noise", "noise", part.strip(), remedy))
        elif kind in given:
            problems.append(Problem("given twice", "noise", kind, "Keep one of them"))
        elif rate is None:
            remedy = f"Write {kind}:RATE with a rate from 0 to 1"
            problems.append(Problem("not a probability", "noise", part.strip(), remedy))
        else:
            noise = replace(noise, **{kind: rate})
        given.add(kind)
    return noise


def units_of(text: str) -> list[str]:
    """Return the grapheme clusters of a text, each with all marks and joiners behind it."""
    units: list[str] = []
    for cluster in _CLUSTER.findall(text):
        # Some vowel signs are clusters of their own by the standard, and would be letters on loan.
        if units and _ATTACHED.match(cluster) and units[-1][0].isalpha():
            units[-1] += cluster
        else:
            units.append(cluster)
    return units


def _probability(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value <= 1 else None


def _rejoined(word: str, units: list[str]) -> str:
    """The word of these units; the old one where they would run into each other."""
    changed = "".join(units)
    return changed if units_of(changed) == units else word


def _mistyped(
    units: Sequence[str], rate: float, near: Mapping[str, str], source: random.Random
) -> list[str]:
    result: list[str] = []
    letters = sum(unit[0].isalpha() for unit in units)
    position = 0
    while position < len(units):
        unit = units[position]
        position += 1
        # drawn for every unit, so that the rate alone decides how many errors there are
        if source.random() >= rate or not unit[0].isalpha():
            result.append(unit)
            continue
        following = units[position] if position < len(units) else " "
        others = _beside(unit[0], near)
        errors = ["double"] + ["beside", "beside"] * bool(others)
        errors += ["swap"] * following[0].isalpha() + ["lose"] * (letters > 1)
        error = pick(source, errors)
        if error == "lose":
            letters -= 1
        elif error == "swap":
            result += [following, unit]
            position += 1
        elif error == "beside":
            result.append(pick(source, others) + unit[1:])
        else:
            result += [unit, unit]
    return result


def _beside(letter: str, near: Mapping[str, str]) -> str:
    """The letters around one on the keyboard, in its case."""
    if letter in near:
        return near[letter]
    others = (other.upper() for other in near.get(letter.lower(), ""))
    return "".join(other for other in others if len(other) == 1)


def _misread(units: Sequence[str], rate: float, source: random.Random) -> list[str]:
    alike = _alike()
    result: list[str] = []
    position = 0
    while position < len(units):
        unit = units[position]
        options = [(1, other + unit[1:]) for other in alike.get(unit[0], ()) if len(other) == 1]
        if len(unit) == 1:
            options += [(1, other) for other in alike.get(unit, ()) if len(other) > 1]
            pair = "".join(units[position : position + 2])
            if len(pair) == 2:
                options += [(2, other) for other in alike.get(pair, ())]
        if options and source.random() < rate:
            size, other = pick(source, options)
            result += units_of(other)
            position += size
        else:
            result.append(unit)
            position += 1
    return result


@cache
def _alike() -> Mapping[str, tuple[str, ...]]:
    """Letter, or two letters, -> what looks like it."""
    file = resources.files(__package__) / "data" / "ocr.json"
    groups: Any = json.loads(file.read_text(encoding="utf-8"))["groups"]
    alike: dict[str, tuple[str, ...]] = {}
    for group in map(str.split, groups):
        for one in group:
            alike[one] = (*alike.get(one, ()), *(other for other in group if other != one))
    return alike


@cache
def _forms(language: str | None) -> tuple[_Form, ...]:
    """Lower case, upper case and a capital, by the rules of a language."""
    dotted = (language or "").split("-")[0] in ("tr", "az")

    def lower(word: str) -> str:
        return word.replace("I", "ı").replace("İ", "i").lower() if dotted else word.lower()

    def upper(word: str) -> str:
        return word.replace("i", "İ").upper() if dotted else word.upper()

    def title(word: str) -> str:
        first, *rest = units_of(word) or [""]
        capital = upper(first) if dotted else first.title()
        return capital + lower("".join(rest))

    return lower, upper, title
