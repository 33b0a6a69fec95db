"""Better than rounded: rows in for rows out, while that raises the objective."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headrace.selection.objective import GraphCut
from headrace.selection.rows import Rows

_CONSIDERED = 1024
"""Chosen rows of the smallest gain, and others of the largest, that may change places."""
_COMPARED = 64
"""Of each of the two, the pairs of which are compared at a swap."""
_MOST_SWAPS = 1024
_WORTH = 1e-8
"""A swap raises the objective by at least this share of it."""


def improved(
    candidates: Rows,
    cut: GraphCut,
    picked: NDArray[np.int64],
    total: NDArray[np.float64],
    *,
    costs: NDArray[np.int64] | None = None,
    spare: int = 0,
    quotas: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """The picked candidates after swaps, ascending; a row is swapped for one of its own group.

    Swapping ``x`` for ``y`` raises f by ``(y - x) . (s_V - a s) - a (1 - x . y)``.

    Args:
        candidates: rows that may be in or out, whole on this rank.
        cut: the objective.
        picked: candidates that are in.
        total: ``[d]`` sum of all rows that are in, candidates or not.
        costs: ``[candidates]`` if there is a budget.
        spare: what is left of the budget.
        quotas: ``[groups]`` what is left of what each group may cost.
    """
    inside = np.zeros(len(candidates), bool)
    inside[picked] = True
    scores = candidates.scores(cut.query(total))
    lowest = np.flatnonzero(inside)
    highest = np.flatnonzero(~inside)
    lowest = lowest[np.argsort(scores[lowest], kind="stable")[:_CONSIDERED]]
    highest = highest[np.argsort(-scores[highest], kind="stable")[:_CONSIDERED]]
    rows = np.sort(np.concatenate([lowest, highest]))
    units, groups, chosen = candidates.unit(rows), candidates.groups[rows], inside[rows]
    cost = np.zeros(len(rows), np.int64) if costs is None else costs[rows]
    gains = units @ cut.query(total)
    value = abs(cut.value(total, 0.0))
    for _ in range(_MOST_SWAPS):
        out, come = np.flatnonzero(chosen), np.flatnonzero(~chosen)
        if not len(out) or not len(come):
            break
        out = out[np.argsort(gains[out], kind="stable")[:_COMPARED]]
        come = come[np.argsort(-gains[come], kind="stable")[:_COMPARED]]
        raised = gains[come] - gains[out, None] - cut.a * (1 - units[out] @ units[come].T)
        raised[groups[out, None] != groups[come]] = -np.inf
        more = cost[come] - cost[out, None]
        raised[more > spare] = -np.inf
        if quotas is not None:
            raised[more > quotas[groups[out], None]] = -np.inf
        i, j = np.unravel_index(int(raised.argmax()), raised.shape)
        if raised[i, j] <= _WORTH * value:
            break
        x, y = int(out[i]), int(come[j])
        chosen[x], chosen[y] = False, True
        spare -= int(cost[y] - cost[x])
        if quotas is not None:
            quotas = quotas.copy()
            quotas[groups[x]] -= cost[y] - cost[x]
        gains -= cut.a * (units @ (units[y] - units[x]))
    inside[rows] = chosen
    return np.flatnonzero(inside)
