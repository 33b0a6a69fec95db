"""Parts of a text from which its language is told: sentences of some length, from all over it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from headrace.corpus.languages.scripts import main_script, same_script, script_counts

_NOISE = re.compile(
    r"https?://\S+|www\.\S+|[^\s@<>]{1,64}@[^\s@<>]{1,255}|<[^<>\n]{1,200}>|`[^`\n]{1,200}`"
    r"|\{\{[^{}\n]{0,100}\}\}"
)
"""Addresses, tags of mark-up, code and place holders: they are in no language."""
_SENTENCE = re.compile(r"[^.!?…。！？؟۔।॥።]+[.!?…。！？؟۔।॥።]*[\"'”’»)\]]*")
_ENOUGH = 40
"""Letters of a part, below which the next sentence joins it."""
_WINDOW = 3
"""Long texts are read in windows of so many times a part."""
_DENSE = frozenset({"Hani", "Hans", "Hant", "Jpan", "Kore"})
_DENSITY = 3
"""A character of these scripts says about as much as three letters."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a text."""

    text: str
    script: str
    letters: int
    """Those of all scripts; of Chinese, Japanese and Korean, each counts as three."""


def parts_of(text: str, count: int, length: int) -> list[Part]:
    """At most ``count`` parts of at most ``length`` characters, evenly from all over a text.

    Parts end with sentences or lines; short ones of the same script are joined.
    """
    if len(text) <= _WINDOW * count * length:
        found = list(_parts(text, length))
        if len(found) <= count:
            return found
        return [found[index * (len(found) - 1) // (count - 1)] for index in range(count)]
    found = []
    for index in range(count):
        start = index * (len(text) - _WINDOW * length) // (count - 1)
        window = text[start : start + _WINDOW * length]
        inside = list(_parts(window, length))
        if inside:
            # Not the first part where there is a choice: it begins in the middle of a sentence.
            found.append(max(inside[1:] or inside, key=lambda part: part.letters))
    return found


def _parts(text: str, length: int) -> Iterator[Part]:
    pending, pending_script, pending_letters = "", "", 0
    for sentence in _sentences(_NOISE.sub(" ", text), length):
        counts = script_counts(sentence)
        script = main_script(sentence, counts)
        if script is None:
            continue
        letters = sum(counts.values()) * (_DENSITY if script in _DENSE else 1)
        if pending and (
            pending_letters >= _ENOUGH
            or not same_script(script, pending_script)
            or len(pending) + len(sentence) >= length
        ):
            yield Part(pending, pending_script, pending_letters)
            pending, pending_letters = "", 0
        pending = f"{pending} {sentence}" if pending else sentence
        pending_script = script
        pending_letters += letters
    if pending:
        yield Part(pending, pending_script, pending_letters)


def _sentences(text: str, length: int) -> Iterator[str]:
    for line in text.splitlines():
        for sentence in _SENTENCE.findall(line):
            stripped = sentence.strip()
            while len(stripped) > length:
                cut = stripped.rfind(" ", length // 2, length) + 1 or length
                yield stripped[:cut].rstrip()
                stripped = stripped[cut:]
            if stripped:
                yield stripped
