"""A neighbour graph made symmetric, as lists of edges with weights in fixed point."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.selection.neighbours import NeighbourGraph

ONE = 1 << 30
"""A similarity of 1 in fixed point: sums of weights are exact, whatever their order."""
_ROWS = 1 << 14
"""Rows whose edges are looked at together."""


@dataclass(frozen=True)
class Edges:
    """The edges of row ``i`` are those from ``offsets[i]`` to before ``offsets[i + 1]``."""

    offsets: NDArray[np.int64]
    """``[rows + 1]``."""
    columns: NDArray[np.int32]
    """``[edges]``: the other end of each."""
    weights: NDArray[np.int32]
    """``[edges]``: similarities of 2**-30 each."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def of(self, row: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Columns and weights of the edges of a row."""
        part = slice(self.offsets[row], self.offsets[row + 1])
        return self.columns[part], self.weights[part]

    def places(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where the edges of some rows are, one row after the other, and how many each has."""
        lengths = self.offsets[rows + 1] - self.offsets[rows]
        return np.repeat(self.offsets[rows], lengths) + _places_of_runs(lengths), lengths

    def among(self, rows: NDArray[np.int64]) -> Edges:
        """The edges between some rows, which are counted through these."""
        number = np.full(len(self), -1, np.int32)
        number[rows] = np.arange(len(rows))
        places, lengths = self.places(rows)
        columns = number[self.columns[places]]
        kept = columns >= 0
        sources = np.repeat(np.arange(len(rows)), lengths)[kept]
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(np.bincount(sources, minlength=len(rows)), out=offsets[1:])
        return Edges(offsets, columns[kept], self.weights[places[kept]])


def symmetric_edges(graph: NeighbourGraph, *, above: float, loops: bool) -> Edges:
    """Edges between rows one of which is a neighbour of the other.

    Args:
        graph: the neighbours.
        above: only similarities larger than this make an edge; 0 or more.
        loops: whether each row has an edge to itself, of similarity 1.
    """
    indices, similarities = graph.indices, graph.similarities
    count = len(indices)
    starts = range(0, count, _ROWS)
    own = np.zeros(count, np.int64)
    back: list[tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]] = []
    for start in starts:
        part = slice(start, start + _ROWS)
        kept = (indices[part] >= 0) & (similarities[part] > above)
        own[part] = kept.sum(1)
        sources, places = np.nonzero(kept)
        sources += start
        targets = indices[sources, places]
        # `similarities` of (i, j) and (j, i) are equal: an edge is kept at both ends or at none
        one_way = ~(indices[targets] == sources[:, None]).any(1)
        weights = _fixed(similarities[sources, places])
        back.append((targets[one_way], sources[one_way].astype(np.int32), weights[one_way]))
    rows, columns, weights = (np.concatenate(some) for some in zip(*back, strict=True))
    loop = int(loops)
    offsets = np.zeros(count + 1, np.int64)
    np.cumsum(own + np.bincount(rows, minlength=count) + loop, out=offsets[1:])
    edges = Edges(offsets, np.empty(offsets[-1], np.int32), np.empty(offsets[-1], np.int32))
    if loops:
        edges.columns[offsets[:-1]] = np.arange(count)
        edges.weights[offsets[:-1]] = ONE
    for start in starts:
        part = slice(start, start + _ROWS)
        kept = (indices[part] >= 0) & (similarities[part] > above)
        first = np.repeat(offsets[:-1][part] + loop, own[part])
        into = first + _places_of_runs(own[part])
        edges.columns[into] = indices[part][kept]
        edges.weights[into] = _fixed(similarities[part][kept])
    order = np.argsort(rows, kind="stable")
    counts = np.bincount(rows, minlength=count)
    into = np.repeat(offsets[:-1] + loop + own, counts) + _places_of_runs(counts)
    edges.columns[into], edges.weights[into] = columns[order], weights[order]
    return edges


def _fixed(similarities: NDArray[np.float32]) -> NDArray[np.int32]:
    return np.rint(similarities.astype(np.float64) * ONE).astype(np.int32)


def _places_of_runs(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """0, 1, ... for each of some runs, one after the other."""
    ends = np.cumsum(lengths)
    return np.arange(int(lengths.sum())) - np.repeat(ends - lengths, lengths)
