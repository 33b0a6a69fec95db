"""Facility location on a neighbour graph: how well the chosen rows stand for all rows.

``f(S) = sum over all rows i of max(0, max over j in S of w_ij)``, where ``w_ij`` is the cosine of
rows one of which is a neighbour of the other, 1 of a row with itself, and 0 of all others.  All
numbers are integers, of 2**-30 each: values and gains are exact.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headrace.selection.edges import ONE, Edges
from headrace.selection.limits import Room

_ROWS = 1 << 14
"""Rows whose gains are computed at once."""


class FacilityLocation:
    """f at a set that grows row by row."""

    def __init__(self, edges: Edges, covered: NDArray[np.int32] | None = None) -> None:
        self.edges = edges
        self.covered = np.zeros(len(edges), np.int32) if covered is None else covered
        """``[rows]``: the largest weight of an edge from each row to a chosen one."""

    def copy(self) -> FacilityLocation:
        """The same set, to which other rows can be added."""
        return FacilityLocation(self.edges, self.covered.copy())

    @property
    def value(self) -> int:
        """f of the rows that were added."""
        return int(self.covered.sum(dtype=np.int64))

    def gain(self, row: int) -> int:
        """By how much a row raises f."""
        columns, weights = self.edges.of(row)
        more = weights - self.covered[columns]
        return int(np.maximum(more, 0, out=more).sum(dtype=np.int64))

    def gains(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """``[len(rows)]``: by how much each of some rows raises f."""
        out = np.empty(len(rows), np.int64)
        for start in range(0, len(rows), _ROWS):
            part = slice(start, start + _ROWS)
            places, lengths = self.edges.places(rows[part])
            more = self.edges.weights[places] - self.covered[self.edges.columns[places]]
            np.maximum(more, 0, out=more)
            # no row is without edges: each has one to itself
            out[part] = np.add.reduceat(more, np.cumsum(lengths) - lengths, dtype=np.int64)
        return out

    def add(self, row: int) -> None:
        """Choose a row."""
        columns, weights = self.edges.of(row)
        self.covered[columns] = np.maximum(self.covered[columns], weights)

    def bound(
        self,
        room: Room,
        taken: NDArray[np.bool_],
        groups: NDArray[np.int32],
        costs: NDArray[np.int64] | None,
    ) -> float:
        """No permitted set has a larger f than this, in units of 1.

        f is monotone and submodular, so ``f(T) <= f(S) + sum over x in T of the gain of x at S``
        for any sets: the bound takes the permitted set with the largest sum of gains, of fractions
        of rows under a budget.  Each row counts 1 at most, so f is never above their number.

        Args:
            room: what may be chosen beside the rows that must be in.
            taken: ``[rows]`` whether a row must be in: it takes none of the room.
            groups: ``[rows]`` number of the group of each row.
            costs: ``[rows]`` what each row takes of the budget.
        """
        gains = np.where(taken, 0, self.gains(np.arange(len(taken))))
        if room.budget is not None and costs is not None:
            best = _knapsack(gains, np.where(taken, 1, costs), room.budget)
        else:
            best = _quota_sum(gains[~taken], groups[~taken], room)
        return min((self.value + best) / ONE, float(len(self.edges)))


def _quota_sum(gains: NDArray[np.int64], groups: NDArray[np.int32], room: Room) -> float:
    """The largest sum of gains of rows that the room permits."""
    total = 0
    optional = []
    for group, (low, high) in enumerate(zip(room.minimum, room.maximum, strict=True)):
        best = -np.sort(-gains[groups == group])
        total += int(best[:low].sum())
        optional.append(best[low:high])
    left = (room.rows or 0) - int(room.minimum.sum())
    return float(total + int((-np.sort(-np.concatenate(optional)))[:left].sum()))


def _knapsack(gains: NDArray[np.int64], costs: NDArray[np.int64], budget: int) -> float:
    """The largest sum of gains of fractions of rows within a budget."""
    order = np.argsort(-(gains / costs), kind="stable")
    spent = np.cumsum(costs[order])
    whole = int(np.searchsorted(spent, budget, side="right"))
    total = float(gains[order[:whole]].sum())
    if whole < len(order):
        left = budget - (int(spent[whole - 1]) if whole else 0)
        total += left * gains[order[whole]] / costs[order[whole]]
    return total
