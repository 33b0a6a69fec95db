"""K-means on the unit sphere through FAISS, and what the clusters are like.

The first centroids are drawn by k-means++ with a generator of its own, FAISS moves them, and the
last steps are taken in fp64: the same vectors give the same clusters on any machine, but for rows
that lie on a border to the last digit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.errors import CorpusError, Problem
from headrace.selection.indexes import load_faiss, threads
from headrace.selection.measures import unit_rows
from headrace.selection.projection import principal_components
from headrace.selection.vectors import Table

PURPOSE = "a split by clusters"
STARTS = 8
"""Draws of first centroids; the one with the smallest error is kept."""
_STEPS = 30
"""Steps that FAISS takes from each."""
_LAST_STEPS = 100
"""Steps in fp64 at most, which end when no row changes its cluster."""
_TRAINED_ON = 1 << 17
"""Rows that the centroids are computed from at most; all others only get the nearest one."""
_BLOCK = 4096
"""Rows in fp64 at once."""
_EQUAL = 1e-9
"""Relative difference of two errors that count as the same."""
_DISTINCT = 1e-10
"""Squared distance from which on two unit rows in fp32 are different."""
_MEASURED = 2000
"""Rows over which a silhouette is measured at most."""
_ON_MAP = 1200


@dataclass(frozen=True)
class Clusters:
    """Clusters of rows, the largest first."""

    numbers: NDArray[np.int32]
    """``[rows]``: the cluster of each row."""
    sizes: tuple[int, ...]
    error: float
    """Mean squared distance of a row to the centroid of its cluster."""


def kmeans(
    vectors: Table, count: int, seed: int, progress: Callable[[], object] = lambda: None
) -> Clusters:
    """Cluster rows by K-means.

    Args:
        vectors: ``[rows, d]``, without NaN and zero rows; need not be normalised.
        count: of clusters.
        seed: of the first centroids.
        progress: called after each start.

    Raises:
        CorpusError: if there are fewer different rows than clusters.
        MissingExtraError: without FAISS.
    """
    faiss = load_faiss(PURPOSE)
    total = len(vectors)
    rows = np.arange(total)
    if total > _TRAINED_ON:
        random = np.random.default_rng(seed)
        rows = np.sort(random.choice(total, _TRAINED_ON, replace=False))
    unit = unit_rows(vectors, rows).numpy()
    best, least = None, np.inf
    for start in range(STARTS):
        first = _plus_plus(unit, count, np.random.default_rng([seed, start]))
        steps = faiss.Kmeans(
            unit.shape[1],
            count,
            niter=_STEPS,
            seed=seed % 2**31,
            min_points_per_centroid=1,
            max_points_per_centroid=len(unit),
        )
        with threads():
            steps.train(unit, init_centroids=first.astype(np.float32))
        centroids, error = _settled(unit, steps.centroids.astype(np.float64))
        if error < least * (1 - _EQUAL):
            best, least = centroids, error
        progress()
    assert best is not None
    numbers = np.empty(total, np.int64)
    distances = 0.0
    for low in range(0, total, _BLOCK):
        block = unit_rows(vectors, np.arange(low, min(low + _BLOCK, total))).numpy()
        nearest, squares = _nearest(block, best)
        numbers[low : low + len(block)] = nearest
        distances += float(squares.sum())
    sizes = np.bincount(numbers, minlength=count)
    if not sizes.all():
        raise _too_few(count)
    firsts = np.array([int(np.argmax(numbers == number)) for number in range(count)])
    order = np.lexsort((firsts, -sizes))
    rank = np.empty(count, np.int32)
    rank[order] = np.arange(count)
    return Clusters(rank[numbers], tuple(sizes[order].tolist()), distances / total)


def silhouette(vectors: Table, clusters: NDArray[np.int32]) -> tuple[float, int] | None:
    """The mean silhouette (Rousseeuw, 1987) over a sample of unit rows, and how many there are.

    Distances are Euclidean; None if the sample has fewer than two clusters.
    """
    random = np.random.default_rng(0)
    size = min(_MEASURED, len(vectors))
    rows = np.sort(random.choice(len(vectors), size, replace=False))
    unit = unit_rows(vectors, rows).double().numpy()
    names, own = np.unique(clusters[rows], return_inverse=True)
    if len(names) < 2:
        return None
    distances = np.sqrt(np.maximum(2 - 2 * unit @ unit.T, 0))
    np.fill_diagonal(distances, 0)
    members = np.eye(len(names))[own]
    sums, sizes = distances @ members, members.sum(0)
    places = np.arange(size), own
    inside = sums[places] / np.maximum(sizes[own] - 1, 1)
    means = sums / sizes
    means[places] = np.inf
    outside = means.min(1)
    values = (outside - inside) / np.maximum(np.maximum(inside, outside), 1e-300)
    return float(np.where(sizes[own] > 1, values, 0.0).mean()), size


def label_counts(
    clusters: NDArray[np.int32], labels: NDArray[np.int64], label_count: int
) -> NDArray[np.int64]:
    """``[clusters, labels]``: how many rows of each cluster have each label."""
    counts = np.zeros((int(clusters.max()) + 1, label_count), np.int64)
    np.add.at(counts, (clusters, labels), 1)
    return counts


def purity(counts: NDArray[np.int64]) -> float:
    """The share of the rows that have the most frequent label (column) of their cluster (row)."""
    return float(counts.max(1).sum() / counts.sum())


def map_of(vectors: Table) -> tuple[NDArray[np.int64], NDArray[np.float64], float]:
    """A seeded sample of rows along their first two principal components.

    Returns their numbers, ``[rows, 2]`` places, and the share of the variance that these hold.
    """
    random = np.random.default_rng(0)
    rows = np.sort(random.choice(len(vectors), min(_ON_MAP, len(vectors)), replace=False))
    unit = unit_rows(vectors, rows).double().numpy()
    centred = unit - unit.mean(0)
    components, variance = principal_components(centred)
    return rows, centred @ components, variance


def _plus_plus(
    unit: NDArray[np.float32], count: int, random: np.random.Generator
) -> NDArray[np.float64]:
    """``[count, d]``: rows drawn by k-means++ (Arthur and Vassilvitskii, 2007)."""
    chosen = [int(random.random() * len(unit))]
    nearest = np.full(len(unit), np.inf)
    while len(chosen) < count:
        _, squares = _nearest(unit, unit[chosen[-1:]].astype(np.float64))
        nearest = np.minimum(nearest, np.where(squares < _DISTINCT, 0.0, squares))
        shares = np.cumsum(nearest)
        if shares[-1] == 0:
            raise _too_few(count)
        place = int(np.searchsorted(shares, random.random() * shares[-1], side="right"))
        chosen.append(min(place, len(unit) - 1))
    return unit[chosen].astype(np.float64)


def _settled(
    unit: NDArray[np.float32], centroids: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    """Centroids that no further step changes, and the mean squared distance to them."""
    before = None
    for _ in range(_LAST_STEPS):
        numbers, squares = _nearest(unit, centroids)
        if before is not None and np.array_equal(numbers, before):
            break
        before = numbers
        for number in np.unique(numbers):
            centroids[number] = unit[numbers == number].mean(0, dtype=np.float64)
    return centroids, float(squares.mean())


def _nearest(
    unit: NDArray[np.float32], centroids: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """``[rows]`` numbers of the nearest centroids, the first of equals, and squared distances."""
    numbers = np.empty(len(unit), np.int64)
    squares = np.empty(len(unit))
    norms = (centroids**2).sum(1)
    for low in range(0, len(unit), _BLOCK):
        part = slice(low, low + _BLOCK)
        block = unit[part].astype(np.float64)
        found = (block**2).sum(1)[:, None] - 2 * block @ centroids.T + norms
        numbers[part] = found.argmin(1)
        squares[part] = np.maximum(found.min(1), 0)
    return numbers, squares


def _too_few(count: int) -> CorpusError:
    what = f"the samples have fewer than {count:,} different embeddings"
    return CorpusError(Problem(what, "by", f"clusters {count}", "Ask for fewer clusters"))
