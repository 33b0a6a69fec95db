"""Rows that come in batches, and the best of them within quotas, in memory for these alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.selection.limits import Room
from headrace.selection.ranks import Ranks
from headrace.selection.vectors import Table

BATCH_ROWS = 8192
"""Rows of a batch of a table."""
_HALF = 32
"""Bits of the lower half of a sum."""
_FRACTION = 2.0**39
"""Fixed point of the entries of unit rows: so many sum up exactly in fp64."""
_LEAST_PENDING = 4096
"""Rows that are collected before the worst are dropped, at least."""


@dataclass(frozen=True)
class Batch:
    """Some rows."""

    vectors: NDArray[Any]
    """``[rows, d]`` fp16, fp32 or fp64."""
    ties: NDArray[np.int64]
    """``[rows]``: different on all rows of all ranks, and always the same for a row: it decides
    between equals and whether the row is drawn.  Its place among all ids, or a hash of its id."""
    groups: NDArray[np.int32]
    """``[rows]``: number of the group of each row."""


RowStream = Callable[[], Iterable[Batch]]
"""Starts a pass over the rows of this rank, the same rows each time.

A rank without rows has one empty batch, which says what type and length rows have."""


def stream_of(
    table: Table, ties: NDArray[np.int64], groups: NDArray[np.int32] | None = None
) -> RowStream:
    """The rows of a table as a stream."""

    def batches() -> Iterator[Batch]:
        for start in range(0, max(1, len(table)), BATCH_ROWS):
            some = slice(start, start + BATCH_ROWS)
            vectors = table[some]
            own = np.zeros(len(vectors), np.int32) if groups is None else groups[some]
            yield Batch(vectors, ties[some], own)

    return batches


class FixedSums:
    """``[m, d]`` sums of unit rows, exact in fixed point whatever their number and order."""

    def __init__(self, count: int, dimensions: int) -> None:
        self.dimensions = dimensions
        self._high = np.zeros((count, dimensions), np.int64)
        self._low = np.zeros((count, dimensions), np.int64)

    def add(self, marks: NDArray[np.float64], unit: NDArray[np.float64]) -> None:
        """Add rows to the sums that are marked: ``[m, rows]`` of 0 and 1."""
        for start in range(0, len(unit), BATCH_ROWS):
            some = slice(start, start + BATCH_ROWS)
            sums = (marks[:, some] @ np.rint(unit[some] * _FRACTION)).astype(np.int64)
            self._high += sums >> _HALF
            self._low += sums & ((1 << _HALF) - 1)

    def total(self, ranks: Ranks) -> NDArray[np.float64]:
        """``[m, d]``: the sums over all ranks."""
        high, low = ranks.sum(self._high), ranks.sum(self._low)
        carried = high + (low >> _HALF)
        rest = low & ((1 << _HALF) - 1)
        return np.asarray((carried.astype(np.float64) * 2.0**_HALF + rest) / _FRACTION)


@dataclass(frozen=True)
class Kept:
    """Rows that a :class:`BestRows` holds; all arrays are in one order."""

    keys: NDArray[np.float64]
    ties: NDArray[np.int64]
    groups: NDArray[np.int32]
    positions: NDArray[np.int64]
    """Row numbers of this rank."""
    vectors: NDArray[Any]
    """``[rows, d]``, or ``[rows, 0]`` if they are not needed."""

    def __getitem__(self, some: Any) -> Kept:
        return Kept(
            self.keys[some],
            self.ties[some],
            self.groups[some],
            self.positions[some],
            self.vectors[some],
        )

    @staticmethod
    def joined(parts: Sequence[Kept]) -> Kept:
        """Those of one part after those of the other; there is at least one part."""
        return Kept(
            np.concatenate([part.keys for part in parts]),
            np.concatenate([part.ties for part in parts]),
            np.concatenate([part.groups for part in parts]),
            np.concatenate([part.positions for part in parts]),
            np.concatenate([part.vectors for part in parts]),
        )


class BestRows:
    """The rows with the largest keys among those offered, within a number of rows and quotas.

    Holds at most about two and a half times the rows of the room, whatever is offered.

    Args:
        room: the rows to keep, and the quotas of the groups.
    """

    def __init__(self, room: Room) -> None:
        self._room = room
        self._kept: list[Kept] = []
        self._sorted = 0
        self._pending = 0
        self.floors = np.where(room.maximum > 0, -np.inf, np.inf)
        """``[groups]``: a row with a smaller key is surely not among the best."""

    def offer(self, rows: Kept) -> None:
        """Take rows into account."""
        if not len(rows.keys):
            return
        self._kept.append(rows)
        self._pending += len(rows.keys)
        if self._pending > max(_LEAST_PENDING, self._sorted // 4):
            self._prune()

    def finish(self, ranks: Ranks) -> tuple[Kept | None, float]:
        """The rows of this rank that are among the best of all ranks, and the sum of all keys."""
        self._prune()
        own = self._kept[0] if self._kept else None
        count = 0 if own is None else len(own.keys)
        empty = np.zeros(0, np.int64)
        keys = ranks.gather(empty.astype(float) if own is None else own.keys)
        ties = ranks.gather(empty if own is None else own.ties)
        groups = ranks.gather(empty.astype(np.int32) if own is None else own.groups)
        counts = ranks.gather(np.array([count]))
        must, more = best_within(keys, ties, groups, self._room)
        chosen = np.concatenate([must, more[: (self._room.rows or 0) - len(must)]])
        order = np.lexsort((ties[chosen], -keys[chosen]))
        before = int(counts[: ranks.rank].sum())
        mine = np.sort(chosen[(chosen >= before) & (chosen < before + count)]) - before
        return None if own is None else own[mine], float(np.sum(keys[chosen[order]]))

    def _prune(self) -> None:
        if not self._kept:
            return
        joined, room = Kept.joined(self._kept), self._room
        must, more = best_within(joined.keys, joined.ties, joined.groups, room)
        kept = joined[np.concatenate([must, more])]
        self._kept, self._sorted, self._pending = [kept], len(kept.keys), 0
        self.floors = self._new_floors(kept, joined.keys[more])

    def _new_floors(self, kept: Kept, optional: NDArray[np.float64]) -> NDArray[np.float64]:
        """What a row of each group has to reach to be kept."""
        room = self._room
        groups = len(room.minimum)
        held = np.bincount(kept.groups, minlength=groups)
        floor = optional.min() if len(optional) >= (room.rows or 0) > 0 else -np.inf
        floors = np.full(groups, floor)
        for group in np.flatnonzero((room.minimum > 0) | (held >= room.maximum)):
            keys = np.sort(kept.keys[kept.groups == group])[::-1]
            low, high = int(room.minimum[group]), int(room.maximum[group])
            if low:
                floors[group] = min(floor, keys[low - 1]) if len(keys) >= low else -np.inf
            if len(keys) >= high:
                floors[group] = max(floors[group], keys[high - 1]) if high else np.inf
        return floors


def best_within(
    keys: NDArray[np.float64], ties: NDArray[np.int64], groups: NDArray[np.int32], room: Room
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows that fill the minimums, and the best of the others that the maximums allow.

    Returns:
        Two lists of row numbers; the second by key, at most ``room.rows`` long.
    """
    order = np.lexsort((ties, -keys))
    by_group = order[np.argsort(groups[order], kind="stable")]
    starts = np.searchsorted(groups[by_group], np.arange(len(room.minimum)))
    place = np.empty(len(keys), np.int64)
    place[by_group] = np.arange(len(keys)) - starts[groups[by_group]]
    must = place < room.minimum[groups]
    optional = ~must & (place < room.maximum[groups])
    return np.flatnonzero(must), order[optional[order]][: room.rows or 0]
