"""apricot: graph cut or facility location on a ready matrix of cosines, negative ones as 0."""

from __future__ import annotations

from typing import Any

import numpy as np
from apricot import (  # type: ignore[import-not-found]
    FacilityLocationSelection,
    GraphCutSelection,
)


def choose(
    vectors: np.ndarray[Any, Any], rows: int, trade_off: float, task: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """Its graph cut takes twice a row of the matrix, and weighs the sums instead."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    matrix = unit @ unit.T
    np.maximum(matrix, 0, out=matrix)
    matrix = matrix.astype(np.float64)  # what it computes in
    if task["function"] == "facility_location":
        found = FacilityLocationSelection(rows, metric="precomputed", optimizer="lazy")
    else:
        found = GraphCutSelection(
            rows, metric="precomputed", alpha=2 / (2 + trade_off), optimizer="lazy"
        )
    return found.fit(matrix).ranking, {}
