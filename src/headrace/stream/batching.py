"""Which samples make the batch of a step, and which of them each rank takes.

Batches are planned before they are split over ranks, from the samples' lengths where they are
sorted or filled by length.  A window of positions is planned as a whole, and its batches are
permuted, so that training does not see short before long.  A batch is a pure function of its
step, whatever the world size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from headrace.counts import counted
from headrace.errors import ConfigError, EncodingError, Problem
from headrace.stream.digest import digest
from headrace.stream.feistel import Int64Array, Permutation, derive_key
from headrace.stream.packing import Packs, samples_of
from headrace.stream.plan import Locations, StagePlan

BATCHING_VERSION = 1
"""Grows whenever the same settings give other batches; part of the fingerprint."""

WINDOWS_KEPT = 2
"""One for the step that is running, one for a step that is prefetched beyond its window."""

Lengths = Sequence[Sequence[NDArray[np.int32]]]
"""``lengths[source][shard]`` is int32[samples]: the tokens of each sample."""

Absent = Mapping[tuple[int, int], NDArray[np.bool_]]
"""By number of the source and the shard, bool[samples]: which were removed and are not replaced."""

Rows = TypeVar("Rows", Locations, Packs, Locations | Packs)
"""Rows of a batch: samples, or packs of them."""


def steps_until(position: int, samples_per_epoch: int, batch_size: int) -> int:
    """Batches of ``batch_size`` that ``position`` samples make; only an epoch's last is smaller."""
    epochs, rest = divmod(position, samples_per_epoch)
    return epochs * -(-samples_per_epoch // batch_size) - (-rest // batch_size)


def position_after(steps: int, samples_per_epoch: int, batch_size: int) -> int:
    """Samples of ``steps`` batches of ``batch_size``, in a stage without an end."""
    epochs, batches = divmod(steps, -(-samples_per_epoch // batch_size))
    return epochs * samples_per_epoch + batches * batch_size


class Batches(ABC):
    """The batches of a stage, whatever their kind."""

    kind: str
    """As in a run config."""
    window_size: int
    """Positions that are planned together."""

    def __init__(
        self,
        plan: StagePlan,
        lengths: Lengths,
        *,
        window_batches: int,
        quarantined: frozenset[tuple[int, int]],
        absent: Absent | None = None,
        **sizes: int,
    ) -> None:
        """``sizes`` are those of the kind.

        ``absent`` samples are left out of the batches as those of quarantined shards are, and are
        no part of the settings: they may become more while a stage is under way.

        Raises ``ConfigError`` for a size below 1, or a quarantined shard that the plan lacks.
        """
        self.sizes = {name.replace("_", " "): size for name, size in sizes.items()}
        self.sizes["window batches"] = window_batches
        problems = [
            Problem("must be at least 1", f"stage {plan.stage}: {name}", str(size), "Raise it")
            for name, size in self.sizes.items()
            if size < 1
        ]
        problems += [
            Problem(
                "there is no such shard to leave out",
                f"stage {plan.stage}: quarantined",
                f"source {source}, shard {shard}",
                "Name shards by their number in the plan's sources",
            )
            for source, shard in sorted(quarantined)
            if not (
                0 <= source < len(plan.sources)
                and 0 <= shard < len(plan.sources[source].shard_sizes)
            )
        ]
        if problems:
            raise ConfigError(problems)
        self.plan = plan
        self.window_batches = window_batches
        self.quarantined = quarantined
        self._absent = dict(absent or {})
        self._lengths = lengths
        self._key = derive_key("batches", plan.seed, plan.stage)

    @property
    def settings(self) -> Mapping[str, int | str]:
        """What fixes the batches: the plan's settings and the batching's."""
        return self._settings_with(self.plan.settings)

    def settings_until(self, step: int) -> Mapping[str, int | str]:
        """What fixes the batches before ``step``, and all that was planned with them."""
        if step == 0:
            return self._settings_with(self.plan.settings_until(0))
        epoch, window = self._last_window(step - 1)
        # Also where the stage ends within the window: a stage that went on would fill it.
        end = min((window + 1) * self.window_size, self.plan.samples_per_epoch)
        return self._settings_with(
            self.plan.settings_until(epoch * self.plan.samples_per_epoch + end)
        )

    @property
    def fingerprint(self) -> str:
        """Hex digest of the stage and all settings: equal fingerprints mean equal batches."""
        return digest([self.plan.stage, dict(self.settings)])

    @property
    def total_steps(self) -> int | None:
        """Steps of the whole stage; None: it is endless."""
        positions = self.plan.total_positions
        if positions is None:
            return None
        return self.steps_before(-(-positions // self.plan.samples_per_epoch))

    def samples_of_epoch(self, epoch: int) -> int:
        """Positions of an epoch; the last one of a stage that ends may be shorter."""
        positions = self.plan.total_positions
        if positions is None:
            return self.plan.samples_per_epoch
        rest = positions - epoch * self.plan.samples_per_epoch
        return min(max(rest, 0), self.plan.samples_per_epoch)

    @abstractmethod
    def steps_before(self, epoch: int) -> int:
        """Steps of all epochs before ``epoch``: the first step of it."""

    @abstractmethod
    def find(self, step: int) -> tuple[int, int]:
        """The epoch of a step, and the step's number within it.

        Raises ``IndexError`` for a negative step, or one behind the end of the stage.
        """

    def epochs_done(self, step: int) -> float:
        """Epochs that are done when ``step`` steps are; whole at the end of an epoch."""
        if step == 0:
            return 0.0
        epoch, place = self.find(step - 1)
        return epoch + (place + 1) / (self.steps_before(epoch + 1) - self.steps_before(epoch))

    def ends_epoch(self, step: int) -> bool:
        """Whether an epoch is done exactly when ``step`` steps are."""
        return step > 0 and step == self.steps_before(self.find(step - 1)[0] + 1)

    @abstractmethod
    def position(self, step: int) -> int:
        """Samples that the stage has consumed before ``step``, quarantined ones included."""

    @abstractmethod
    def batch(self, step: int) -> Locations | Packs:
        """The rows of a step, counted from 0 over the whole stage.

        Samples of quarantined shards are planned with the others (they need lengths, which may be
        stand-ins) and then left out, and so are absent ones; no other sample takes their place,
        so that no other batch changes.  Raises ``IndexError`` as ``find`` does.
        """

    def split(
        self, batch: Rows, rank: int, world: int, micro_batch_size: int, accumulation: int
    ) -> list[Rows]:
        """The part of a batch that a rank takes, as exactly ``accumulation`` micro-batches.

        Ranks take every ``world``-th row, so that sorted rows give them equal work; a rank's rows
        are spread evenly over its micro-batches, of which the last may be empty where a batch is
        small.  All ranks together take each row once.

        Raises ``ConfigError`` when a rank's rows do not fit its micro-batches, and ``ValueError``
        for a rank outside ``0..world-1``.
        """
        if not 0 <= rank < world:
            raise ValueError(f"rank {rank} is not one of {world}")
        self._check_fit(len(batch), world, micro_batch_size, accumulation)
        own = batch.take(np.arange(rank, len(batch), world))
        cuts = self._cuts(own, accumulation)
        return [own.take(slice(*cut)) for cut in pairwise(cuts)]

    def lengths_of(self, batch: Locations | Packs) -> NDArray[np.int32]:
        """Tokens of each of the samples; int32, one a sample."""
        return look_up(self._lengths, samples_of(batch))

    def capacity(self, batch: Locations | Packs) -> int | None:
        """Tokens that a batch of this kind has room for; None where samples are counted."""
        return None

    def _check_fit(self, rows: int, world: int, micro_batch_size: int, accumulation: int) -> None:
        largest_share = -(-rows // world)
        if largest_share > micro_batch_size * accumulation:
            raise ConfigError(
                Problem(
                    what=f"a batch of {rows} {self.kind} does not fit {counted(world, 'rank')}",
                    where="train_micro_batch_size_per_gpu, gradient_accumulation_steps",
                    value=f"{micro_batch_size} x {accumulation}",
                    remedy=f"Let their product be at least {largest_share}",
                )
            )

    def _cuts(self, own: Locations | Packs, accumulation: int) -> list[int]:
        """Where a rank's rows are cut into micro-batches: ``accumulation + 1`` numbers."""
        size, rest = divmod(len(own), accumulation)
        return [number * size + min(number, rest) for number in range(accumulation + 1)]

    def _settings_with(self, order: Mapping[str, int | str]) -> Mapping[str, int | str]:
        quarantined = digest(sorted(self.quarantined)) if self.quarantined else "none"
        return {
            **order,
            "batching": f"{self.kind} {BATCHING_VERSION}",
            **self.sizes,
            "quarantined": quarantined,
        }

    @abstractmethod
    def _last_window(self, step: int) -> tuple[int, int]:
        """The epoch of a step, and the number of the last window that its batch takes from."""

    def _window_positions(self, epoch: int, window: int) -> Int64Array:
        start = window * self.window_size
        end = min(start + self.window_size, self.samples_of_epoch(epoch))
        return np.arange(start, end, dtype=np.int64)

    def _kept(self, samples: Locations) -> NDArray[np.bool_] | None:
        """Which samples are in no quarantined shard and not absent; None: all of them."""
        if not (self.quarantined or self._absent):
            return None
        kept = np.ones(len(samples), dtype=np.bool_)
        for (source, shard), absent in self._absent.items():
            here = np.flatnonzero((samples.source == source) & (samples.shard == shard))
            kept[here] = ~absent[samples.sample[here]]
        for source, shard in self.quarantined:
            kept &= (samples.source != source) | (samples.shard != shard)
        return None if kept.all() else kept


class BatchPlan(Batches):
    """Batches of a constant number of samples: every step has a closed form."""

    kind = "samples"

    def __init__(
        self,
        plan: StagePlan,
        lengths: Lengths,
        *,
        batch_size: int,
        window_batches: int = 50,
        sort_by_length: bool = True,
        quarantined: frozenset[tuple[int, int]] = frozenset(),
        absent: Absent | None = None,
    ) -> None:
        """Plan batches of ``batch_size`` samples over windows of ``window_batches`` batches.

        ``lengths`` may be memory-mapped.  Without ``sort_by_length`` batches are runs of
        consecutive positions, and lengths are not read.  Samples of ``quarantined`` shards
        (number of the source, number of the shard) are left out of the batches, and so are
        ``absent`` ones.

        Raises ``ConfigError`` for a size below 1 or an unknown shard, ``EncodingError`` where the
        lengths do not fit the plan's sources.
        """
        super().__init__(
            plan,
            lengths,
            window_batches=window_batches,
            quarantined=quarantined,
            absent=absent,
            batch_size=batch_size,
        )
        if sort_by_length:
            check_lengths(plan, lengths)
        self.batch_size = batch_size
        self.window_size = window_batches * batch_size
        self.sort_by_length = sort_by_length
        self.steps_per_epoch: int = -(-plan.samples_per_epoch // batch_size)
        """Batches in an epoch; only the last may have fewer than ``batch_size`` samples."""
        self._window = lru_cache(maxsize=WINDOWS_KEPT)(self._plan_window)

    def steps_before(self, epoch: int) -> int:
        """Steps of all epochs before ``epoch``: the first step of it."""
        steps = epoch * self.steps_per_epoch
        positions = self.plan.total_positions
        if positions is None:
            return steps
        return min(steps, steps_until(positions, self.plan.samples_per_epoch, self.batch_size))

    def find(self, step: int) -> tuple[int, int]:
        """The epoch of a step, and the step's number within it."""
        total = self.total_steps
        if step < 0 or (total is not None and step >= total):
            raise IndexError(f"stage {self.plan.stage} has no step {step}")
        return divmod(step, self.steps_per_epoch)

    def position(self, step: int) -> int:
        """Samples that the stage has consumed before ``step``, quarantined ones included."""
        position = position_after(step, self.plan.samples_per_epoch, self.batch_size)
        total = self.plan.total_positions
        return position if total is None else min(position, total)

    def batch(self, step: int) -> Locations:
        """The samples of a step, counted from 0 over the whole stage, the shortest first.

        Without ``sort_by_length`` they are in the order of positions.
        """
        epoch, batch = self.find(step)
        window, batch = divmod(batch, self.window_batches)
        start = batch * self.batch_size
        samples = self._window(epoch, window).take(slice(start, start + self.batch_size))
        kept = self._kept(samples)
        return samples if kept is None else samples.take(np.flatnonzero(kept))

    def _settings_with(self, order: Mapping[str, int | str]) -> Mapping[str, int | str]:
        return {**super()._settings_with(order), "sort by length": int(self.sort_by_length)}

    def _last_window(self, step: int) -> tuple[int, int]:
        epoch, batch = self.find(step)
        return epoch, batch // self.window_batches

    def _plan_window(self, epoch: int, window: int) -> Locations:
        """The samples of a window in the order of its batches."""
        locations = self.plan.locate(epoch, self._window_positions(epoch, window))
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


def check_lengths(plan: StagePlan, lengths: Lengths) -> None:
    """Raise ``EncodingError`` where the lengths do not fit the plan's sources, all at once."""
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
                    value=f"{counted(sum(found), 'encoded sample')} in "
                    f"{counted(len(found), 'shard')}, {sum(sizes)} in {len(sizes)} by the manifest",
                    remedy="Delete the encoded source and encode it anew",
                )
            )
    if problems:
        raise EncodingError(problems)
