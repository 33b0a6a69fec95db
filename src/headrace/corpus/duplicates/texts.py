"""Third stage: pairs of which the signatures leave it open are decided by their texts.

The text of a part is read once, and the shingles of those documents that are in such a pair lie on
disk until the pairs of all partitions are decided.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from headrace.corpus.duplicates.clusters import star_edges
from headrace.corpus.duplicates.layout import (
    Layout,
    Numbers,
    load_layout,
    write_array,
    write_arrays,
)
from headrace.corpus.duplicates.shingles import Hashes, shingles

_UNSURE_NAME = "unsure.npy"


def gather(folder: Path) -> None:
    """Write the numbers of all documents whose texts are needed."""
    layout = load_layout(folder)
    done = folder / _UNSURE_NAME
    if not done.exists():
        numbers = np.empty(0, np.int64)
        for partition in range(layout.partitions):
            numbers = np.union1d(numbers, _unsure(layout, partition))
        write_array(done, numbers)


def cut(folder: Path, number: int) -> None:
    """Write the shingles of those documents of a part whose texts are needed.

    ``shingles-N.npy`` has them one after another, ``shingles-N-ends.npy`` where those of each end.
    """
    layout = load_layout(folder)
    done = layout.path("shingles", number)
    if done.exists():
        return
    rows = _own(layout, number) - layout.firsts[number]
    near = layout.settings.near
    assert near is not None
    sets: list[Hashes] = [np.empty(0, np.uint64)]
    if len(rows):
        table = pq.read_table(layout.parts[number].file, columns=["text"])
        for text in table["text"].take(pa.array(rows)):
            sets.append(shingles(text.as_py().decode("utf-8", "surrogatepass"), near))
    write_array(layout.path("shingles", number, "-ends.npy"), np.cumsum([len(s) for s in sets]))
    write_array(done, np.concatenate(sets))


def check(folder: Path, partition: int) -> int:
    """Decide the open pairs of a partition: ``checked-N.npz``, as :func:`pairs` writes edges.

    Returns:
        How many are near-duplicates.
    """
    layout = load_layout(folder)
    done = layout.path("checked", partition, ".npz")
    if not done.exists():
        near = layout.settings.near
        assert near is not None
        texts = _Shingles(layout)
        pairs = _unsure(layout, partition)
        accepted = np.zeros(len(pairs), np.bool_)
        last, left = -1, np.empty(0, np.uint64)
        for place, (a, b) in enumerate(pairs.tolist()):
            if a != last:  # they are sorted
                last, left = a, texts.of(a)
            accepted[place] = jaccard(left, texts.of(b)) >= near.threshold
        write_arrays(done, edges=star_edges(pairs[accepted]), accepted=accepted.sum())
    with np.load(done) as file:
        return int(file["accepted"])


def jaccard(a: Hashes, b: Hashes) -> float:
    """Jaccard similarity of two sets of shingles, each sorted and without repetitions."""
    common = len(np.intersect1d(a, b, assume_unique=True))
    union = len(a) + len(b) - common
    return common / union if union else 1.0


class _Shingles:
    """Looks the shingles of documents up by their numbers."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._open: dict[int, tuple[Numbers, NDArray[np.int64], Hashes]] = {}

    def of(self, number: int) -> Hashes:
        layout = self._layout
        part = int(layout.part_of(np.array([number]))[0])
        if part not in self._open:
            ends = np.load(layout.path("shingles", part, "-ends.npy"))
            hashes = np.load(layout.path("shingles", part), mmap_mode="r")
            self._open[part] = (_own(layout, part), ends, hashes)
        numbers, ends, hashes = self._open[part]
        place = int(np.searchsorted(numbers, number))
        return np.array(hashes[ends[place] : ends[place + 1]])


def _unsure(layout: Layout, partition: int) -> Numbers:
    with np.load(layout.path("pairs", partition, ".npz")) as file:
        return np.asarray(file["unsure"])


def _own(layout: Layout, number: int) -> Numbers:
    numbers = np.load(layout.folder / _UNSURE_NAME, mmap_mode="r")
    low, high = np.searchsorted(numbers, layout.firsts[number : number + 2])
    return np.array(numbers[low:high])
