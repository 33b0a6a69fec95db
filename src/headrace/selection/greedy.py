"""The greedy of Algorithm 1, row for row, without a matrix and with few passes over the rows.

A step needs the row with the largest gain, and after a step every gain changes.  Rows are kept in
three layers: a few whose gains are exact at each step, a pool whose gains were exact some steps
ago, and all others, whose gains were exact some more steps ago.  For each of the two stale layers
a bound says what the best gain in it can have become (:class:`Layer`); while the best exact gain
is above both bounds it is the best of all.  Otherwise a layer is computed again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.selection.checkpoint import Stage
from headrace.selection.hinge import Penalty
from headrace.selection.layers import Bins, Layer
from headrace.selection.limits import Room
from headrace.selection.objective import GraphCut
from headrace.selection.rows import Rows
from headrace.selection.top import top

_POOL = 0.02
"""Share of all rows in the pool, at first."""
_SMALLEST_POOL = 1024
_POOL_OF_TRUST = 8
"""Rows in the pool for each pick that it is trusted with, at least."""
_EXACT = 256
"""Rows whose gains are exact at each step."""
_FEW_STEPS = 16
"""A pool that lasted for fewer steps is doubled."""
_LARGEST_POOL = 1 / 8


@dataclass(frozen=True)
class Picks:
    """Rows in the order in which they were picked."""

    positions: NDArray[np.int64]
    """Positions through the rows of all ranks."""
    gains: NDArray[np.float64]
    """By how much each row raised the objective."""
    passes: int
    """Times that all rows were read."""


def greedy(
    rows: Rows,
    cut: GraphCut,
    room: Room,
    *,
    start: NDArray[np.int64],
    taken: NDArray[np.bool_] | None = None,
    trust: int = 0,
    after_step: Callable[[], object] = lambda: None,
    stage: Stage | None = None,
    penalty: Penalty | None = None,
) -> Picks:
    """Pick ``room.rows`` rows, each the one with the largest gain; of equals the first by ties.

    Under quotas only groups that still may get a row are looked at: those below their maximum,
    and, when the rows that are left are all needed for minimums, only those below their minimum.

    Args:
        rows: the rows to pick from.
        cut: the objective.
        room: how many rows, of all and of each group.
        start: ``[d]`` fixed-point sum of the rows that are in already.
        taken: ``[rows]`` whether a row must not be picked, as it is in already; none if not given.
        trust: picks after reading all rows for which the pool is trusted to hold the best row:
            all rows are read after each so many picks, and each pick is proved to be the best of
            the pool.  With 0 each pick is proved to be the best of all.
        after_step: is called after each pick.
        stage: where to go on from, and what to tell how far it is.
        penalty: is taken from the gains, as it is for the rows that are in already; picks are
            added.  As it only grows, earlier scores stay bounds.
    """
    return _Greedy(rows, cut, room, start, taken, trust, stage, penalty).run(after_step)


class _Greedy:
    """The state between steps."""

    def __init__(
        self,
        rows: Rows,
        cut: GraphCut,
        room: Room,
        start: NDArray[np.int64],
        taken: NDArray[np.bool_] | None,
        trust: int,
        stage: Stage | None,
        penalty: Penalty | None,
    ) -> None:
        self.rows, self.cut, self.room, self.penalty = rows, cut, room, penalty
        self.all_positions = slice(rows.offset, rows.offset + len(rows))
        self.pool_size = max(_SMALLEST_POOL, int(_POOL * rows.total), _POOL_OF_TRUST * trust)
        self.trust = trust if self.pool_size < rows.total else 0
        self.sum = start.copy()
        """Of the rows that are in, in fixed point; those of `recent` are not in it yet."""
        self.recent: list[NDArray[np.float64]] = []
        self.added = np.zeros(rows.dimensions)
        """Sum of the rows picked, for the bounds."""
        self.free = np.ones(len(rows), bool) if taken is None else ~taken
        """Rows of this rank that may be picked, as far as groups allow."""
        self.minimum, self.maximum = room.minimum.copy(), room.maximum.copy()
        self.left = room.rows or 0
        self.tolerance = 1e-11 * (1 + float(np.linalg.norm(cut.everything)))
        """Scores that differ by less are compared exactly."""
        # bounds hang on fp32 scores, which differ with the number of ranks: what is not proved to
        # be the best must not depend on them
        self.bins = None if self.trust else Bins(rows, cut.everything)
        self.open = self._open_groups()
        self.passes = 0 if self.trust else 1  # of the cosines with the sum
        self.steps_of_pool = _FEW_STEPS
        self.stage = stage
        self.positions, self.gains = np.zeros(self.left, np.int64), np.zeros(self.left)
        self.done = 0

    def run(self, after_step: Callable[[], object]) -> Picks:
        """Pick all rows."""
        reached = None if self.stage is None else self.stage.load()
        if reached is not None:
            self._go_on(reached)
        if self.left:
            self._read_all()
        for step in range(self.done, len(self.positions)):
            self.positions[step], self.gains[step] = self._step()
            self.done += 1
            self._close_groups()
            after_step()
        return Picks(self.positions, self.gains, self.passes)

    def _go_on(self, reached: dict[str, NDArray[Any]]) -> None:
        """Be as at the time when :meth:`_save` wrote this."""
        positions = reached["positions"]
        own = self.rows.local(positions)
        self.done = len(positions)
        self.positions[: self.done], self.gains[: self.done] = positions, reached["gains"]
        self.passes, self.pool_size, self.steps_of_pool = reached["counts"].tolist()
        added = self.rows.fixed_sum(own)
        self.sum += added
        self.added = self.rows.as_float(added)
        self.free[own] = False
        if self.penalty is not None:
            for position in positions.tolist():
                self.penalty.add(position)
        counts = np.bincount(self.rows.groups[own], minlength=len(self.minimum)).astype(np.int64)
        counts = self.rows.ranks.sum(counts)
        self.minimum = np.maximum(self.minimum - counts, 0)
        self.maximum = self.maximum - counts
        self.left -= self.done
        self.open = self._open_groups()

    def _save(self, stage: Stage) -> None:
        counts = np.array([self.passes, self.pool_size, self.steps_of_pool])
        picked = slice(0, self.done)
        stage.save(
            {"positions": self.positions[picked], "gains": self.gains[picked], "counts": counts}
        )

    def _step(self) -> tuple[int, float]:
        place = self._best_exact()
        if not self._is_best(place, self.pool_layer):
            self._read_pool()
            place = self._best_exact()
        if not self._is_best_of_all(place):
            self._read_all()
            place = self._best_exact()
        return self._take(place)

    def _best_exact(self) -> int:
        """The place of the best row among the exact ones; -1 if there is none."""
        if not len(self.exact_scores):
            return -1
        place = int(self.exact_scores.argmax())
        best = float(self.exact_scores[place])
        if best == -np.inf:
            return -1
        near = (self.exact_scores >= best - self.tolerance).nonzero()[0]
        if len(near) > 1:
            index = self.exact_of_pool[near]
            exact = self._exact(self.pool, index, self.pool_positions[index], self._query())
            self.exact_scores[near] = exact
            place = int(near[np.lexsort((self.pool.ties[index], -exact))[0]])
        return place

    def _is_best_of_all(self, place: int) -> bool:
        if self.outer_layer is None:
            return place >= 0 and self.steps_of_pool < self.trust
        return self._is_best(place, self.outer_layer)

    def _is_best(self, place: int, layer: Layer) -> bool:
        best = self.exact_scores[place] - self.tolerance if place >= 0 else -np.inf
        return layer.is_below(best, self.added)

    def _take(self, place: int) -> tuple[int, float]:
        """The row at a place of the exact ones is in: bring everything up to date."""
        index, row = int(self.exact_of_pool[place]), self.exact_rows[place]
        gain = float(self.exact_scores[place]) - 1
        self.recent.append(row)
        self.added += row
        self.free_in_pool[index] = False
        position = int(self.pool_positions[index])
        own = position - self.rows.offset
        if 0 <= own < len(self.free):
            self.free[own] = False
        self.exact_scores -= self.exact_rows @ (self.cut.a * row)
        if self.penalty is not None:
            columns, lost = self.penalty.add(position)
            exact = self.pool_positions[self.exact_of_pool]
            _, places, of_columns = np.intersect1d(exact, columns, True, return_indices=True)
            self.exact_scores[places] -= lost[of_columns]
        self.exact_scores[place] = -np.inf
        self.pool_layer.step()
        if self.outer_layer is not None:
            self.outer_layer.step()
        self.steps_of_pool += 1
        group = int(self.pool.groups[index])
        self.left -= 1
        self.minimum[group] = max(0, self.minimum[group] - 1)
        self.maximum[group] -= 1
        return position, gain

    def _close_groups(self) -> None:
        """Look at all rows if other groups may get rows from now on."""
        if len(self.open) == 1 or not self.left:
            return
        still_open = self._open_groups()
        if not np.array_equal(still_open, self.open):
            self.open = still_open
            self._read_all()

    def _open_groups(self) -> NDArray[np.bool_]:
        if self.left > self.minimum.sum():
            return self.maximum > 0
        return self.minimum > 0

    def _query(self) -> NDArray[np.float64]:
        if self.recent:
            self.sum += self.rows.fixed(np.stack(self.recent)).sum(0)
            self.recent.clear()
        return self.cut.query(self.rows.as_float(self.sum))

    def _read_all(self) -> None:
        """Score all rows, and choose the pool."""
        if self.stage is not None and self.done and self.stage.due():
            self._save(self.stage)
        if not self.trust and self.steps_of_pool < _FEW_STEPS:
            largest = max(_SMALLEST_POOL, int(_LARGEST_POOL * self.rows.total))
            self.pool_size = min(2 * self.pool_size, largest)
        self.steps_of_pool = 0
        self.passes += 1
        query = self._query()
        scores, error = self._scores(self.rows, self.all_positions, query)
        scores[~self.free] = -np.inf
        if len(self.open) > 1:
            scores[~self.open[self.rows.groups]] = -np.inf
        inside = self._largest(
            self.rows,
            scores,
            error,
            lambda some: self._exact(self.rows, some, some + self.rows.offset, query),
            self.pool_size,
            copies=not self.trust,
        )
        self.outer_layer = None
        if self.bins is not None:
            scores[inside] = -np.inf
            best = self.rows.ranks.max(self.bins.best(scores, error))
            self.outer_layer = Layer(best, self.bins, self.cut.a, self.added)
        self.pool, self.pool_positions = self.rows.gather(inside)
        self.free_in_pool = np.ones(len(self.pool), bool)
        self.pool_bins = Bins(self.pool, self.cut.everything)
        self._read_pool()

    def _read_pool(self) -> None:
        """Score the pool, and choose the rows that are kept exact."""
        query = self._query()
        scores, error = self._scores(self.pool, self.pool_positions, query)
        scores[~self.free_in_pool] = -np.inf

        def exact(some: NDArray[np.int64]) -> NDArray[np.float64]:
            return self._exact(self.pool, some, self.pool_positions[some], query)

        self.exact_of_pool = self._largest(self.pool, scores, error, exact, _EXACT, copies=True)
        scores[self.exact_of_pool] = -np.inf
        best = self.pool_bins.best(scores, error)
        self.pool_layer = Layer(best, self.pool_bins, self.cut.a, self.added)
        self.exact_rows = self.pool.unit(self.exact_of_pool)
        self.exact_scores = exact(self.exact_of_pool)

    def _scores(
        self, rows: Rows, positions: NDArray[np.int64] | slice, query: NDArray[np.float64]
    ) -> tuple[NDArray[np.float32], float]:
        """Gains plus 1 of rows at these positions in fp32, and what they may be off by."""
        scores, error = rows.scores(query), rows.error(query)
        if self.penalty is not None:
            scores -= self.penalty.of(positions)
            error += 2.0**-23 * (self.penalty.largest + float(np.linalg.norm(query)))
        return scores, error

    def _exact(
        self,
        rows: Rows,
        some: NDArray[np.int64],
        positions: NDArray[np.int64],
        query: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """The same of some rows, which are at these positions, in fp64."""
        scores = rows.exact_scores(some, query)
        return scores if self.penalty is None else scores - self.penalty.of(positions)

    def _largest(
        self,
        rows: Rows,
        scores: NDArray[np.float32],
        error: float,
        exact: Callable[[NDArray[np.int64]], NDArray[np.float64]],
        count: int,
        *,
        copies: bool,
    ) -> NDArray[np.int64]:
        """The rows with the largest scores, ascending; none with -inf.

        With ``copies`` also all that fp32 does not tell from the best: they would else be stale
        at once, and looked for again at each step.
        """
        largest = top(rows, scores, error, exact, count).rows
        if not copies:
            return largest
        most = float(rows.ranks.max(np.array([scores.max(initial=-np.inf)]))[0])
        least = most - 2 * (error + self.tolerance)
        marks = (scores >= least) & (scores > -np.inf)
        marks[largest] = True
        return np.flatnonzero(marks)
