"""How much of a text says again what it has said: lines, paragraphs, runs of words.

The measures of Rae et al. 2021, "Scaling language models: methods, analysis & insights from
training Gopher", table A1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_WORDS = 20_000
"""Runs are looked for among the first so many words: what repeats does so early."""
_CHARACTERS = 100_000
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


def repeated(pieces: Sequence[str]) -> tuple[float, float]:
    """Share of the pieces that occurred before, and of their characters."""
    again = len(pieces) - len(set(pieces))
    if not again:
        return 0.0, 0.0
    counts = Counter(pieces)
    characters = sum(len(piece) * (count - 1) for piece, count in counts.items())
    total = sum(len(piece) * count for piece, count in counts.items())
    return again / len(pieces), characters / total


class Runs:
    """The runs of a sequence of words, or of characters where there is no white space.

    Runs are compared by 64-bit codes.
    """

    def __init__(self, units: npt.NDArray[np.uint64], lengths: npt.NDArray[np.int64]) -> None:
        self._units = units
        self._ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        self._codes = units.copy()
        self._length = 1
        self._all_differ = False
        """Whether no run of the last length occurred twice: then none of a longer one does."""

    @classmethod
    def of_words(cls, words: Sequence[str]) -> Runs:
        """Runs of the first words of a text."""
        words = words[:_WORDS]
        numbers: dict[str, int] = {}
        units = [numbers.setdefault(word, len(numbers)) for word in words]
        return cls(np.array(units, np.uint64), np.array([len(word) for word in words], np.int64))

    @classmethod
    def of_characters(cls, text: str) -> Runs:
        """Runs of the first characters of a text without white space."""
        data = text[:_CHARACTERS].encode("utf-32-le", "surrogatepass")
        units = np.frombuffer(data, "<u4").astype(np.uint64)
        return cls(units, np.ones(len(units), np.int64))

    def commonest(self, length: int) -> float:
        """Share of the characters that are in the commonest run of so many units.

        0 where no run occurs twice; of equally common runs the longest counts.
        """
        codes = self._of(length)
        if codes is None:
            return 0.0
        _, first, counts = np.unique(codes, return_index=True, return_counts=True)
        times = int(counts.max())
        starts = first[counts == times]
        longest = int((self._ends[starts + length] - self._ends[starts]).max())
        return min(longest * times / int(self._ends[-1]), 1.0)

    def repeated(self, length: int) -> float:
        """Share of the characters that are in runs of so many units which occurred before.

        A character in several such runs counts once.
        """
        codes = self._of(length)
        if codes is None:
            return 0.0
        _, first = np.unique(codes, return_index=True)
        again = np.ones(len(codes), bool)
        again[first] = False
        starts = np.flatnonzero(again)
        steps = np.zeros(len(self._units) + 1, np.int64)
        steps[starts] += 1
        steps[starts + length] -= 1
        inside = np.cumsum(steps[:-1]) > 0
        return float(np.diff(self._ends)[inside].sum() / self._ends[-1])

    def _of(self, length: int) -> npt.NDArray[np.uint64] | None:
        """A code for each run, or None if no two are equal; the shortest lengths come first."""
        if self._all_differ:
            return None
        while self._length < length and len(self._codes):
            self._codes = self._codes[:-1] * _FACTOR + self._units[self._length :]
            self._length += 1
        self._all_differ = len(set(self._codes.tolist())) == len(self._codes)
        return None if self._all_differ else self._codes
