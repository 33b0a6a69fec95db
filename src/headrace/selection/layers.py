"""What the best of many rows can have become since they were scored: the bounds of the greedy."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from headrace.selection.rows import Rows

_BINS = 64


class Layer:
    """What the best score of rows that were scored some steps ago can be now.

    A row's score has changed by ``-a x . D`` since, where ``D`` is the sum of the rows added.
    With ``u`` along the sum of all rows, ``alpha = x . u``, ``p = D . u`` and ``m`` the norm of
    the part of ``D`` across ``u``::

        x . D  >=  alpha p - sqrt(1 - alpha^2) m

    The rows are in bins by alpha, of each of which the best score is known.  The right-hand side
    is convex in alpha, so its minimum over a bin is at ``-p / sqrt(p^2 + m^2)`` or at an end.

    Args:
        best: ``[bins]`` the largest score in each bin; -inf in empty ones.
        bins: what the bins are.
        a: how much of a picked row is taken from a score.
        added: ``[d]`` the sum of the rows picked so far.
    """

    def __init__(
        self, best: NDArray[np.float64], bins: Bins, a: float, added: NDArray[np.float64]
    ) -> None:
        filled = np.isfinite(best)
        self._best = best[filled]
        self._low, self._high = bins.low[filled], bins.high[filled]
        self._along = bins.along
        self._a = a
        self._start = added.copy()
        self._limit = float(self._best.max(initial=-np.inf))
        """A bound at an earlier step, with ``a`` for each step since: no product is below -1."""

    def step(self) -> None:
        """A row was picked."""
        self._limit += self._a

    def is_below(self, score: float, added: NDArray[np.float64]) -> bool:
        """Whether no row of the layer reaches a score, now that these rows have been picked."""
        if score <= self._limit:
            self._limit = self._bound(added - self._start)
        return score > self._limit or not len(self._best)

    def _bound(self, since: NDArray[np.float64]) -> float:
        if not len(self._best):
            return -np.inf
        p = float(since @ self._along)
        m = math.sqrt(max(float(since @ since) - p * p, 0.0))
        whole = math.hypot(p, m)
        if whole == 0:
            return float(self._best.max())
        alpha = np.minimum(np.maximum(self._low, -p / whole), self._high)
        least = alpha * p - np.sqrt(1 - alpha * alpha) * m
        return float((self._best - self._a * least).max()) + 1e-12 * self._a * whole


class Bins:
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
        self.of_row = np.searchsorted(edges[1:-1], cosines, side="right").astype(np.uint8)
        """``[rows]``: the bin of each row."""
        self.low = np.clip(edges[:-1] - error, -1, 1)
        self.high = np.clip(edges[1:] + error, -1, 1)

    def best(self, scores: NDArray[np.float32], error: float) -> NDArray[np.float64]:
        """``[bins]``: what the best score of a row can be in each bin; -inf in empty ones."""
        best = np.full(_BINS, -np.inf, np.float32)
        np.maximum.at(best, self.of_row, scores)
        return best.astype(np.float64) + error
