"""A selection by facility location: solved by the main rank, known to all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from headrace.selection.chosen import Method, Selection
from headrace.selection.curve import by_score, every
from headrace.selection.edges import ONE, symmetric_edges
from headrace.selection.facility_location import FacilityLocation
from headrace.selection.lazy_greedy import Ground, lazy_greedy
from headrace.selection.limits import Room
from headrace.selection.neighbours import NeighbourGraph
from headrace.selection.partitioned import Solve, partitioned_greedy
from headrace.selection.permitted import Permitted
from headrace.selection.rows import Rows

_CHECKED = 20_000
"""Rows up to which the objective is computed over all pairs; beyond, it is estimated."""
_SAMPLE = 4096
"""Rows from which it is estimated."""
_BLOCK = 1024
"""Chosen rows that are compared with others at once."""


def by_facility_location(
    graph: NeighbourGraph,
    permitted: Permitted,
    method: Method,
    order: NDArray[np.int64] | None,
    parts: int,
    progress: Callable[[str], None],
) -> Selection:
    """Choose by a greedy, or take the rows of a control and say what they are worth.

    The picks of ``lazy_greedy`` depend on each other too closely to be shared out: the main rank
    makes them.  Those of ``greedi`` are shared out by parts.

    Args:
        graph: the neighbours among the rows of all ranks.
        permitted: what may be chosen.
        method: what the result is called.
        order: positions of the chosen rows; None for a greedy's.
        parts: of ``greedi``.
        progress: is told what goes on.
    """
    rows, ranks = permitted.rows, permitted.rows.ranks
    everything = rows.as_float(rows.fixed_sum())
    must = by_score(everything, rows, permitted.required)
    groups, ties = ranks.gather(rows.groups), ranks.gather(rows.ties)
    costs = None if permitted.costs is None else ranks.gather(permitted.costs)
    gains, bound = np.zeros(0, np.int64), np.zeros(0)
    required = np.zeros(rows.total, bool)
    required[must] = True
    ground = Ground(ties, groups, costs, required)
    if ranks.rank == 0 or method == "greedi":
        progress("edges")
        edges = symmetric_edges(graph, above=0.0, loops=True)
        start = FacilityLocation(edges)
        for row in must.tolist():
            start.add(row)
        tell = every(1000, lambda done: progress(f"{done:,} rows picked"))
        if method == "greedi":
            solver = _Parts(start, ground, tell)
            picks = partitioned_greedy(solver, ground, permitted.room, parts, ranks)
            order = np.concatenate([must, picks])
        elif order is None:
            _, picks = _picks(start, ground, permitted.room, tell)
            order = np.concatenate([must, picks])
    if ranks.rank == 0:
        assert order is not None
        state = FacilityLocation(edges)
        gains = _gains(state, order)
        bound = np.array([state.bound(permitted.room, required, groups, costs)])
    order = ranks.gather(np.zeros(0, np.int64) if order is None or ranks.rank else order)
    gains, bound = ranks.gather(gains), ranks.gather(bound)
    progress("comparing with all pairs")
    objective = int(gains.sum()) / ONE
    return Selection(
        rows=order,
        gains=gains / ONE,
        scores=_mean_cosines(rows, everything, order),
        method=method,
        trade_off=None,
        objective=objective,
        bound=max(float(bound[0]), objective),
        passes=1,
        knee=float("inf"),
        first_negative_gain=None,
        suggested_trade_off=None,
        of="facility_location",
        graph=graph.facts,
        dense_objective=dense_facility_location(rows, order),
    )


def dense_facility_location(rows: Rows, chosen: NDArray[np.int64]) -> float:
    """Facility location of chosen rows (positions) over all pairs, without the graph.

    For more than 20,000 rows it is that of 4,096 rows drawn from a fixed seed, scaled up.  It is
    at least the value on the graph, which counts cosines of neighbours alone.
    """
    sample = np.arange(rows.total)
    if rows.total > _CHECKED:
        sample = np.sort(np.random.default_rng(0).permutation(rows.total)[:_SAMPLE])
    mine = rows.local(sample)
    best = np.zeros(len(mine))
    for start in range(0, len(chosen), _BLOCK):
        copies, _ = rows.gather(rows.local(chosen[start : start + _BLOCK]))
        others = copies.unit(np.arange(len(copies))).T
        for low in range(0, len(mine), _BLOCK):
            part = slice(low, low + _BLOCK)
            np.maximum(best[part], (rows.unit(mine[part]) @ others).max(1), out=best[part])
    # whole numbers add up to the same on any number of ranks
    total = int(rows.ranks.sum(np.array([np.rint(np.minimum(best, 1) * ONE).sum()], np.int64))[0])
    return total / ONE * rows.total / len(sample)


@dataclass(frozen=True)
class _Parts:
    """The lazy greedy on some rows, over the edges of all."""

    start: FacilityLocation
    ground: Ground
    tell: Callable[[], None]

    def load(self, rows: NDArray[np.int64], mine: bool) -> Solve | None:
        if not mine:
            return None
        closed = np.ones(len(self.ground.closed), bool)
        closed[rows] = False
        return lambda room: _picks(self.start, replace(self.ground, closed=closed), room, self.tell)


def _picks(
    start: FacilityLocation, ground: Ground, room: Room, tell: Callable[[], None]
) -> tuple[float, NDArray[np.int64]]:
    """What the greedy's picks add, and the picks; under a budget the better of two greedies.

    These are the one by gain and the one by gain for each unit of cost (Khuller et al.; Lin and
    Bilmes): either alone can be far from the best.
    """
    found = []
    for per_cost in (False,) if room.budget is None else (True, False):
        state = start.copy()
        picks = lazy_greedy(state, ground, room, per_cost=per_cost, after_step=tell)
        found.append(((state.value - start.value) / ONE, np.array(picks, np.int64)))
    return max(found, key=lambda pair: pair[0])


def _gains(state: FacilityLocation, order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Add rows, and say what each one added."""
    gains = np.empty(len(order), np.int64)
    for place, row in enumerate(order.tolist()):
        gains[place] = state.gain(row)
        state.add(row)
    return gains


def _mean_cosines(
    rows: Rows, everything: NDArray[np.float64], order: NDArray[np.int64]
) -> NDArray[np.float64]:
    """``[order]``: the mean cosine of rows at some positions with all rows."""
    mine = rows.local(order)
    positions = rows.ranks.gather(mine + rows.offset)
    scores = rows.ranks.gather(rows.exact_scores(mine, everything)) / rows.total
    sorter = np.argsort(positions)
    return np.asarray(scores[sorter[np.searchsorted(positions, order, sorter=sorter)]])
