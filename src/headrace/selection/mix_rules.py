"""A mix of sets of rows as rules that decide on each row by itself.

Frank-Wolfe ends with a mix of a few sets, each of the rows whose product with a vector is above a
threshold.  Let a hash of each row draw one of the sets with the probabilities of the mix, and take
the row if that set has it: the expected sum of the rows taken is that of the mix, and nothing has
to be known of any other row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from headrace.selection.row_stream import BestRows, Kept
from headrace.selection.rows import Rows
from headrace.selection.sampled import uniform

_SALT = 0x5EED
"""The hash by which a row gets its rule is another than that by which it is drawn."""
_ROUNDING = 2.0**-22
"""Relative error of a difference in fp32."""


@dataclass(frozen=True)
class MixRules:
    """A mix of rules: a row belongs to one of them, and is in if its product is large enough."""

    weights: NDArray[np.float64]
    """``[r]``: share of the rows that belong to each rule."""
    queries: NDArray[np.float64]
    """``[r, d]``."""
    thresholds: NDArray[np.float64]
    """``[r, groups]``: a row is in where its product less this is above 0."""

    def of(self, ties: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
        """``[rows]``: the rule of each row, by a hash."""
        bounds = np.cumsum(self.weights)[:-1]
        return np.searchsorted(bounds, uniform(ties, seed + _SALT), side="right")

    def offer(
        self,
        best: BestRows,
        rows: Rows,
        positions: NDArray[np.int64],
        free: NDArray[np.bool_],
        seed: int,
        *,
        vectors: bool,
    ) -> None:
        """Offer the free rows of a batch by how far they are inside their rules.

        Args:
            best: takes them.
            rows: the batch.
            positions: row numbers of this rank.
            free: which rows have a part.
            seed: of the hash.
            vectors: whether to hand over the vectors too.
        """
        which = self.of(rows.ties, seed)
        less = self.thresholds[which, rows.groups]
        keys = _scores(rows, self.queries)[which, np.arange(len(rows))] - less
        error = max(rows.error(query) for query in self.queries)
        error += _ROUNDING * float(np.abs(less).max(initial=0.0))
        some = np.flatnonzero(free & (keys + error >= best.floors[rows.groups]))
        best.offer(
            Kept(
                _exact(rows, some, self.queries[which[some]]) - less[some],
                rows.ties[some],
                rows.groups[some],
                positions[some],
                rows.matrix[some] if vectors else np.empty((len(some), 0), np.float32),
            )
        )

    def taken(self, rows: Rows) -> NDArray[np.bool_]:
        """``[r, rows]``: whether each rule would take each row."""
        less = self.thresholds[:, rows.groups]
        margins = _scores(rows, self.queries) - less
        taken = margins > 0
        for rule, query in enumerate(self.queries):
            error = 2 * rows.error(query) + _ROUNDING * np.abs(less[rule])
            near = np.flatnonzero(np.abs(margins[rule]) <= error)
            queries = np.broadcast_to(query, (len(near), rows.dimensions))
            taken[rule, near] = _exact(rows, near, queries) > less[rule, near]
        return taken


def thresholds_of(
    keys: NDArray[np.float64], groups: NDArray[np.int32], picked: NDArray[np.int64], count: int
) -> NDArray[np.float64]:
    """``[count]``: half way between the last row of each group that is picked and the next."""
    inside = np.zeros(len(keys), bool)
    inside[picked] = True
    low, high = np.full(count, np.inf), np.full(count, -np.inf)
    np.minimum.at(low, groups[inside], keys[inside])
    np.maximum.at(high, groups[~inside], keys[~inside])
    largest = 2 * float(np.abs(keys).max(initial=1.0))
    return np.asarray((np.clip(low, -largest, largest) + np.clip(high, -largest, largest)) / 2)


def _scores(rows: Rows, queries: NDArray[np.float64]) -> NDArray[np.float64]:
    """``[r, rows]``: products to within the error of ``rows``."""
    unit = torch.from_numpy(np.ascontiguousarray(rows.matrix[0 : len(rows)])).float()
    products = torch.from_numpy(queries.astype(np.float32)) @ unit.T
    return products.numpy() * rows.inverse_norms


def _exact(
    rows: Rows, some: NDArray[np.int64], queries: NDArray[np.float64]
) -> NDArray[np.float64]:
    """``[some]`` fp64: the product of each row with its own query, equal wherever it stands."""
    products = rows.matrix[some].astype(np.float64)
    products *= queries
    return np.asarray(np.add.reduce(products, axis=1) * rows.inverse_norms[some])
