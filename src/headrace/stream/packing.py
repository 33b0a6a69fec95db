"""Rows that hold several samples, and how samples are packed into them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.stream.feistel import Int64Array
from headrace.stream.plan import Locations


@dataclass(frozen=True)
class Packs:
    """Rows of several samples each."""

    samples: Locations
    """The samples of the first row, then those of the second, and so on."""
    starts: Int64Array
    """Index of the first sample of each row, and behind the last row; int64[rows + 1]."""

    def __len__(self) -> int:
        return len(self.starts) - 1

    def take(self, chosen: Int64Array | slice) -> Packs:
        """The rows at the given indices or slice, in that order."""
        first = self.starts[:-1][chosen]
        sizes = np.diff(self.starts)[chosen]
        starts = starts_of(sizes)
        index = np.arange(starts[-1]) + np.repeat(first - starts[:-1], sizes)
        return Packs(self.samples.take(index), starts)

    def keep(self, chosen: NDArray[np.bool_]) -> Packs:
        """Only the samples for which ``chosen`` (bool[samples]) holds; no row is left empty."""
        kept = starts_of(chosen.astype(np.int64))[self.starts]
        return Packs(self.samples.take(np.flatnonzero(chosen)), np.unique(kept))

    def join(self, other: Packs) -> Packs:
        """These rows, and behind them those of ``other``."""
        starts = np.concatenate((self.starts, self.starts[-1] + other.starts[1:]))
        return Packs(self.samples.join(other.samples), starts)


def samples_of(batch: Locations | Packs) -> Locations:
    """The samples of a batch, row after row."""
    return batch.samples if isinstance(batch, Packs) else batch


def starts_of(sizes: NDArray[np.int64]) -> Int64Array:
    """Where stretches of these sizes start, and where the last one ends; int64[n + 1]."""
    starts = np.zeros(len(sizes) + 1, dtype=np.int64)
    np.cumsum(sizes, out=starts[1:])
    return starts


def best_fit_decreasing(lengths: NDArray[np.int32], capacity: int) -> tuple[Int64Array, Int64Array]:
    """Pack samples of some lengths into rows of ``capacity`` tokens.

    Samples are taken from the longest to the shortest, equally long ones in the order given.  Each
    goes into the row with the least space that it fits into, of several such rows into the one
    that has had this space for the longest time; if it fits into none, it opens a row (best-fit
    decreasing: Johnson 1974, at most 11/9 of the least number of rows and about 4 more).

    Returns the samples' indices row after row, rows in the order in which they were opened, and
    ``starts``, int64[rows + 1], which delimits the rows.  A length is 1 to ``capacity``.
    """
    decreasing = np.argsort(-lengths, kind="stable")
    values, counts = np.unique(lengths, return_counts=True)
    row_of: list[int] = []
    with_space: list[list[int]] = [[] for _ in range(capacity + 1)]
    open_spaces = 0  # bit s is set while with_space[s] is not empty: the next one is found at once
    rows = 0
    # Equally long samples are placed together: a row takes as many of them as it has space for,
    # since after each of them it is still the tightest.
    for length, count in zip(values[::-1].tolist(), counts[::-1].tolist(), strict=True):
        left, space = count, length
        while left:
            tighter = open_spaces >> space
            if tighter:
                space += (tighter & -tighter).bit_length() - 1
                fits = space // length
                needed = -(-left // fits)
                taken, with_space[space] = with_space[space][:needed], with_space[space][needed:]
                if not with_space[space]:
                    open_spaces &= ~(1 << space)
            else:
                space = capacity
                fits = space // length
                needed = -(-left // fits)
                taken = list(range(rows, rows + needed))
                rows += needed
            placed = min(left, fits * len(taken))
            row_of += [row for row in taken for _ in range(fits)][:placed]
            last_takes = placed - fits * (len(taken) - 1)
            for rows_filled, takes in ((taken[:-1], fits), (taken[-1:], last_takes)):
                if rows_filled:
                    remains = space - takes * length
                    with_space[remains] += rows_filled
                    open_spaces |= 1 << remains
            left -= placed
            space += 1
    by_row = np.argsort(np.array(row_of, dtype=np.int64), kind="stable")
    return decreasing[by_row], starts_of(np.bincount(row_of, minlength=rows))
