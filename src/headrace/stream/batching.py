"""Which samples make the batch of a step, and which of them each rank takes.

Batches are planned from lengths before they are split over ranks.  A window of some batches is
sorted by length and cut into batches, so that the samples of a batch are about equally long; the
order of the batches within the window is permuted, so that training does not see short before
long.  A batch is a pure function of its step, whatever the world size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from headrace.errors import ConfigError, EncodingError, Problem
from headrace.stream.digest import digest
from headrace.stream.feistel import Permutation, derive_key
from headrace.stream.plan import Locations, StagePlan

WINDOWS_KEPT = 2
"""One for the step that is running, one for a step that is prefetched beyond its window."""


class BatchPlan:
    """The batches of a stage."""

    def __init__(
        self,
        plan: StagePlan,
        lengths: Sequence[Sequence[NDArray[np.int32]]],
        *,
        batch_size: int,
        window_batches: int = 50,
        sort_by_length: bool = True,
    ) -> None:
        """Plan batches of ``batch_size`` samples over windows of ``window_batches`` batches.

        ``lengths[source][shard]`` is int32[samples]: the tokens of each sample, which may be
        memory-mapped.  Without ``sort_by_length`` batches are runs of consecutive positions, and
        lengths are not read.

        Raises ``ConfigError`` for a size below 1, ``EncodingError`` where the lengths do not fit
        the plan's sources.
        """
        problems = [
            Problem("must be at least 1", f"stage {plan.stage}: {name}", str(size), "Raise it")
            for name, size in (("batch size", batch_size), ("window batches", window_batches))
            if size < 1
        ]
        if problems:
            raise ConfigError(problems)
        if sort_by_length:
            _check_lengths(plan, lengths)
        self.plan = plan
        self.batch_size = batch_size
        self.window_batches = window_batches
        self.sort_by_length = sort_by_length
        self.steps_per_epoch: int = -(-plan.samples_per_epoch // batch_size)
        """Batches in an epoch; only the last may have fewer than ``batch_size`` samples."""
        self._lengths = lengths
        self._key = derive_key("batches", plan.seed, plan.stage)
        self._window = lru_cache(maxsize=WINDOWS_KEPT)(self._plan_window)

    @property
    def settings(self) -> Mapping[str, int | str]:
        """What fixes the batches: the plan's settings and the batching's."""
        return self._settings_with(self.plan.settings)

    def settings_until(self, step: int) -> Mapping[str, int | str]:
        """What fixes the batches before ``step``, and those planned together with them."""
        epoch, batch = divmod(max(step, 1) - 1, self.steps_per_epoch)
        window_end = (batch // self.window_batches + 1) * self.window_batches * self.batch_size
        samples = self.plan.samples_per_epoch
        return self._settings_with(
            self.plan.settings_until(epoch * samples + min(window_end, samples))
        )

    def _settings_with(self, order: Mapping[str, int | str]) -> Mapping[str, int | str]:
        return {
            **order,
            "batch size": self.batch_size,
            "window batches": self.window_batches,
            "sort by length": int(self.sort_by_length),
        }

    @property
    def fingerprint(self) -> str:
        """Hex digest of the stage and all settings: equal fingerprints mean equal batches."""
        return digest([self.plan.stage, dict(self.settings)])

    def position(self, step: int) -> int:
        """Samples that the stage has consumed before ``step``."""
        epoch, batch = divmod(step, self.steps_per_epoch)
        return epoch * self.plan.samples_per_epoch + batch * self.batch_size

    def batch(self, step: int) -> Locations:
        """The samples of a step, counted from 0 over the whole stage, the shortest first.

        Without ``sort_by_length`` they are in the order of positions.  Raises ``IndexError`` for
        a negative step.
        """
        if step < 0:
            raise IndexError(f"steps count from 0, not {step}")
        epoch, batch = divmod(step, self.steps_per_epoch)
        window, batch = divmod(batch, self.window_batches)
        start = batch * self.batch_size
        return self._window(epoch, window).take(slice(start, start + self.batch_size))

    def split(
        self,
        locations: Locations,
        rank: int,
        world: int,
        micro_batch_size: int,
        accumulation: int,
    ) -> list[Locations]:
        """The part of a batch that a rank takes, as exactly ``accumulation`` micro-batches.

        Ranks take every ``world``-th sample, so that sorted samples give them equal work; a
        rank's samples are spread evenly over its micro-batches, of which the last may be empty
        where a batch is small.  All ranks together take each sample once.

        Raises ``ConfigError`` when a rank's samples do not fit its micro-batches, and
        ``ValueError`` for a rank outside ``0..world-1``.
        """
        if not 0 <= rank < world:
            raise ValueError(f"rank {rank} is not one of {world}")
        largest_share = -(-len(locations) // world)
        if largest_share > micro_batch_size * accumulation:
            raise ConfigError(
                Problem(
                    what=f"a batch of {len(locations)} samples does not fit {world} ranks",
                    where="train_micro_batch_size_per_gpu, gradient_accumulation_steps",
                    value=f"{micro_batch_size} x {accumulation}",
                    remedy=f"Let their product be at least {largest_share}",
                )
            )
        own = np.arange(rank, len(locations), world)
        return [locations.take(part) for part in np.array_split(own, accumulation)]

    def lengths_of(self, locations: Locations) -> NDArray[np.int32]:
        """Tokens of each of the samples; int32, as long as ``locations``."""
        return look_up(self._lengths, locations)

    def _plan_window(self, epoch: int, window: int) -> Locations:
        """The samples of a window in the order of its batches."""
        size = self.window_batches * self.batch_size
        end = min((window + 1) * size, self.plan.samples_per_epoch)
        locations = self.plan.locate(epoch, np.arange(window * size, end, dtype=np.int64))
        if not self.sort_by_length:
            return locations
        by_length = np.argsort(self.lengths_of(locations), kind="stable")
        key = derive_key("window", self._key, epoch, window)
        full, rest = divmod(len(locations), self.batch_size)
        # The smaller batch is the last of the epoch, but takes a stretch of any length: if it
        # took what is left over after sorting, it would always have the longest samples.
        first = derive_key("rest", key) % (full + 1) * self.batch_size
        small = by_length[first : first + rest]
        others = np.concatenate((by_length[:first], by_length[first + rest :]))
        order = Permutation(full, key)(np.arange(full, dtype=np.int64))
        batches = others.reshape(full, self.batch_size)[order]
        return locations.take(np.concatenate((batches.ravel(), small)))


def look_up(
    arrays: Sequence[Sequence[NDArray[np.int32]]], locations: Locations
) -> NDArray[np.int32]:
    """One number a sample from ``arrays[source][shard]``, each shard read once.

    Returns int32, as long as ``locations``.
    """
    found = np.empty(len(locations), dtype=np.int32)
    order = np.lexsort((locations.sample, locations.shard, locations.source))
    ordered = locations.take(order)
    changes = (np.diff(ordered.source) != 0) | (np.diff(ordered.shard) != 0)
    for members in np.split(order, np.flatnonzero(changes) + 1):
        if members.size:
            source, shard = locations.source[members[0]], locations.shard[members[0]]
            found[members] = arrays[source][shard][locations.sample[members]]
    return found


def _check_lengths(plan: StagePlan, lengths: Sequence[Sequence[NDArray[np.int32]]]) -> None:
    expected = [list(source.shard_sizes) for source in plan.sources]
    if len(lengths) != len(expected):
        raise ValueError(f"{len(expected)} sources need as many lists of lengths")
    problems = []
    for source, sizes, arrays in zip(plan.sources, expected, lengths, strict=True):
        found = [len(array) for array in arrays]
        if found != sizes:
            differing = next(
                (number for number, (a, b) in enumerate(zip(found, sizes, strict=False)) if a != b),
                min(len(found), len(sizes)),
            )
            problems.append(
                Problem(
                    what="the encoded samples do not match the manifest",
                    where=f"{source.url} shard {differing}",
                    value=f"{sum(found)} encoded samples in {len(found)} shards, "
                    f"{sum(sizes)} in {len(sizes)} by the manifest",
                    remedy="Delete the encoded source and encode it anew",
                )
            )
    if problems:
        raise EncodingError(problems)
