"""Second stage: which documents under the same keys are duplicates.

A bucket is what stands under one key of a band.  Copies of one text count once in it: they are
joined to the first of them, not to each other, under the key of their text.  In a bucket of no more
than :data:`SMALL` texts every pair is looked at.  In a larger one texts are compared with a few
leaders: the first text of the bucket, by content hash, takes all that are its near-duplicates, then
the first that is left takes its own, up to :data:`LEADERS` times: never a quadratic number of
pairs.  Texts that no leader has taken are counted; they have their other bands.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headrace.corpus.duplicates.buckets import ENTRY
from headrace.corpus.duplicates.clusters import star_edges
from headrace.corpus.duplicates.layout import Layout, Numbers, load_layout, write_arrays
from headrace.corpus.duplicates.verify import Verifier

SMALL = 64
LEADERS = 64
_AT_ONCE = 1_000_000
"""Pairs that are made at a time."""


@dataclass
class Found:
    """What a partition says."""

    candidates: int = 0
    """Pairs of texts that were compared; more than once, where they are far apart."""
    accepted: int = 0
    """Of these, near-duplicates."""
    unexamined: int = 0
    """Texts of large buckets that no leader took."""


class _Collected:
    """Edges and open pairs, as they are found."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier
        self.found = Found()
        self.edges = [np.empty((0, 2), np.int64)]
        self.unsure = [np.empty((0, 2), np.int64)]

    def compare(self, proposed: Numbers) -> NDArray[np.bool_]:
        """Which of the pairs are near-duplicates for sure."""
        near, unsure = self._verifier.near(proposed)
        self.found.candidates += len(near)
        self.found.accepted += int(near.sum())
        self.edges.append(proposed[near])
        self.unsure.append(proposed[unsure])
        return near


def pairs(folder: Path, partition: int) -> Found:
    """Write the edges between duplicates of one partition: ``pairs-N.npz``.

    The edges (``[edges, 2]`` numbers of documents) join what the partition joins, and no more than
    that: no circles, the first document of each set on the one side.  Pairs that must be decided by
    their texts are ``unsure``, without those that the edges have joined.
    """
    layout = load_layout(folder)
    done = layout.path("pairs", partition, ".npz")
    if not done.exists():
        entries = _entries(layout, partition)
        verifier = Verifier(layout)
        collected = _Collected(verifier)
        collected.edges.append(_copies(entries, verifier))
        _near(entries, collected)
        edges = star_edges(np.concatenate(collected.edges))
        unsure = _apart(_distinct(np.concatenate(collected.unsure)), edges)
        found = collected.found
        counts = np.array([found.candidates, found.accepted, found.unexamined])
        write_arrays(done, edges=edges, unsure=unsure, counts=counts)
    with np.load(done) as file:
        return Found(*file["counts"].tolist())


def _entries(layout: Layout, partition: int) -> NDArray[np.void]:
    """All entries of a partition, by key, then text, then number."""
    pieces = []
    for number in range(len(layout.parts)):
        starts = np.load(layout.path("bands", number, "-starts.npy"), mmap_mode="r")
        entries = np.load(layout.path("bands", number), mmap_mode="r")
        pieces.append(np.array(entries[starts[partition] : starts[partition + 1]]))
    entries = np.concatenate(pieces) if pieces else np.empty(0, ENTRY)
    return entries[np.lexsort([entries["number"], entries["text"], entries["key"]])]


def _copies(entries: NDArray[np.void], verifier: Verifier) -> Numbers:
    """Edges from the first document of each text to its copies."""
    entries = entries[entries["key"] % 2 == 1]
    numbers = entries["number"]
    starts, lengths = _runs(entries["key"])
    edges = np.stack([np.repeat(numbers[starts], lengths), numbers], 1)
    edges = edges[edges[:, 0] != edges[:, 1]]
    return np.asarray(edges[verifier.same_text(edges)])


def _near(entries: NDArray[np.void], collected: _Collected) -> None:
    """Compare what stands under one key of a band."""
    entries = entries[entries["key"] % 2 == 0]
    new = np.ones(len(entries), np.bool_)
    new[1:] = (entries["key"][1:] != entries["key"][:-1]) | (
        entries["text"][1:] != entries["text"][:-1]
    )
    entries = entries[new]  # the first copy stands for the others
    numbers = entries["number"]
    starts, lengths = _runs(entries["key"])
    for proposed in _small(numbers, starts, lengths):
        collected.compare(proposed)
    for start, length in zip(starts[lengths > SMALL], lengths[lengths > SMALL], strict=True):
        _large(numbers[start : start + length], collected)


def _small(
    numbers: Numbers, starts: NDArray[np.int64], lengths: NDArray[np.int64]
) -> Iterator[Numbers]:
    """All pairs of the small buckets, in pieces of a limited size."""
    made: list[Numbers] = []
    for length in np.unique(lengths[(lengths > 1) & (lengths <= SMALL)]):
        left, right = np.triu_indices(length, 1)
        own = starts[lengths == length]
        step = max(1, _AT_ONCE // len(left))
        for first in range(0, len(own), step):
            places = own[first : first + step, None]
            made.append(
                np.stack([numbers[places + left], numbers[places + right]], -1).reshape(-1, 2)
            )
            if sum(map(len, made)) >= _AT_ONCE:
                yield _distinct(np.concatenate(made))
                made = []
    if made:
        yield _distinct(np.concatenate(made))


def _distinct(edges: Numbers) -> Numbers:
    """Each pair once, the smaller number first, sorted."""
    edges = np.sort(edges, 1)
    edges = edges[np.lexsort([edges[:, 1], edges[:, 0]])]
    new = np.ones(len(edges), np.bool_)
    new[1:] = (edges[1:] != edges[:-1]).any(1)
    return np.asarray(edges[new])


def _large(numbers: Numbers, collected: _Collected) -> None:
    for _ in range(LEADERS):
        if len(numbers) < 2:
            return
        leader, numbers = numbers[0], numbers[1:]
        near = collected.compare(np.stack([np.full(len(numbers), leader), numbers], 1))
        numbers = numbers[~near]
    collected.found.unexamined += len(numbers)


def _apart(pairs: Numbers, edges: Numbers) -> Numbers:
    """The pairs that stars do not join."""
    numbers, places = np.unique(pairs, return_inverse=True)
    roots = numbers.copy()
    at = np.searchsorted(edges[:, 1], numbers)
    inside = at < len(edges)
    at[~inside] = 0
    if len(edges):
        joined = inside & (edges[at, 1] == numbers)
        roots[joined] = edges[at[joined], 0]
    sides = roots[places.reshape(-1, 2)]
    return np.asarray(pairs[sides[:, 0] != sides[:, 1]])


def _runs(keys: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each run of equal keys begins, and its length."""
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])[: len(keys)])
    return starts, np.diff(starts, append=len(keys))
