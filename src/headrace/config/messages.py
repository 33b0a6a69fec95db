"""Wording that config errors share."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, allowed: Iterable[str]) -> str:
    """Return a remedy that names the nearest allowed word, or all of them if none is near."""
    choices = sorted(allowed)
    near = difflib.get_close_matches(word, choices, n=1, cutoff=0.6)
    if near:
        return f"Did you mean {near[0]!r}?"
    if len(choices) <= 20:
        return "Known here: " + ", ".join(choices)
    return "Remove it or correct its name"
