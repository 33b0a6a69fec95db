"""The chosen rows and what is known about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from headrace.selection.neighbours import GraphFacts

Objective = Literal["graph_cut", "graph_cut_hinge", "facility_location"]
OBJECTIVES: tuple[Objective, ...] = ("graph_cut", "graph_cut_hinge", "facility_location")
Method = Literal[
    "frank_wolfe", "exact_greedy", "lazy_greedy", "greedi", "one_pass", "top_similarity", "random"
]
METHODS: dict[Objective, tuple[Method, ...]] = {
    "graph_cut": ("frank_wolfe", "exact_greedy", "one_pass", "top_similarity", "random"),
    "graph_cut_hinge": ("exact_greedy", "greedi", "top_similarity", "random"),
    "facility_location": ("lazy_greedy", "greedi", "top_similarity", "random"),
}
"""The methods for each objective, of which the first is the default."""


@dataclass(frozen=True)
class Selection:
    """The chosen rows in their order, and what is known about them; the same on all ranks."""

    rows: NDArray[np.int64]
    """``[chosen]``: row numbers, counted through the rows of all ranks.

    The rows that must be in and then the greedy's order; for ``top_similarity`` by score; for
    ``random`` as drawn.
    """
    gains: NDArray[np.float64]
    """``[chosen]``: by how much each row raises the objective over those before it."""
    scores: NDArray[np.float64]
    """``[chosen]``: mean cosine of each row with all rows."""
    method: Method
    trade_off: float | None
    """lambda; None where the objective has none."""
    objective: float
    """f of the chosen rows, from their sum in fp64."""
    bound: float
    """No permitted set has a larger f."""
    passes: int
    """Times that all rows were read by the solver."""
    knee: float
    """About how many rows like these can be chosen before gains turn negative."""
    first_negative_gain: int | None
    """Place (from 1) of the first row in the order that lowers the objective; None if none does."""
    suggested_trade_off: float | None
    """The largest lambda with which the greedy surely picks so many rows without a negative gain.

    Without quotas.  None if no gain is negative, or no lambda of 0 or more is surely small enough.
    """
    of: Objective = "graph_cut"
    """What was maximised."""
    graph: GraphFacts | None = None
    """Of the neighbour graph, where the objective has one."""
    penalty: float | None = None
    """What the hinge takes from the graph cut, where there is one."""
    dense_objective: float | None = None
    """Facility location of the chosen rows over all pairs, not over those of the graph alone; for
    more than 20,000 rows estimated from a part of them."""

    @property
    def gap(self) -> float:
        """By how much the objective can be below the best, in parts of itself; 0 or more.

        Never above 1e12, as for an objective of 0.
        """
        missing = self.bound - self.objective
        return missing / max(abs(self.objective), 1e-12 * missing) if missing > 0 else 0.0
