"""The best permitted rows by any key: the one step of the solvers that knows about limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from headrace.selection.limits import Room, sum_by_group
from headrace.selection.rows import Rows
from headrace.selection.top import top


@dataclass(frozen=True)
class Best:
    """Permitted rows whose keys have the largest sum."""

    rows: NDArray[np.int64]
    """Rows of this rank, ascending, with those that must be in."""
    rest: float = 0.0
    """What a fraction of the next row would add under a budget."""


@dataclass(frozen=True)
class Permitted:
    """The sets of rows that may be chosen: a room beside the rows that must be in."""

    rows: Rows
    room: Room
    required: NDArray[np.int64]
    """Rows of this rank that must be in."""
    costs: NDArray[np.int64] | None = None
    """``[rows]``: what each row takes of the budget."""

    def keys(self, scores: NDArray[np.float32], bonus: float) -> NDArray[np.float32]:
        """``[rows]``: by what to order rows for the largest sum of scores plus a bonus each.

        Under a budget that is their sum for each token (fractions of one row allowed).
        """
        if self.costs is None or self.room.budget is None:
            return scores
        return ((scores + bonus) / self.costs).astype(np.float32)

    def best_for(self, query: NDArray[np.float64], bonus: float) -> Best:
        """The permitted rows with the largest sum of ``x . query + bonus``."""
        rows, costs = self.rows, self.costs
        keys = self.keys(rows.scores(query), bonus)
        error = rows.error(query)
        if costs is None or self.room.budget is None:
            return self.best(keys, error, lambda some: rows.exact_scores(some, query))
        error += 2.0**-22 * (abs(bonus) + float(np.linalg.norm(query)))  # of sum and quotient
        return self.best(
            keys,
            error / self._cheapest,
            lambda some: (rows.exact_scores(some, query) + bonus) / costs[some],
        )

    def best(
        self,
        keys: NDArray[np.float32],
        error: float,
        exact_keys: Callable[[NDArray[np.int64]], NDArray[np.float64]],
    ) -> Best:
        """The permitted rows with the largest keys; under a budget only such with a key above 0.

        The arguments are those of :func:`headrace.selection.top.top`.
        """
        keys = keys.copy()
        keys[self.required] = -np.inf
        if self.room.budget is not None:
            return self._within_budget(keys, error, exact_keys)
        chosen = [self.required]
        optional = []
        for members, low, high in zip(
            self._members, self.room.minimum, self.room.maximum, strict=True
        ):
            if low > 0:
                head = top(self.rows, keys, error, exact_keys, int(low), members=members).rows
                chosen.append(head)
                keys[head] = -np.inf
            if high > low and members is not None:
                more = int(high - low)
                optional.append(top(self.rows, keys, error, exact_keys, more, members=members).rows)
        left = (self.room.rows or 0) - int(self.room.minimum.sum())
        members = None if len(self._members) == 1 else np.sort(_joined(optional))
        chosen.append(top(self.rows, keys, error, exact_keys, left, members=members).rows)
        return Best(np.sort(_joined(chosen)))

    def after(self, chosen: NDArray[np.int64]) -> Room:
        """The room that is left when these rows of each rank, with the required ones, are in."""
        own = np.setdiff1d(chosen, self.required)
        room, groups = self.room, self.rows.groups[own]
        if self.costs is None or room.budget is None:
            counted = np.bincount(groups, minlength=len(room.minimum)).astype(np.int64)
        else:
            counted = sum_by_group(groups, self.costs[own], len(room.minimum))
        counted = self.rows.ranks.sum(counted)
        return Room(
            None if room.rows is None else room.rows - int(counted.sum()),
            None if room.budget is None else room.budget - int(counted.sum()),
            np.maximum(room.minimum - counted, 0),
            room.maximum - counted,
        )

    def _within_budget(
        self,
        keys: NDArray[np.float32],
        error: float,
        exact_keys: Callable[[NDArray[np.int64]], NDArray[np.float64]],
    ) -> Best:
        """The rows with the largest keys within the budget and the quotas; ``keys`` are changed.

        Fractions of rows allowed, the best is to take rows by their keys, of each group as far as
        its quota goes.  With ``theta`` the key at which the budget ends, ``d`` that at which a
        quota does, and ``r`` what is left of it then, duality gives that no permitted set has a
        larger sum than the rows taken, ``theta`` times what is left of the budget, and
        ``(d - theta) r`` of each group where that is positive.
        """
        assert self.costs is not None
        budget = self.room.budget or 0
        ends: list[tuple[float, int]] = []
        for group in np.flatnonzero(self._quotas_that_bind):
            members = self._members[group]
            quota = int(self.room.maximum[group])
            if members is None:
                budget = min(budget, quota)
                continue
            head = top(
                self.rows, keys, error, exact_keys, quota,
                members=members, weights=self.costs, floor=0.0,
            )  # fmt: skip
            ends.append((head.next_key, quota - self._cost_of(head.rows)))
            inside = keys[head.rows]
            keys[members] = -np.inf
            keys[head.rows] = inside
        head = top(self.rows, keys, error, exact_keys, budget, weights=self.costs, floor=0.0)
        theta = max(0.0, head.next_key)
        rest = theta * (budget - self._cost_of(head.rows))
        rest += sum(max(0.0, end - theta) * left for end, left in ends)
        return Best(np.sort(_joined([self.required, head.rows])), rest)

    def _cost_of(self, chosen: NDArray[np.int64]) -> int:
        """What chosen rows of all ranks cost."""
        assert self.costs is not None
        return int(self.rows.ranks.sum(np.array([self.costs[chosen].sum()]))[0])

    @cached_property
    def _quotas_that_bind(self) -> NDArray[np.bool_]:
        """``[groups]``: whether the rows that need not be in cost more than the quota."""
        assert self.costs is not None
        free = self.costs.copy()
        free[self.required] = 0
        total = sum_by_group(self.rows.groups, free, len(self.room.maximum))
        return np.asarray(self.rows.ranks.sum(total) > self.room.maximum)

    @cached_property
    def _members(self) -> list[NDArray[np.int64] | None]:
        """The rows of each group on this rank; None stands for all rows."""
        if len(self.room.minimum) == 1:
            return [None]
        order = np.argsort(self.rows.groups, kind="stable")
        bounds = np.searchsorted(
            self.rows.groups, np.arange(len(self.room.minimum) + 1), sorter=order
        )
        return [order[low:high] for low, high in pairwise(bounds)]

    @cached_property
    def _cheapest(self) -> float:
        assert self.costs is not None
        smallest = -int(self.costs.min()) if len(self.costs) else -(2**62)
        return float(-self.rows.ranks.max(np.array([smallest]))[0])


def _joined(parts: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(0, np.int64), *parts])
