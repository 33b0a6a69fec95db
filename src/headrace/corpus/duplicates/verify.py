"""What signatures and hashes say of two documents that were proposed as a pair."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.corpus.duplicates.layout import Layout, Numbers
from headrace.corpus.duplicates.signatures import similarity

_PAIRS = 16_384
"""Pairs that are compared at a time: with 128 permutations 16 MB of signatures."""
_OPEN = 256
_ERRORS = 3
"""Standard errors on either side of the threshold in which an estimate does not decide."""


class Verifier:
    """Looks signatures and hashes up by the numbers of documents."""

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

    def near(self, pairs: Numbers) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """``[pairs]``: whether they are near-duplicates, and whether only their texts can say."""
        near = self._layout.settings.near
        assert near is not None
        estimates = np.empty(len(pairs))
        for start in range(0, len(pairs), _PAIRS):
            chunk = pairs[start : start + _PAIRS]
            a, b = (self._rows("signatures", chunk[:, side]) for side in (0, 1))
            estimates[start : start + _PAIRS] = similarity(a, b)
        error = np.sqrt(near.threshold * (1 - near.threshold) / near.permutations)
        unsure = np.abs(estimates - near.threshold) <= _ERRORS * error
        if near.verify == "signature":
            unsure = np.zeros(len(pairs), np.bool_)
        return (estimates >= near.threshold) & ~unsure, unsure

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
