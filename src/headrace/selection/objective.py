"""Graph cut on cosine similarity in closed form: value, gains, bound and knee.

With unit rows ``x``, their sum ``s_V``, the sum ``s`` of the chosen ones and ``a = 2 + lambda``::

    f(S) = s_V . s - (a/2) ||s||^2 + (lambda/2) |S|          f(x | S) = x . (s_V - a s) - 1

The proofs are in ``docs/selection_mathematics.md``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class GraphCut:
    """Equation (3) of Downie, "Fine-Tuning BERT via Submodular Maximization"."""

    everything: Vector
    """``[d]``: the sum of all unit rows."""
    trade_off: float
    """lambda: the weight of the similarity among the chosen rows; 0 or more."""

    @property
    def a(self) -> float:
        """What a chosen row takes from the gain of another, times their cosine."""
        return 2 + self.trade_off

    def value(self, chosen: Vector, count: float) -> float:
        """f of ``count`` rows with this sum; also of fractions of rows, where it is concave."""
        linear = float(self.everything @ chosen) + self.trade_off / 2 * count
        return linear - self.a / 2 * float(chosen @ chosen)

    def query(self, chosen: Vector) -> Vector:
        """``[d]``: its product with a unit row is that row's gain plus 1."""
        return self.everything - self.a * chosen

    def bound(self, query: Vector, best: float) -> float:
        """No permitted set has a larger f than this.

        Args:
            query: any vector.
            best: the largest sum of ``x . query + lambda/2`` over a permitted set of rows.
        """
        rest = self.everything - query
        return best + float(rest @ rest) / (2 * self.a)

    def knee(self, chosen: Vector, count: int) -> float:
        """At about how many rows like the chosen ones the gains turn negative; inf if never.

        Where ``s`` points as ``s_V`` does, the gains are 0 at ``a ||s|| = ||s_V||``; ``s`` grows
        in proportion to the number of rows.
        """
        length = float(np.linalg.norm(self.everything))
        along = float(self.everything @ chosen) / length if length else 0.0
        return length * count / (self.a * along) if along > 0 else float("inf")

    def harmless(self, longest: float, rows: int) -> float | None:
        """The largest lambda with which the greedy surely meets no negative gain; None if none.

        Of ``rows`` rows, for as many picks as ``longest`` is of, and without quotas.  The mean
        gain of the rows that are not chosen is then nowhere below 0, for any chosen rows.

        Args:
            longest: the largest sum of ``x . s_V`` over as many rows as are to be chosen.
            rows: how many there are.
        """
        square = float(self.everything @ self.everything)
        if not 0 < longest < square:
            return None
        largest = (square - rows / (1 - longest / square)) / longest - 2
        return largest if largest >= 0 else None
