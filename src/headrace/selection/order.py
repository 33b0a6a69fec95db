"""The chosen rows in an order of which each head is a good choice of its size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headrace.selection.checkpoint import Stage
from headrace.selection.curve import by_score
from headrace.selection.greedy import greedy
from headrace.selection.limits import Room
from headrace.selection.objective import GraphCut
from headrace.selection.permitted import Permitted
from headrace.selection.rows import Rows

_READS = 128
"""The greedy that orders many rows trusts its pool so far that it reads them all this often."""
_MOST_COPIED = 1 << 28
"""Bytes of chosen rows that each of several ranks gets copies of, rather than parts."""


def greedy_order(
    cut: GraphCut,
    permitted: Permitted,
    chosen: NDArray[np.int64],
    stage: Stage | None = None,
) -> NDArray[np.int64]:
    """Positions of chosen rows as a greedy would pick them from these, those required first.

    Of up to 1,024 rows the order is that of the exact greedy; of more it is nearly that.
    ``stage`` is where to go on from, and what to tell how far it is.
    """
    rows, must = permitted.rows, permitted.required
    others = np.setdiff1d(chosen, must)
    part = _copies(rows, others) if rows.ranks.size > 1 else None
    if part is None:
        part = rows.subset(others)
    sizes = np.full(len(permitted.room.minimum), part.total)
    picks = greedy(
        part,
        cut,
        Room(part.total, None, np.zeros_like(sizes), sizes),
        start=rows.fixed_sum(must),
        trust=part.total // _READS,
        stage=stage,
    )
    positions = rows.ranks.gather(others + rows.offset)[picks.positions]
    return np.concatenate([by_score(cut.everything, rows, must), positions])


def _copies(rows: Rows, some: NDArray[np.int64]) -> Rows | None:
    """Some rows of all ranks on each of them, in the order of their positions; None if too large.

    A greedy on them picks the same rows, and asks no other rank on the way.
    """
    row_bytes = rows.dimensions * rows.matrix.dtype.itemsize
    size = int(rows.ranks.sum(np.array([len(some)]))[0]) * row_bytes
    return None if size > _MOST_COPIED else rows.gather(some, by_position=True)[0]
