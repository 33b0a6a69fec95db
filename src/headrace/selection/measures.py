"""What a selection is like: near-copies among the chosen, and how near the chosen lie to all rows.

Both need cosines of rows with chosen rows, which are computed block by block: exactly where these
are not too many, and otherwise for a seeded sample of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from headrace.selection.ranks import Ranks
from headrace.selection.vectors import Table

DEFAULT_DUPLICATE_COSINE = 0.95
HEADS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Shares of the order whose coverage is measured."""
RANDOM_SEEDS = (0, 1, 2)
_COSINES = 100_000_000
"""Cosines that are computed for coverage, and again for duplicates, before rows are sampled."""
_SAMPLED = (256, 2000)
"""Rows of a sample: the fewest and the most."""
_BLOCK = 1024
"""Chosen rows, and rows compared with them, that are in memory at once."""
_ROUNDING = 1e-6
"""What an fp32 cosine may be off by."""


@dataclass(frozen=True)
class Coverage:
    """The largest cosine of a row with a chosen row, as the mean over rows."""

    sizes: tuple[int, ...]
    """Lengths of heads of the order; the last is all of it.  Empty if nothing is chosen."""
    chosen: tuple[float, ...]
    """Coverage of each head."""
    random: tuple[float, ...]
    """Of as many random rows; mean over ``RANDOM_SEEDS``."""
    random_deviation: float
    """Sample standard deviation over the seeds, of as many rows as are chosen."""
    measured: int
    """Rows over which the means are: all, or those of a sample."""


@dataclass(frozen=True)
class Duplicates:
    """Near-copies among the chosen rows."""

    cosine: float
    """From this cosine on a row counts as a copy."""
    share: float
    """Part of the chosen rows that are copies of one before them in the order."""
    measured: int
    """Chosen rows that were looked at: all, or those of a sample."""


@dataclass(frozen=True)
class Measures:
    """Both."""

    coverage: Coverage
    duplicates: Duplicates


def measure(
    vectors: Table, chosen: NDArray[np.int64], cosine: float, ranks: Ranks | None = None
) -> Measures:
    """Coverage and duplicates; arguments as of :func:`coverage` and :func:`duplicates`."""
    return Measures(coverage(vectors, chosen, ranks), duplicates(vectors, chosen, cosine, ranks))


def coverage(vectors: Table, chosen: NDArray[np.int64], ranks: Ranks | None = None) -> Coverage:
    """How near the chosen rows lie to all rows, beside random rows of equal number.

    Every rank calls it with the same arguments, and measures its part of the rows.

    Args:
        vectors: ``[rows, d]`` of all ranks, without NaN and zero rows; need not be normalised.
        chosen: ``[chosen]`` row numbers in their order.
        ranks: who shares the work.
    """
    ranks = ranks or Ranks()
    total, count = len(vectors), len(chosen)
    if not count:
        return Coverage((), (), (), 0.0, 0)
    rows = _sample(total, count * (1 + len(RANDOM_SEEDS)))
    sizes = sorted({max(1, round(share * count)) for share in HEADS})
    orders = [chosen] + [
        np.random.default_rng(seed).choice(total, count, replace=False) for seed in RANDOM_SEEDS
    ]
    mine = rows[ranks.rank :: ranks.size]
    sums = np.array([_largest_cosines(vectors, mine, order, sizes).sum(0) for order in orders])
    means = ranks.sum(sums) / len(rows)
    return Coverage(
        tuple(sizes),
        tuple(means[0].tolist()),
        tuple(means[1:].mean(0).tolist()),
        float(means[1:, -1].std(ddof=1)),
        len(rows),
    )


def duplicates(
    vectors: Table, chosen: NDArray[np.int64], cosine: float, ranks: Ranks | None = None
) -> Duplicates:
    """How many of the chosen rows are near-copies of others; arguments as of :func:`coverage`."""
    ranks = ranks or Ranks()
    places = _sample(len(chosen), len(chosen) // 2)
    mine = places[ranks.rank :: ranks.size]
    found = sum(
        _copies(vectors, chosen, mine[start : start + _BLOCK], cosine)
        for start in range(0, len(mine), _BLOCK)
    )
    copies = int(ranks.sum(np.array([found]))[0])
    return Duplicates(cosine, copies / max(1, len(places)), len(places))


def unit_rows(vectors: Table, rows: NDArray[np.int64]) -> torch.Tensor:
    """``[len(rows), d]`` fp32: some rows, divided by their norms."""
    part = torch.from_numpy(vectors[rows]).float()
    return part.div_(part.norm(dim=1, keepdim=True))


def _sample(total: int, cosines: int) -> NDArray[np.int64]:
    """Numbers below ``total``, each of which takes some cosines: all, or a seeded sample."""
    if total * cosines <= _COSINES:
        return np.arange(total)
    fewest, most = _SAMPLED
    size = min(total, max(fewest, min(most, _COSINES // cosines)))
    return np.sort(np.random.default_rng(0).choice(total, size, replace=False))


def _largest_cosines(
    vectors: Table, rows: NDArray[np.int64], order: NDArray[np.int64], sizes: Sequence[int]
) -> NDArray[np.float64]:
    """``[rows, heads]``: the largest cosine of each row with a row of each head of an order."""
    largest = np.empty((len(rows), len(sizes)))
    group = max(_BLOCK, min(len(rows), _SAMPLED[1]))
    for start in range(0, len(rows), group):
        part = slice(start, start + group)
        some = unit_rows(vectors, rows[part])
        best = torch.full((len(some),), -1.0)
        before = 0
        for head, size in enumerate(sizes):
            for low in range(before, size, _BLOCK):
                block = unit_rows(vectors, order[low : min(low + _BLOCK, size)])
                best = torch.maximum(best, (some @ block.T).amax(1))
            largest[part, head] = best.clamp(max=1.0).numpy()
            before = size
    return largest


def _copies(
    vectors: Table, chosen: NDArray[np.int64], places: NDArray[np.int64], cosine: float
) -> int:
    """How many of the rows at some places have a near-copy at a place before them."""
    found = 0
    some = unit_rows(vectors, chosen[places])
    left = torch.from_numpy(places)
    for low in range(0, int(places.max(initial=0)), _BLOCK):
        behind = left > low
        some, left = some[behind], left[behind]
        if not len(left):
            break
        block = unit_rows(vectors, chosen[low : low + _BLOCK])
        near = some @ block.T >= cosine - _ROUNDING
        near &= torch.arange(low, low + len(block)) < left[:, None]
        copy = near.any(1)
        found += int(copy.sum())
        some, left = some[~copy], left[~copy]
    return found
