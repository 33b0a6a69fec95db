"""What a validator says of a match."""

from __future__ import annotations

from typing import NamedTuple


class Verdict(NamedTuple):
    """The match is what it looks like."""

    score: float | None = None
    """How sure that is without context, where it is not what the detector says.

    0: it is known to be nobody's, whatever stands around it."""
    length: int | None = None
    """How much of the match, from its beginning, belongs to it (None: all).  Nothing else is
    looked for in that part."""


SURE = Verdict()
"""It is, all of it, as sure as the detector says."""
NOBODYS = Verdict(0.0)
"""All of it is something that belongs to nobody."""
