"""Batches that are filled by length: a budget of padded tokens, or rows packed with samples.

The samples of a window fall into groups by their lengths alone: a group is a batch of the token
budget, or a pack.  How many there are differs from window to window, so a table of exact counts,
made once from the lengths, takes the place of a division.
"""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_right
from functools import lru_cache
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from headrace.errors import EncodingError, Problem
from headrace.stream.batching import WINDOWS_KEPT, Absent, Batches, Lengths, check_lengths
from headrace.stream.feistel import Int64Array, Permutation, derive_key
from headrace.stream.group_table import GroupTable
from headrace.stream.packing import Packs, best_fit_decreasing, starts_of
from headrace.stream.plan import Locations, StagePlan

MAX_WINDOW = 1 << 16
"""Positions of a window at most, unless a batch has more: planning one takes some 50 ms.  As many
samples are located together while groups are counted."""


class GroupedBatches(Batches):
    """Batches of groups of samples.  Groups are numbered through an epoch, window by window."""

    def __init__(
        self,
        plan: StagePlan,
        lengths: Lengths,
        *,
        groups_per_batch: int,
        window_batches: int,
        quarantined: frozenset[tuple[int, int]],
        absent: Absent | None,
        table_folder: Path | None,
        **sizes: int,
    ) -> None:
        """The first of ``sizes`` is that of a group, in tokens: no sample is longer.

        Tables of counts are kept in ``table_folder``, if it is given.
        """
        super().__init__(
            plan,
            lengths,
            window_batches=window_batches,
            quarantined=quarantined,
            absent=absent,
            **sizes,
        )
        check_lengths(plan, lengths)
        self.groups_per_batch = groups_per_batch
        self._size_name, self.size = next(iter(sizes.items()))
        samples_of_batch = groups_per_batch * max(1, self.size // _mean_length(lengths))
        self.window_size = max(samples_of_batch, min(window_batches * samples_of_batch, MAX_WINDOW))
        self._table = GroupTable(
            self._count_windows,
            windows_at_once=max(1, MAX_WINDOW // self.window_size),
            folder=table_folder and table_folder / self.fingerprint,
            title=f"planning batches of {plan.stage}",
        )
        self._first_steps = [0]
        self._counting = Lock()  # batches may be made in a thread
        self._window = lru_cache(maxsize=WINDOWS_KEPT)(self._plan_window)

    def steps_before(self, epoch: int) -> int:
        """Steps of all epochs before ``epoch``; counts the groups of epochs not seen before."""
        with self._counting:
            while len(self._first_steps) <= epoch:
                counted = len(self._first_steps) - 1
                if not self.samples_of_epoch(counted):
                    return self._first_steps[-1]
                steps = -(-int(self._group_starts(counted)[-1]) // self.groups_per_batch)
                self._first_steps.append(self._first_steps[-1] + steps)
        return self._first_steps[epoch]

    def find(self, step: int) -> tuple[int, int]:
        """The epoch of a step, and the step's number within it."""
        while 0 <= self._first_steps[-1] <= step:
            known = len(self._first_steps)
            self.steps_before(known)
            if len(self._first_steps) == known:
                break
        if not 0 <= step < self._first_steps[-1]:
            raise IndexError(f"stage {self.plan.stage} has no step {step}")
        epoch = bisect_right(self._first_steps, step) - 1
        return epoch, step - self._first_steps[epoch]

    def position(self, step: int) -> int:
        """Samples that the stage has consumed before ``step``, quarantined ones included."""
        if step == 0:
            return 0
        epoch, window = self._last_window(step - 1)
        groups = self._last_group(step - 1) + 1 - int(self._group_starts(epoch)[window])
        before = epoch * self.plan.samples_per_epoch + window * self.window_size
        return before + int(self._window(epoch, window).starts[groups])

    def _groups(self, step: int) -> Packs:
        """The samples of a batch as its groups, without quarantined and absent ones."""
        epoch, batch = self.find(step)
        starts = self._group_starts(epoch)
        first = batch * self.groups_per_batch
        end = min(first + self.groups_per_batch, int(starts[-1]))
        windows = range(
            int(np.searchsorted(starts, first, side="right")) - 1,
            int(np.searchsorted(starts, end, side="left")),
        )
        parts = [
            self._window(epoch, window).take(
                slice(max(first - int(starts[window]), 0), end - int(starts[window]))
            )
            for window in windows
        ]
        groups = parts[0]
        for part in parts[1:]:
            groups = groups.join(part)
        kept = self._kept(groups.samples)
        return groups if kept is None else groups.keep(kept)

    @abstractmethod
    def _group(self, lengths: NDArray[np.int32]) -> tuple[Int64Array, Int64Array]:
        """Group samples of some lengths: their indices group after group, and ``starts``."""

    @abstractmethod
    def _count(self, lengths: NDArray[np.int32]) -> int:
        """How many groups ``_group`` makes."""

    def _last_group(self, step: int) -> int:
        """The last group of a batch, counted through the epoch."""
        epoch, batch = self.find(step)
        groups = int(self._group_starts(epoch)[-1])
        return min((batch + 1) * self.groups_per_batch, groups) - 1

    def _last_window(self, step: int) -> tuple[int, int]:
        epoch, _ = self.find(step)
        starts = self._group_starts(epoch)
        return epoch, int(np.searchsorted(starts, self._last_group(step), side="right")) - 1

    def _group_starts(self, epoch: int) -> Int64Array:
        return self._table.of_epoch(epoch, -(-self.samples_of_epoch(epoch) // self.window_size))

    def _plan_window(self, epoch: int, window: int) -> Packs:
        """The groups of a window, permuted."""
        locations = self.plan.locate(epoch, self._window_positions(epoch, window))
        indices, starts = self._group(self._lengths_within_size(locations))
        count = len(starts) - 1
        key = derive_key("window", self._key, epoch, window)
        order = Permutation(count, key)(np.arange(count, dtype=np.int64))
        return Packs(locations.take(indices), starts).take(order)

    def _count_windows(self, epoch: int, windows: range) -> NDArray[np.int32]:
        start = windows.start * self.window_size
        end = min(windows.stop * self.window_size, self.samples_of_epoch(epoch))
        locations = self.plan.locate(epoch, np.arange(start, end, dtype=np.int64))
        lengths = self._lengths_within_size(locations)
        edges = range(self.window_size, end - start, self.window_size)
        return np.array([self._count(part) for part in np.split(lengths, edges)], dtype=np.int32)

    def _lengths_within_size(self, locations: Locations) -> NDArray[np.int32]:
        """Tokens of each sample, at least 1; ``EncodingError`` names one that is too long."""
        lengths = np.maximum(self.lengths_of(locations), 1)
        longest = int(lengths.argmax())
        if lengths[longest] > self.size:
            source = self.plan.sources[locations.source[longest]]
            raise EncodingError(
                Problem(
                    f"a sample has more tokens than {self._size_name} allows ({self.size})",
                    f"{source.url} shard {locations.shard[longest]} "
                    f"sample {locations.sample[longest]}",
                    f"{lengths[longest]} tokens",
                    f"Raise {self._size_name}, or lower the maximum length of a sample",
                )
            )
        return lengths


class TokenBudgetPlan(GroupedBatches):
    """Batches of any number of samples, whose padded tokens stay within a budget."""

    kind = "tokens"

    def __init__(
        self,
        plan: StagePlan,
        lengths: Lengths,
        *,
        tokens_per_batch: int,
        window_batches: int = 50,
        quarantined: frozenset[tuple[int, int]] = frozenset(),
        absent: Absent | None = None,
        table_folder: Path | None = None,
    ) -> None:
        """Plan batches of at most ``tokens_per_batch`` tokens: samples x tokens of the longest.

        A window has as many positions as ``window_batches`` batches would have samples of mean
        length, and at most ``MAX_WINDOW``.  Counts are kept in ``table_folder``, if it is given.

        Raises ``ConfigError`` for a size below 1 or an unknown shard, ``EncodingError`` where the
        lengths do not fit the plan's sources; steps raise one for a sample above the budget.
        """
        super().__init__(
            plan,
            lengths,
            groups_per_batch=1,
            window_batches=window_batches,
            quarantined=quarantined,
            absent=absent,
            table_folder=table_folder,
            tokens_per_batch=tokens_per_batch,
        )

    def batch(self, step: int) -> Locations:
        """The samples of a step, counted from 0 over the whole stage, the shortest first."""
        return self._groups(step).samples

    def capacity(self, batch: Locations | Packs) -> int:
        """The budget."""
        return self.size

    def _group(self, lengths: NDArray[np.int32]) -> tuple[Int64Array, Int64Array]:
        by_length = np.argsort(lengths, kind="stable")
        ordered = lengths[by_length]
        sizes = fill_from_longest(ordered, self.size)
        # The last batch takes the rest, the shortest samples of the window, and may be small.  The
        # least budget that gives as many batches makes them equal.
        least, enough = int(ordered[-1]) - 1, self.size
        while enough - least > 1:
            middle = (least + enough) // 2
            fewer = fill_from_longest(ordered, middle)
            if len(fewer) > len(sizes):
                least = middle
            else:
                enough, sizes = middle, fewer
        return by_length, starts_of(np.array(sizes[::-1], dtype=np.int64))

    def _count(self, lengths: NDArray[np.int32]) -> int:
        return len(fill_from_longest(np.sort(lengths), self.size))

    def _check_fit(self, rows: int, world: int, micro_batch_size: int, accumulation: int) -> None:
        """Nothing to check: the budget bounds a batch, not a number of samples."""

    def _cuts(self, own: Locations | Packs, accumulation: int) -> list[int]:
        """Cut so that the largest micro-batch has as few padded tokens as can be."""
        ordered = np.maximum(self.lengths_of(own), 1)
        if len(ordered) <= accumulation:
            return [*range(len(ordered) + 1), *[len(ordered)] * (accumulation - len(ordered))]
        least, enough = int(ordered[-1]) - 1, int(ordered[-1]) * len(ordered)
        while enough - least > 1:
            middle = (least + enough) // 2
            if len(fill_from_longest(ordered, middle)) > accumulation:
                least = middle
            else:
                enough = middle
        sizes = fill_from_longest(ordered, enough, at_least=accumulation)
        return [int(start) for start in starts_of(np.array(sizes[::-1], dtype=np.int64))]


class PackPlan(GroupedBatches):
    """Batches of rows into which several samples are packed."""

    kind = "packed"

    def __init__(
        self,
        plan: StagePlan,
        lengths: Lengths,
        *,
        pack_length: int,
        batch_size: int,
        window_batches: int = 50,
        quarantined: frozenset[tuple[int, int]] = frozenset(),
        absent: Absent | None = None,
        table_folder: Path | None = None,
    ) -> None:
        """Plan batches of ``batch_size`` packs; a pack is a row of ``pack_length`` tokens.

        The samples of a window, as ``TokenBudgetPlan`` has them, are packed together.  Packs are
        numbered through an epoch and cut into batches, of which only its last may be smaller.

        Raises as ``TokenBudgetPlan`` does.
        """
        super().__init__(
            plan,
            lengths,
            groups_per_batch=batch_size,
            window_batches=window_batches,
            quarantined=quarantined,
            absent=absent,
            table_folder=table_folder,
            pack_length=pack_length,
            batch_size=batch_size,
        )

    def batch(self, step: int) -> Packs:
        """The packs of a step, counted from 0 over the whole stage."""
        return self._groups(step)

    def capacity(self, batch: Locations | Packs) -> int:
        """The tokens of all rows."""
        return len(batch) * self.size

    def _group(self, lengths: NDArray[np.int32]) -> tuple[Int64Array, Int64Array]:
        return best_fit_decreasing(lengths, self.size)

    def _count(self, lengths: NDArray[np.int32]) -> int:
        return len(best_fit_decreasing(lengths, self.size)[1]) - 1


def _mean_length(lengths: Lengths) -> int:
    """Mean tokens of all samples of all sources, rounded up; at least 1."""
    arrays = [array for source in lengths for array in source]
    tokens = sum(int(array.sum(dtype=np.int64)) for array in arrays)
    return max(1, -(-tokens // sum(len(array) for array in arrays)))


def fill_from_longest(ordered: NDArray[np.int32], budget: int, at_least: int = 1) -> list[int]:
    """Cut samples, ordered from the shortest, into groups of at most ``budget`` padded tokens.

    Groups are filled one after the other from the longest sample down: the fewest groups that can
    be.  Returns their sizes, that of the longest samples first; with ``at_least`` there are no
    fewer groups than that, if there are as many samples.
    """
    sizes: list[int] = []
    left = len(ordered)
    while left:
        size = min(budget // int(ordered[left - 1]), left - max(0, at_least - len(sizes) - 1))
        sizes.append(size)
        left -= size
    return sizes
