"""Word lists, name patterns and sentence templates of one language, read from ``data/<lang>.json``.

A pattern is text with ``{slots}`` and ``[one|of|these]`` choices.  In a word list items are
separated by spaces and ``_`` stands for a space inside an item.  The keys of the file:

``digits``     the ten digits of the script
``lists``      list name -> items
``names``      name family -> patterns over lists, e.g. ``"{stem}{ending}"``
``templates``  sentences over entity types, lists, ``{year}`` and ``{number}``
``openers``    put before some sentences; ``closers`` after some
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from headrace.corpus.sample_corpus.randomness import pick

_PART = re.compile(r"\{([^{}]+)\}|\[([^\[\]]+)\]")


@dataclass(frozen=True)
class Slot:
    """A place in a pattern that is filled from the list, family or type ``name``."""

    name: str


Part = Slot | tuple[str, ...]
"""A slot, or the wordings to choose from (fixed text is a choice of one)."""
Pattern = tuple[Part, ...]


def parse_pattern(text: str) -> Pattern:
    """Split a pattern into its parts, in order."""
    parts: list[Part] = []
    position = 0
    for match in _PART.finditer(text):
        if match.start() > position:
            parts.append((text[position : match.start()],))
        slot, choices = match.groups()
        parts.append(Slot(slot) if slot is not None else tuple(choices.split("|")))
        position = match.end()
    if position < len(text):
        parts.append((text[position:],))
    return tuple(parts)


@dataclass(frozen=True)
class Grammar:
    """Everything that is needed to make up sentences in ``language``."""

    language: str
    digits: str
    lists: Mapping[str, tuple[str, ...]]
    names: Mapping[str, tuple[Pattern, ...]]
    templates: tuple[Pattern, ...]
    openers: tuple[Pattern, ...]
    closers: tuple[Pattern, ...]

    def tokenize(self, text: str) -> tuple[str, ...]:
        """Split at spaces; Chinese into characters, as MultiCoNER II does."""
        if self.language == "zh":
            return tuple(text.replace(" ", ""))
        return tuple(text.split())

    def compose(self, pattern: Pattern, source: random.Random) -> tuple[str, ...]:
        """Fill a name pattern from the lists and return its tokens."""
        text = "".join(
            self.fill(part.name, source) if isinstance(part, Slot) else pick(source, part)
            for part in pattern
        )
        return self.tokenize(text)

    def fill(self, name: str, source: random.Random) -> str:
        """Return a random item of the list ``name``, or a random year or number."""
        number = _NUMBERS.get(name)
        if number is None:
            return pick(source, self.lists[name])
        return "".join(self.digits[int(digit)] for digit in str(number(source)))


_NUMBERS: Mapping[str, Callable[[random.Random], int]] = {
    "digit": lambda source: 1 + int(source.random() * 9),
    "number": lambda source: 2 + int(source.random() * 90),
    "year": lambda source: 1820 + int(source.random() * 205),
}
NUMBER_SLOTS = tuple(_NUMBERS)
"""Slots that need no list: one digit, 2 to 91, and 1820 to 2024."""


@cache
def load_grammar(language: str) -> Grammar:
    """Read the data file of ``language``, one of ``LANGUAGES``."""
    path = resources.files(__package__).joinpath("data", f"{language}.json")
    data = json.loads(path.read_text(encoding="utf-8"))
    return Grammar(
        language=language,
        digits=data["digits"],
        lists={
            name: tuple(item.replace("_", " ") for item in items.split())
            for name, items in data["lists"].items()
        },
        names={
            family: tuple(parse_pattern(pattern) for pattern in patterns)
            for family, patterns in data["names"].items()
        },
        templates=tuple(parse_pattern(text) for text in data["templates"]),
        openers=tuple(parse_pattern(text) for text in data["openers"]),
        closers=tuple(parse_pattern(text) for text in data["closers"]),
    )
