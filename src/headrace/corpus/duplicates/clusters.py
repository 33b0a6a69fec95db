"""Fourth stage: sets of documents that edges join, from the edges alone."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from headrace.corpus.duplicates.layout import Numbers
from headrace.errors import MissingExtraError

_AT_ONCE = 1_000_000


def star_edges(edges: Numbers) -> Numbers:
    """The same sets with the fewest edges: from the smallest number of a set to each other one.

    Args:
        edges: ``[edges, 2]``.

    Returns:
        ``[members - sets, 2]``, sorted by the second column, which has no number twice.
    """
    try:
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components
    except ImportError as error:
        raise MissingExtraError("scipy", "corpus", "finding duplicates") from error
    numbers, places = np.unique(edges, return_inverse=True)
    places = places.reshape(-1, 2)
    ones = np.ones(len(places), np.bool_)
    graph = coo_array((ones, (places[:, 0], places[:, 1])), shape=(len(numbers),) * 2)
    _, labels = connected_components(graph, directed=False)
    smallest = np.full(int(labels.max(initial=-1)) + 1, np.iinfo(np.int64).max)
    np.minimum.at(smallest, labels, numbers)
    roots = smallest[labels]
    others = roots != numbers
    return np.stack([roots[others], numbers[others]], 1).astype(np.int64)


def joined(pieces: Iterable[Numbers]) -> Numbers:
    """:func:`star_edges` of all pieces together; no more than twice the result is in memory."""
    result = np.empty((0, 2), np.int64)
    waiting: list[NDArray[np.int64]] = []
    for piece in pieces:
        waiting.append(piece)
        if sum(map(len, waiting)) >= max(_AT_ONCE, len(result)):
            result = star_edges(np.concatenate([result, *waiting]))
            waiting = []
    return star_edges(np.concatenate([result, *waiting]))
