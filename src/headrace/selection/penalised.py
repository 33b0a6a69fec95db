"""The graph cut with the hinge, solved in parts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headrace.selection.chosen import Selection
from headrace.selection.curve import bound_at, by_score, with_curve
from headrace.selection.greedy import greedy
from headrace.selection.hinge import Penalty
from headrace.selection.lazy_greedy import Ground
from headrace.selection.limits import Room
from headrace.selection.objective import GraphCut
from headrace.selection.partitioned import Solve, partitioned_greedy
from headrace.selection.permitted import Permitted


class PenalisedParts:
    """The greedy on some rows, with the sum of all rows and what the required rows take.

    Args:
        cut: the graph cut, of all rows.
        permitted: the rows, and those that must be in.
        penalty: to which those that must be in have been added.
    """

    def __init__(self, cut: GraphCut, permitted: Permitted, penalty: Penalty) -> None:
        self._cut, self._rows, self._penalty = cut, permitted.rows, penalty
        self._start = self._rows.fixed_sum(permitted.required)

    def load(self, rows: NDArray[np.int64], mine: bool) -> Solve | None:
        """Copy the rows of all ranks, and keep them on one."""
        copies, positions = self._rows.gather(self._rows.local(rows))
        if not mine:
            return None

        def solve(room: Room) -> tuple[float, NDArray[np.int64]]:
            penalty = self._penalty.among(positions)
            picks = greedy(copies, self._cut, room, start=self._start, penalty=penalty)
            return float(picks.gains.sum()), positions[picks.positions]

        return solve


def by_parts(cut: GraphCut, permitted: Permitted, penalty: Penalty, parts: int) -> Selection:
    """Choose by the greedy on parts of the rows; the hinge is still to be taken off."""
    rows = permitted.rows
    must = by_score(cut.everything, rows, permitted.required)
    for position in must.tolist():
        penalty.add(position)
    closed = np.zeros(rows.total, bool)
    closed[must] = True
    ground = Ground(rows.ranks.gather(rows.ties), rows.ranks.gather(rows.groups), None, closed)
    solver = PenalisedParts(cut, permitted, penalty)
    picks = partitioned_greedy(solver, ground, permitted.room, parts, rows.ranks)
    order = np.concatenate([must, picks])
    bound = bound_at(cut, permitted, rows.fixed_sum(rows.local(order)))
    return with_curve("greedi", cut, rows, order, bound, 1)
