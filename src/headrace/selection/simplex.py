"""The best mix of a few points under a concave quadratic: the small problem of each pass."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_NOTHING = 1e-12
"""Weights below it are 0."""


def best_mix(
    gram: NDArray[np.float64], linear: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """``[m]`` weights, 0 or more with sum 1, that maximise ``linear . w - w . gram w / 2``.

    The active-set method of Wolfe's "Finding the nearest point in a polytope" (1976): the optimum
    over the affine hull of the points in use; where that leaves the simplex, go as far as its
    border and drop the point there.

    Args:
        gram: ``[m, m]``, positive semidefinite.
        linear: ``[m]``.
        weights: ``[m]`` where to start: the optimum without the last point, whose weight is 0.
    """
    weights = weights.copy()
    used = weights > 0
    used[-1] = True
    while True:
        active = np.flatnonzero(used)
        target = _affine_optimum(gram[np.ix_(active, active)], linear[active])
        current = weights[active]
        falling = target < _NOTHING
        if not falling.any():
            weights[:] = 0
            weights[active] = target
            return np.asarray(weights / weights.sum())
        steps = np.full(len(active), np.inf)
        drop = current[falling] - target[falling]
        steps[falling] = np.divide(current[falling], drop, out=np.zeros(len(drop)), where=drop > 0)
        step = min(1.0, float(steps.min()))
        current = np.maximum(current + step * (target - current), 0)
        current[np.argmin(steps)] = 0
        weights[:] = 0
        weights[active] = current
        used[active] = current > _NOTHING
        if not used.any():
            raise AssertionError("a mix has at least one point")


def _affine_optimum(gram: NDArray[np.float64], linear: NDArray[np.float64]) -> NDArray[np.float64]:
    size = len(linear)
    system = np.zeros((size + 1, size + 1))
    system[:size, :size] = gram
    system[size, :size] = system[:size, size] = 1
    solution = np.linalg.lstsq(system, np.append(linear, 1.0), rcond=None)[0]
    return np.asarray(solution[:size])
