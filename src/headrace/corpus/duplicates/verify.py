"""Whether two documents that were proposed as a pair are one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from headrace.corpus.duplicates.layout import Layout, Numbers
from headrace.corpus.duplicates.settings import NearSettings
from headrace.corpus.duplicates.shingles import Hashes, shingles
from headrace.corpus.duplicates.signatures import similarity

_PAIRS = 16_384
"""Pairs that are compared at a time: with 128 permutations 16 MB of signatures."""
_TEXT_PAIRS = 2_048
"""Pairs whose texts are in memory at a time."""
_OPEN = 256
_ERRORS = 3
"""Standard errors on either side of the threshold in which an estimate does not decide."""


class Verifier:
    """Looks signatures, hashes and texts up by the numbers of documents."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._open: dict[tuple[str, int], NDArray[Any]] = {}

    def same_text(self, pairs: Numbers) -> NDArray[np.bool_]:
        """``[pairs]``: whether all of their content hashes are equal."""
        same = np.empty(len(pairs), np.bool_)
        for start in range(0, len(pairs), _PAIRS):
            chunk = pairs[start : start + _PAIRS]
            a, b = (self._rows("hashes", chunk[:, side]) for side in (0, 1))
            same[start : start + _PAIRS] = (a == b).all(-1)
        return same

    def near(self, pairs: Numbers) -> NDArray[np.bool_]:
        """``[pairs]``: whether they are near-duplicates."""
        near = self._settings
        estimates = np.empty(len(pairs))
        for start in range(0, len(pairs), _PAIRS):
            chunk = pairs[start : start + _PAIRS]
            a, b = (self._rows("signatures", chunk[:, side]) for side in (0, 1))
            estimates[start : start + _PAIRS] = similarity(a, b)
        accepted = estimates >= near.threshold
        if near.verify == "text":
            error = np.sqrt(near.threshold * (1 - near.threshold) / near.permutations)
            unsure = np.flatnonzero(np.abs(estimates - near.threshold) <= _ERRORS * error)
            for start in range(0, len(unsure), _TEXT_PAIRS):
                places = unsure[start : start + _TEXT_PAIRS]
                accepted[places] = self._by_text(pairs[places])
        return accepted

    @property
    def _settings(self) -> NearSettings:
        near = self._layout.settings.near
        assert near is not None
        return near

    def _rows(self, kind: str, numbers: Numbers) -> NDArray[Any]:
        """The rows of documents in the files of one kind, in the order that is asked for."""
        parts = self._layout.part_of(numbers)
        first = self._file(kind, int(parts[0]))
        found = np.empty((len(numbers), first.shape[1]), first.dtype)
        for part in np.unique(parts):
            places = np.flatnonzero(parts == part)
            rows = numbers[places] - self._layout.firsts[part]
            found[places] = self._file(kind, int(part))[rows]
        return found

    def _file(self, kind: str, part: int) -> NDArray[Any]:
        if (kind, part) not in self._open:
            if len(self._open) >= _OPEN:
                self._open.pop(next(iter(self._open)))
            file = self._layout.path(kind, part)
            self._open[kind, part] = np.load(file, mmap_mode="r")
        return self._open[kind, part]

    def _by_text(self, pairs: Numbers) -> NDArray[np.bool_]:
        sets = self._shingles(np.unique(pairs))
        accepted = np.empty(len(pairs), np.bool_)
        for place, (a, b) in enumerate(pairs.tolist()):
            accepted[place] = jaccard(sets[a], sets[b]) >= self._settings.threshold
        return accepted

    def _shingles(self, numbers: Numbers) -> dict[int, Hashes]:
        found: dict[int, Hashes] = {}
        parts = self._layout.part_of(numbers)
        for part in np.unique(parts):
            own = numbers[parts == part]
            table = pq.read_table(self._layout.parts[part].file, columns=["text"])
            texts = table["text"].take(pa.array(own - self._layout.firsts[part])).to_pylist()
            for number, text in zip(own.tolist(), texts, strict=True):
                found[number] = shingles(text.decode("utf-8", "surrogatepass"), self._settings)
        return found


def jaccard(a: Hashes, b: Hashes) -> float:
    """Jaccard similarity of two sets of shingles, each sorted and without repetitions."""
    common = len(np.intersect1d(a, b, assume_unique=True))
    union = len(a) + len(b) - common
    return common / union if union else 1.0
