"""The order of chosen rows, what each adds to a graph cut, and where that turns negative."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from headrace.selection.chosen import Method, Selection
from headrace.selection.hinge import Penalty
from headrace.selection.neighbours import NeighbourGraph
from headrace.selection.objective import GraphCut
from headrace.selection.permitted import Permitted
from headrace.selection.rows import Rows
from headrace.selection.top import top

_CURVE_ROWS = 256
"""Rows whose gains are computed at once, at least."""
_CURVE_SHARE = 1 / 512
"""Share of all rows whose gains are computed at once."""
_ROUNDING = 1e-11
"""Gains that are not larger, in parts of the terms that they are made of, are 0."""
_ROUNDING_OF_VALUE = 1e-12
"""A bound that is not further above a value, in parts of the squares of these, is that value."""


def by_score(
    query: NDArray[np.float64], rows: Rows, chosen: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Positions of the chosen rows of all ranks, those with the largest product first."""
    gather = rows.ranks.gather
    scores = gather(rows.exact_scores(chosen, query))
    return gather(chosen + rows.offset)[np.lexsort((gather(rows.ties[chosen]), -scores))]


def with_penalty(found: Selection, penalty: Penalty, graph: NeighbourGraph) -> Selection:
    """What was found for the graph cut, with what the hinge takes from it.

    As that is nowhere below 0, the bound of the graph cut is one for both.
    """
    lost = penalty.along(found.rows)
    gains = found.gains - lost
    negative = np.flatnonzero(gains < 0)
    return replace(
        found,
        gains=gains,
        objective=found.objective - float(lost.sum()),
        first_negative_gain=int(negative[0]) + 1 if len(negative) else None,
        of="graph_cut_hinge",
        graph=graph.facts,
        penalty=float(lost.sum()),
    )


def bound_at(cut: GraphCut, permitted: Permitted, chosen: NDArray[np.int64]) -> float:
    """The bound that the chosen rows themselves give, in one pass."""
    rows = permitted.rows
    query = cut.query(rows.as_float(chosen))
    best = permitted.best_for(query, cut.trade_off / 2)
    size = int(rows.ranks.sum(np.array([len(best.rows)]))[0])
    total = rows.as_float(rows.fixed_sum(best.rows))
    return cut.bound(query, float(query @ total) + cut.trade_off / 2 * size + best.rest)


def every(count: int, tell: Callable[[int], None]) -> Callable[[], None]:
    """What counts its calls and tells of each ``count``-th one."""
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        if done % count == 0:
            tell(done)

    return step


def with_curve(
    method: Method,
    cut: GraphCut,
    rows: Rows,
    order: NDArray[np.int64],
    bound: float,
    passes: int,
) -> Selection:
    """The chosen rows at some positions, with the gain of each over those before it."""
    gains, scores = np.empty(len(order)), np.empty(len(order))
    before = np.zeros(rows.dimensions)
    size = max(_CURVE_ROWS, int(_CURVE_SHARE * rows.total))
    for start in range(0, len(order), size):
        part = order[start : start + size]
        copies, _ = rows.gather(rows.local(part), by_position=True)
        unit = copies.unit(np.argsort(np.argsort(part)))
        sums = np.cumsum(unit, axis=0)
        along = unit @ cut.everything
        taken = np.einsum("ij,ij->i", unit, before + sums - unit)
        gains[start : start + len(part)] = along - cut.a * taken - 1
        scores[start : start + len(part)] = along / rows.total
        before += sums[-1]
    chosen = rows.as_float(rows.fixed_sum(rows.local(order)))
    objective = cut.value(chosen, len(order))
    terms = float(np.linalg.norm(cut.everything)), cut.a * float(np.linalg.norm(chosen))
    gains[np.abs(gains) <= _ROUNDING * (1 + sum(terms))] = 0.0
    if bound - objective <= _ROUNDING_OF_VALUE * (terms[0] ** 2 + terms[1] ** 2 / cut.a):
        bound = objective
    negative = np.flatnonzero(gains < 0)
    return Selection(
        rows=order,
        gains=gains,
        scores=scores,
        method=method,
        trade_off=cut.trade_off,
        objective=objective,
        bound=bound,
        passes=passes,
        knee=cut.knee(chosen, len(order)),
        first_negative_gain=int(negative[0]) + 1 if len(negative) else None,
        suggested_trade_off=_harmless(cut, rows, len(order)) if len(negative) else None,
    )


def _harmless(cut: GraphCut, rows: Rows, count: int) -> float | None:
    """The largest lambda with which no gain of so many picks is negative."""
    query = cut.everything
    error, keys = rows.error(query), rows.scores(query)
    longest = top(rows, keys, error, lambda some: rows.exact_scores(some, query), count).rows
    return cut.harmless(float(query @ rows.as_float(rows.fixed_sum(longest))), rows.total)
