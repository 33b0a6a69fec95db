"""A penalty on chosen pairs that are more similar than a threshold: the hinge.

``mu * sum over pairs of chosen neighbours of max(0, w_ij - threshold)`` is taken from the graph
cut, which hardly removes copies by itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.errors import Problem
from headrace.selection.edges import ONE, Edges, symmetric_edges
from headrace.selection.neighbours import NeighbourGraph

DEFAULT_THRESHOLD = 0.8


@dataclass(frozen=True)
class Hinge:
    """What is taken from the graph cut."""

    threshold: float = DEFAULT_THRESHOLD
    """Cosine from which two chosen rows are penalised: 0 or more, below 1."""
    weight: float | None = None
    """mu.  If not given it is the number of rows, divided by 1 - threshold: a copy then loses as
    much as no row can gain, as a gain is a sum of at most so many cosines."""

    def problems(self) -> list[Problem]:
        """All that is wrong with it."""
        problems = []
        if not 0 <= self.threshold < 1:
            remedy = "Give 0 or more, below 1"
            problems.append(Problem("out of range", "threshold", str(self.threshold), remedy))
        if self.weight is not None and not (np.isfinite(self.weight) and self.weight >= 0):
            remedy = "Give a number, 0 or more"
            problems.append(Problem("out of range", "penalty", str(self.weight), remedy))
        return problems

    def on(self, graph: NeighbourGraph) -> Penalty:
        """The penalty while no row is chosen."""
        edges = symmetric_edges(graph, above=self.threshold, loops=False)
        count = len(edges)
        weight = count / (1 - self.threshold) if self.weight is None else self.weight
        edges.weights[:] -= round(self.threshold * ONE)
        return Penalty(edges, weight, np.zeros(count, np.int64))


@dataclass(frozen=True)
class Penalty:
    """What each row would lose next to the rows that are chosen; it only grows."""

    edges: Edges
    """Between rows that are more similar than the threshold, with what they are more."""
    weight: float
    """mu."""
    taken: NDArray[np.int64]
    """``[rows]``, by position: sum of the weights of edges to chosen rows."""

    def fresh(self) -> Penalty:
        """The same penalty while no row is chosen."""
        return Penalty(self.edges, self.weight, np.zeros_like(self.taken))

    def of(self, positions: NDArray[np.int64] | slice) -> NDArray[np.float64]:
        """``[positions]``: what rows lose, the same for the same sums."""
        return np.asarray(self.taken[positions] * (self.weight / ONE), np.float64)

    def among(self, positions: NDArray[np.int64]) -> Penalty:
        """The same for some rows alone, whose positions are counted through these."""
        return Penalty(self.edges.among(positions), self.weight, self.taken[positions])

    @property
    def largest(self) -> float:
        """The most that any row loses."""
        return float(self.taken.max(initial=0)) * (self.weight / ONE)

    def add(self, position: int) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """A row is chosen: positions of rows that lose more from now on, and how much more."""
        columns, weights = self.edges.of(position)
        self.taken[columns] += weights
        return columns, np.asarray(weights * (self.weight / ONE), np.float64)

    def along(self, order: NDArray[np.int64]) -> NDArray[np.float64]:
        """``[order]``: what each row loses next to those before it."""
        fresh = self.fresh()
        lost = np.empty(len(order))
        for place, position in enumerate(order.tolist()):
            lost[place] = fresh.of(slice(position, position + 1))[0]
            fresh.add(position)
        return lost
