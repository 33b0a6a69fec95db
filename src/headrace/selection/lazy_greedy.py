"""The greedy for facility location, which computes few of the gains (Minoux).

A gain never grows while rows are added, so one that was computed earlier is an upper bound.  The
row with the largest bound is computed again; if it stays ahead of all other bounds it is the best.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.selection.facility_location import FacilityLocation
from headrace.selection.limits import Room


@dataclass(frozen=True)
class Ground:
    """The rows to pick from: all arrays are ``[rows]``, over the rows of all ranks."""

    ties: NDArray[np.int64]
    groups: NDArray[np.int32]
    costs: NDArray[np.int64] | None
    closed: NDArray[np.bool_]
    """Rows that must not be picked, as they are in already or belong to another part."""


def lazy_greedy(
    state: FacilityLocation,
    ground: Ground,
    room: Room,
    *,
    per_cost: bool = False,
    after_step: Callable[[], object] = lambda: None,
) -> list[int]:
    """Pick rows, each the one with the largest gain; of equals the first by ties.

    They are the rows of the plain greedy, in its order.  Under quotas only groups that still may
    get a row are looked at: those below their maximum, and, when the rows that are left are all
    needed for minimums, only those below their minimum.  Under a budget only rows that still can
    be paid for, and it ends where no row has a gain.

    Args:
        state: the objective at the rows that are in already; the picks are added.
        ground: what to pick from.
        room: how much to pick.
        per_cost: whether the largest gain for each unit of cost is picked.
        after_step: is called after each pick.
    """
    return _LazyGreedy(state, ground, room, per_cost).run(after_step)


class _LazyGreedy:
    def __init__(self, state: FacilityLocation, ground: Ground, room: Room, per_cost: bool) -> None:
        self.state, self.ground, self.budget = state, ground, room.budget
        self.per = ground.costs if per_cost else None
        candidates = np.flatnonzero(~ground.closed)
        self.left = len(candidates) if room.rows is None else room.rows
        self.minimum, self.maximum = room.minimum.copy(), room.maximum.copy()
        gains = state.gains(candidates)
        keys = -(gains if self.per is None else gains / self.per[candidates])
        order = np.lexsort((ground.ties[candidates], keys))
        self.rows, self.keys = candidates[order], keys[order]
        self.place = 0
        """Rows before it have been computed again since the start; their bounds are in a heap."""
        self.heap: list[tuple[float, int, int]] = []

    def run(self, after_step: Callable[[], object]) -> list[int]:
        picked: list[int] = []
        while self.left:
            entry = self._best()
            if entry is None:
                break
            row = entry[2]
            if not self._may_come(row):
                continue  # what is not permitted now never is again
            gain = self.state.gain(row)
            if self.budget is not None and gain == 0:
                continue
            entry = (-self._key(gain, row), entry[1], row)
            if entry > self._next():
                heapq.heappush(self.heap, entry)
                continue
            self.state.add(row)
            self._count(row)
            picked.append(row)
            after_step()
        return picked

    def _key(self, gain: int, row: int) -> float:
        # quotients of integers below 2**53 are rounded to the nearest: equal ones stay equal
        return gain if self.per is None else gain / int(self.per[row])

    def _next(self) -> tuple[float, int, int]:
        """The best bound of all rows."""
        first = self.heap[0] if self.heap else (np.inf, 0, -1)
        if self.place == len(self.rows):
            return first
        row = int(self.rows[self.place])
        return min(first, (self.keys[self.place].item(), int(self.ground.ties[row]), row))

    def _best(self) -> tuple[float, int, int] | None:
        """Take the row with the best bound out."""
        best = self._next()
        if best[2] < 0:
            return None
        if self.heap and self.heap[0] == best:
            heapq.heappop(self.heap)
        else:
            self.place += 1
        return best

    def _may_come(self, row: int) -> bool:
        if self.budget is not None:
            assert self.ground.costs is not None
            quota = int(self.maximum[self.ground.groups[row]])
            return int(self.ground.costs[row]) <= min(self.budget, quota)
        group = self.ground.groups[row]
        if self.left > self.minimum.sum():
            return bool(self.maximum[group] > 0)
        return bool(self.minimum[group] > 0)

    def _count(self, row: int) -> None:
        self.left -= 1
        if self.budget is not None:
            assert self.ground.costs is not None
            self.budget -= int(self.ground.costs[row])
            self.maximum[self.ground.groups[row]] -= self.ground.costs[row]
            return
        group = self.ground.groups[row]
        self.minimum[group] = max(0, self.minimum[group] - 1)
        self.maximum[group] -= 1
