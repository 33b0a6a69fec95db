"""The greedy of Algorithm 1, row for row, without a matrix and with few passes over the rows.

A step needs the row with the largest gain, and after a step every gain changes.  Rows are kept in
three layers: a few whose gains are exact at each step, a pool whose gains were exact some steps
ago, and all others, whose gains were exact some more steps ago.  For each of the two stale layers
a bound says what the best gain in it can have become (:class:`_Layer`); while the best exact gain
is above both bounds it is the best of all.  Otherwise a layer is computed again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.selection.limits import Room
from headrace.selection.objective import GraphCut
from headrace.selection.rows import Rows

_BINS = 64
_POOL = 0.02
"""Share of all rows in the pool, at first."""
_SMALLEST_POOL = 2048
_EXACT = 384
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
        trust: picks after reading all rows for which the pool is trusted to hold the best row,
            and an eighth of it for the exact rows.  With 0 each pick is proved to be the best.
        after_step: is called after each pick.
    """
    return _Greedy(rows, cut, room, start, taken, trust).run(after_step)


class _Layer:
    """What the best score of rows that were scored some steps ago can be now.

    A row's score has changed by ``-a x . D`` since, where ``D`` is the sum of the rows added.
    With ``u`` along the sum of all rows, ``alpha = x . u``, ``p = D . u`` and ``m`` the norm of
    the part of ``D`` across ``u``::

        x . D  >=  alpha p - sqrt(1 - alpha^2) m

    The rows are in bins by alpha, of each of which the best score is known.  The right-hand side
    is convex in alpha, so its minimum over a bin is at ``-p / sqrt(p^2 + m^2)`` or at an end.
    """

    def __init__(self, best: NDArray[np.float64], bins: _Bins, a: float) -> None:
        self._filled = np.isfinite(best)
        self._best = best[self._filled]
        self._low, self._high = bins.low[self._filled], bins.high[self._filled]
        self._along = bins.along
        self._a = a
        self._sum = np.zeros(len(bins.along))

    def add(self, row: NDArray[np.float64]) -> None:
        """A row was picked."""
        self._sum += row

    def bound(self) -> float:
        if not len(self._best):
            return -np.inf
        p = float(self._sum @ self._along)
        m = float(np.sqrt(max(float(self._sum @ self._sum) - p * p, 0.0)))
        whole = float(np.hypot(p, m))
        if whole == 0:
            return float(self._best.max())
        alpha = np.clip(-p / whole, self._low, self._high)
        least = alpha * p - np.sqrt(1 - alpha * alpha) * m
        return float((self._best - self._a * least).max()) + 1e-12 * self._a * whole


class _Bins:
    """Rows by their cosine with the sum of all rows."""

    def __init__(self, rows: Rows, everything: NDArray[np.float64]) -> None:
        length = float(np.linalg.norm(everything))
        first = np.zeros(len(everything))
        first[0] = 1.0
        self.along = everything / length if length > 0 else first
        cosines = rows.scores(self.along)
        ends = np.array([-cosines.min(), cosines.max()] if len(cosines) else [-1.0, -1.0])
        least, most = rows.ranks.max(ends) * (-1, 1)
        edges = np.linspace(least, most, _BINS + 1)
        error = rows.error(self.along)
        self._inner_edges = edges[1:-1]
        self.of_row = self.find(cosines)
        """``[rows]``: the bin of each row."""
        self.low = np.clip(edges[:-1] - error, -1, 1)
        self.high = np.clip(edges[1:] + error, -1, 1)

    def find(self, cosines: NDArray[np.float32]) -> NDArray[np.uint8]:
        """The bins of rows with these cosines."""
        return np.searchsorted(self._inner_edges, cosines, side="right").astype(np.uint8)

    def best(
        self, bins: NDArray[np.uint8], scores: NDArray[np.float32], error: float
    ) -> NDArray[np.float64]:
        """``[bins]``: what the best of some rows' scores can be in each bin; -inf in empty ones."""
        best = np.full(_BINS, -np.inf, np.float32)
        np.maximum.at(best, bins, scores)
        return best.astype(np.float64) + error


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
    ) -> None:
        self.rows, self.cut, self.room, self.trust = rows, cut, room, trust
        self.sum = start.copy()
        self.free = np.ones(len(rows), bool) if taken is None else ~taken
        """Rows of this rank that may be picked, as far as groups allow."""
        self.minimum, self.maximum = room.minimum.copy(), room.maximum.copy()
        self.left = room.rows or 0
        self.tolerance = 1e-11 * (1 + float(np.linalg.norm(cut.everything)))
        """Scores that differ by less are compared exactly."""
        self.bins = _Bins(rows, cut.everything)
        self.pool_size = max(_SMALLEST_POOL, int(_POOL * rows.total))
        self.open = self._open_groups()
        self.passes = 1  # of the cosines with the sum
        self.steps_of_pool = _FEW_STEPS

    def run(self, after_step: Callable[[], object]) -> Picks:
        """Pick all rows."""
        count = self.left
        positions, gains = np.zeros(count, np.int64), np.zeros(count)
        if count:
            self._read_all()
        for step in range(count):
            positions[step], gains[step] = self._step()
            after_step()
        return Picks(positions, gains, self.passes)

    def _step(self) -> tuple[int, float]:
        place = self._best_exact()
        trusted = place >= 0 and self.steps_of_exact < self.trust // 8
        if not trusted and not self._beats(place, self.pool_layer):
            self._read_pool()
            place = self._best_exact()
        trusted = place >= 0 and self.steps_of_pool < self.trust
        if not trusted and not self._beats(place, self.outer_layer):
            self._read_all()
            place = self._best_exact()
        index = int(self.exact_of_pool[place])
        return self._take(index, self.exact_rows[place], self.exact_scores[place])

    def _best_exact(self) -> int:
        """The place of the best row among the exact ones; -1 if there is none."""
        if not len(self.exact_scores):
            return -1
        best = float(self.exact_scores.max())
        if best == -np.inf:
            return -1
        near = np.flatnonzero(self.exact_scores >= best - self.tolerance)
        if len(near) > 1:
            index = self.exact_of_pool[near]
            exact = self.pool.exact_scores(index, self._query())
            self.exact_scores[near] = exact
            near = near[np.lexsort((self.pool.ties[index], -exact))]
        return int(near[0])

    def _beats(self, place: int, layer: _Layer) -> bool:
        best = self.exact_scores[place] - self.tolerance if place >= 0 else -np.inf
        return bool(best > layer.bound()) or layer.bound() == -np.inf

    def _take(self, index: int, row: NDArray[np.float64], score: float) -> tuple[int, float]:
        """Row ``index`` of the pool is in: bring everything up to date."""
        self.sum += self.rows.fixed(row)
        self.free_in_pool[index] = False
        position = int(self.pool_positions[index])
        self.free[self.rows.local(np.array([position]))] = False
        self.exact_scores -= self.cut.a * (self.exact_rows @ row)
        self.exact_scores[self.exact_of_pool == index] = -np.inf
        self.pool_layer.add(row)
        self.outer_layer.add(row)
        self.steps_of_pool += 1
        self.steps_of_exact += 1
        self._count(int(self.pool.groups[index]))
        return position, float(score) - 1

    def _count(self, group: int) -> None:
        self.left -= 1
        self.minimum[group] = max(0, self.minimum[group] - 1)
        self.maximum[group] -= 1
        still_open = self._open_groups()
        if self.left and not np.array_equal(still_open, self.open):
            self.open = still_open
            self._read_all()

    def _open_groups(self) -> NDArray[np.bool_]:
        if self.left > self.minimum.sum():
            return self.maximum > 0
        return self.minimum > 0

    def _query(self) -> NDArray[np.float64]:
        return self.cut.query(self.rows.as_float(self.sum))

    def _read_all(self) -> None:
        """Score all rows, and choose the pool."""
        if self.steps_of_pool < _FEW_STEPS:
            largest = max(_SMALLEST_POOL, int(_LARGEST_POOL * self.rows.total))
            self.pool_size = min(2 * self.pool_size, largest)
        self.steps_of_pool = 0
        self.passes += 1
        query = self._query()
        error = self.rows.error(query)
        scores = self.rows.scores(query)
        scores[~(self.free & self.open[self.rows.groups])] = -np.inf
        most = float(self.rows.ranks.max(np.array([scores.max(initial=-np.inf)]))[0])
        share = -(-self.pool_size // self.rows.ranks.size)
        inside = _largest(scores, share, most - 2 * (error + self.tolerance))
        best = self.bins.best(self.bins.of_row[~inside], scores[~inside], error)
        best = self.rows.ranks.max(best)
        self.outer_layer = _Layer(best, self.bins, self.cut.a)
        self.pool, self.pool_positions = self.rows.gather(np.flatnonzero(inside))
        self.free_in_pool = np.ones(len(self.pool), bool)
        self.pool_bins = self.bins.find(self.pool.scores(self.bins.along))
        self._read_pool()

    def _read_pool(self) -> None:
        """Score the pool, and choose the rows that are kept exact."""
        self.steps_of_exact = 0
        query = self._query()
        scores = self.pool.scores(query)
        scores[~self.free_in_pool] = -np.inf
        error = self.pool.error(query)
        most = float(scores.max(initial=-np.inf))
        inside = _largest(scores, _EXACT, most - 2 * (error + self.tolerance))
        best = self.bins.best(self.pool_bins[~inside], scores[~inside], error)
        self.pool_layer = _Layer(best, self.bins, self.cut.a)
        self.exact_of_pool = np.flatnonzero(inside)
        self.exact_rows = self.pool.unit(self.exact_of_pool)
        self.exact_scores = self.pool.exact_scores(self.exact_of_pool, query)


def _largest(scores: NDArray[np.float32], count: int, surely: float) -> NDArray[np.bool_]:
    """Marks of the ``count`` largest scores, and of all from a limit on; never of -inf.

    The limit makes sure that rows which fp32 does not tell from the best are all in.
    """
    marks = scores >= surely
    if count >= len(scores):
        marks[:] = True
    elif count:
        marks[np.argpartition(-scores, count - 1)[:count]] = True
    return marks & (scores > -np.inf)
