"""What a rule for splitting a source says, and the plainest one: shares."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from headrace.corpus.sample_corpus.randomness import fraction
from headrace.corpus.split_rows import Rows
from headrace.errors import Problem

if TYPE_CHECKING:
    from headrace.report.split_plots import ClusterMap

_NAMES = {2: ("train", "test"), 3: ("train", "validation", "test")}


@dataclass(frozen=True)
class Division:
    """What a rule makes of the samples of a source."""

    parts: NDArray[np.int32]
    """``[rows]``: the number of the part of each row."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What there is to say about it, as JSON; goes into every manifest."""
    tables: Mapping[str, Any] = field(default_factory=dict)
    """What is too long for a manifest, as JSON."""
    picture: ClusterMap | None = None
    """What the page shows; None if there is no page."""


class Rule(Protocol):
    """A way to split a source into parts."""

    @property
    def parts(self) -> int:
        """How many there are."""

    @property
    def names(self) -> tuple[str, ...] | None:
        """What they are called if nobody says otherwise; None if that has to be said."""

    @property
    def if_empty(self) -> str:
        """What to do about a part that no sample falls into."""

    def problems(self, samples: int | None) -> list[Problem]:
        """All that is wrong with the settings, for so many samples if their number is known."""

    def settings(self) -> dict[str, Any]:
        """All that decides what goes where, as JSON; only after no problem was found."""

    def divide(self, rows: Rows) -> Division:
        """The part of each row; rows with the same text go to the same one.

        Raises:
            UserError: naming samples that the rule cannot be applied to.
        """


@dataclass(frozen=True)
class ByShare:
    """Parts of given shares of the samples.

    Without ``stratify`` the place of a sample depends on its text and the seed alone: it stays
    where it is when the source grows, and a text that two sources have goes to the same part of
    both.  The sizes are then those of independent draws, and differ from the shares by the root of
    ``n p (1 - p)`` or so.

    With ``stratify`` the parts of each value of a field have the exact sizes, up to one sample
    (and to texts that have to stay together).  Samples near a border may then move when the source
    grows.
    """

    shares: tuple[Fraction, ...]
    stratify: str | None = None
    """A field of ``json``."""

    if_empty = "Give it a larger share, or split more samples"

    @property
    def parts(self) -> int:
        """How many there are."""
        return len(self.shares)

    @property
    def names(self) -> tuple[str, ...] | None:
        """``train``, ``validation`` and ``test`` for three, the first and the last for two."""
        return _NAMES.get(len(self.shares))

    def problems(self, samples: int | None) -> list[Problem]:
        """Shares that are not above 0, or do not sum to 1."""
        text = ",".join(map(_decimal, self.shares))
        if any(share <= 0 for share in self.shares):
            return [Problem("a share is not above 0", "by", text, "Leave such parts out")]
        total = sum(self.shares)
        if total != 1:
            what = f"the shares sum to {_decimal(Fraction(total))}, not to 1"
            return [Problem(what, "by", text, "Write them as 0.8,0.1,0.1 or 1/3,2/3")]
        return []

    def settings(self) -> dict[str, Any]:
        """The shares, and the field."""
        shares = [_decimal(share) for share in self.shares]
        return {"by": "share", "shares": shares, "stratify": self.stratify}

    def divide(self, rows: Rows) -> Division:
        """See the class."""
        bounds = list(itertools.accumulate(self.shares))[:-1]
        if self.stratify is None:
            inner = np.array([int(bound * 2**64) for bound in bounds], np.uint64)
            parts = np.searchsorted(inner, rows.positions, side="right")
            return Division(parts.astype(np.int32))
        numbers, values = rows.values(self.stratify, "stratify")
        places = _places_by_value(rows, numbers, values)
        parts = np.searchsorted(np.array(bounds, np.float64), places, side="right")
        counts = np.zeros((len(values), self.parts), np.int64)
        np.add.at(counts, (numbers, parts), 1)
        by_value = dict(zip(values, counts.tolist(), strict=True))
        return Division(parts.astype(np.int32), tables={"values": by_value})


def _places_by_value(
    rows: Rows, numbers: NDArray[np.int64], values: tuple[str, ...]
) -> NDArray[np.float64]:
    """``[rows]``: places from 0 to 1, evenly spread over the rows of each value.

    Rows with the same text have the value of the first one and stand at one place.  All places of
    a value are shifted by the same part of a step (systematic sampling), so that small values do
    not all round to the same side.
    """
    places = np.empty(len(rows))
    heads, sizes = np.unique(rows.first, return_counts=True)
    order = np.argsort(rows.positions[heads], kind="stable")
    heads, sizes = heads[order], sizes[order]
    value_of_head = numbers[heads]
    for number, value in enumerate(values):
        mine = value_of_head == number
        before = np.cumsum(sizes[mine]) - sizes[mine]
        shift = fraction("strata", rows.seed, value)
        places[heads[mine]] = (before + shift * sizes[mine]) / max(1, int(sizes[mine].sum()))
    return places[rows.first]


def _decimal(share: Fraction) -> str:
    """``0.8`` for 4/5, ``1/3`` for what no decimal number of nine digits is."""
    text = f"{float(share):.9g}"
    return text if Fraction(text) == share else str(share)
