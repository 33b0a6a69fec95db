"""The best permitted rows by any key: the one step of the solvers that knows about limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from headrace.selection.limits import Room
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
        sizes = len(self.room.minimum)
        counts = np.bincount(self.rows.groups[own], minlength=sizes).astype(np.int64)
        spent = 0 if self.costs is None else int(self.costs[own].sum())
        *counted, spent = self.rows.ranks.sum(np.append(counts, spent)).tolist()
        room = self.room
        return Room(
            None if room.rows is None else room.rows - sum(counted),
            None if room.budget is None else room.budget - spent,
            np.maximum(room.minimum - counted, 0),
            room.maximum - counted,
        )

    def _within_budget(
        self,
        keys: NDArray[np.float32],
        error: float,
        exact_keys: Callable[[NDArray[np.int64]], NDArray[np.float64]],
    ) -> Best:
        assert self.costs is not None
        budget = self.room.budget or 0
        head = top(self.rows, keys, error, exact_keys, budget, weights=self.costs, floor=0.0)
        spent = int(self.rows.ranks.sum(np.array([self.costs[head.rows].sum()]))[0])
        rest = max(0.0, head.next_key) * (budget - spent)
        return Best(np.sort(_joined([self.required, head.rows])), rest)

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
