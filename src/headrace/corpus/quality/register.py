"""Coarse tags of register and style, from the measures of a text by stated rules.

They say what a text looks like, not what it is: a line of a poem and a line of an address look the
same.  docs/languages.md has the rules and what they make of real text.
"""

from __future__ import annotations

from collections.abc import Mapping

from headrace.corpus.quality.characters import WITHOUT_SPACES

CODE_LINES = 0.25
BULLET_LINES = 0.3
DATA = 0.3
"""Digits and symbols among all characters but white space."""
LINES = 4
LINE_LENGTH = 50
ENDED_LINES = 0.7
"""Prose that is broken into lines ends fewer of them with a sentence."""
SHORT_SENTENCES, LONG_SENTENCES = 60, 130
"""Characters without white space."""
QUESTIONS = 0.2
DENSITY = 2.5
"""A Chinese sentence has so many times fewer characters than its English translation (NTREX)."""
_DENSE = frozenset(script for script, width in WITHOUT_SPACES.items() if width == 2)


def register(measures: Mapping[str, float], script: str | None = None) -> dict[str, str]:
    """Tags of a text.

    Returns:
        ``shape``: ``code`` (also mark-up), ``list``, ``data``, ``lines`` (verse, addresses, tables
        of contents) or ``running``; the first whose rule holds.  ``sentences``: ``short``,
        ``medium`` or ``long``, where the script marks their ends and the shape is ``running``.
        ``questions``: ``many``, or it is left out.
    """
    density = DENSITY if script in _DENSE else 1.0
    shape = _shape(measures, density)
    found = {"shape": shape}
    length = measures.get("mean_sentence_length")
    if shape == "running" and length is not None:
        length *= density
        short, long = length < SHORT_SENTENCES, length > LONG_SENTENCES
        found["sentences"] = "short" if short else "long" if long else "medium"
    if measures["question_share"] >= QUESTIONS:
        found["questions"] = "many"
    return found


def _shape(measures: Mapping[str, float], density: float) -> str:
    if measures["code_lines"] >= CODE_LINES:
        return "code"
    if measures["bullet_lines"] >= BULLET_LINES:
        return "list"
    if measures["digit_share"] + measures["symbol_share"] >= DATA:
        return "data"
    lines = measures["lines"]
    short = measures["characters"] * density < LINE_LENGTH * lines
    if lines >= LINES and short and measures["lines_ending_in_punctuation"] < ENDED_LINES:
        return "lines"
    return "running"
