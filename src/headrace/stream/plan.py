"""Where the sample at a position of a stage lies: a pure function of seed, stage and position.

An epoch of a stage is as long as its sources together.  It is cut into blocks of positions; the
number of samples that a block takes from each source comes from the exact mixture, through all
phases of the stage, and a keyed permutation spreads them over the block.  The samples taken from
a source, counted over the whole stage, walk through the source pass after pass, each pass in an
order of its own.  Rank, worker and world size appear nowhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from headrace.counts import counted
from headrace.errors import ConfigError, Problem, ShardError
from headrace.stream.digest import digest
from headrace.stream.feistel import Int64Array, UInt64Array, derive_key, derive_keys, permute
from headrace.stream.order import SourceOrder
from headrace.stream.phases import Phase
from headrace.stream.stage_mixture import StageMixture

ORDER_VERSION = 1
"""Grows whenever the same settings give another order; part of the fingerprint."""

MAX_STAGE_BYTES = 128
"""The longest name of a stage in UTF-8; a stream's saved state stays below 1 KB."""


@dataclass(frozen=True)
class Source:
    """One folder of shards, as far as the plan needs to know it."""

    name: str
    """What to call it, usually the language; several sources may share a name."""
    url: str
    """Where it lies; it has no part in the order, so that data may be moved."""
    shard_sizes: tuple[int, ...]
    """Samples of each shard, in the order of the manifest."""
    fingerprint: str
    """Of the manifest, or of the encoded source: changes when the samples change."""


@dataclass(frozen=True)
class Locations:
    """Where some samples lie; int64 arrays of the same length."""

    source: Int64Array
    """Number of the source in the plan."""
    shard: Int64Array
    """Number of the shard in the source."""
    sample: Int64Array
    """Number of the sample in the shard."""
    passes: Int64Array | None = None
    """How often the stage has gone through the source before; None: they are of no stage."""

    def __len__(self) -> int:
        return len(self.source)

    def take(self, chosen: Int64Array | slice) -> Locations:
        """The locations at the given indices or slice, in that order."""
        passes = None if self.passes is None else self.passes[chosen]
        return Locations(self.source[chosen], self.shard[chosen], self.sample[chosen], passes)

    def join(self, other: Locations) -> Locations:
        """These locations, and behind them those of ``other``."""
        passes = None
        if self.passes is not None and other.passes is not None:
            passes = np.concatenate((self.passes, other.passes))
        return Locations(
            np.concatenate((self.source, other.source)),
            np.concatenate((self.shard, other.shard)),
            np.concatenate((self.sample, other.sample)),
            passes,
        )


@dataclass(frozen=True)
class MixtureRow:
    """What the plan makes of one source, for display."""

    name: str
    url: str
    shards: int
    samples: int
    share: float
    """Of the samples of the stage, 0 to 1."""
    samples_per_epoch: float
    """Expected samples drawn in an epoch of the stage; the exact number differs by at most 3."""
    passes_per_epoch: float
    """How often the source is gone through in an epoch of the stage."""


class StagePlan:
    """The order of one stage of training."""

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        seed: int,
        stage: str,
        temperature: float = 1.0,
        weights: Sequence[float] | None = None,
        min_shares: Sequence[float | None] | None = None,
        max_shares: Sequence[float | None] | None = None,
        max_epochs: Sequence[float | None] | None = None,
        phases: Sequence[Phase] = (),
        block: int = 1024,
        shard_window: int = 8,
    ) -> None:
        """Plan a stage.

        ``weights``, one a source, take the place of ``temperature`` (1 draws in proportion to
        size, 0 from all sources alike).  ``min_shares`` and ``max_shares``, one a source, 0 to 1
        or None, bound the shares that result; the others share in proportion what is left.
        All these hold until the first of ``phases`` begins.  ``max_epochs``, one a source, is
        how often it may be gone through over the whole stage; from there on its share goes to
        the others.  ``block`` is in positions: the mixture is met in each of them.
        ``shard_window`` is in shards: how many of a source are shuffled together.

        Raises ``ShardError`` for a source without samples or a shard of negative size, and
        ``ConfigError`` for everything else that cannot be planned; every problem of the kind is
        listed.
        """
        first = Phase(0, temperature, weights, min_shares, max_shares)
        _check_settings(sources, stage, [first, *phases], max_epochs, block, shard_window)
        _check_sources(sources)
        self.sources = tuple(sources)
        self.seed = seed
        self.stage = stage
        self.block = block
        self.shard_window = shard_window
        self.orders = [
            SourceOrder(source.shard_sizes, shard_window, seed, stage, *identity)
            for source, identity in zip(self.sources, _identities(sources), strict=True)
        ]
        """Of the shards and samples of each source."""
        self._samples = np.array([order.samples for order in self.orders], dtype=np.int64)
        sizes = self._samples.tolist()
        self.stage_mixture = StageMixture(
            [source.name for source in self.sources],
            sizes,
            [first, *phases],
            max_epochs,
            where=f"stage {stage}: mixture",
        )
        """The counts of the sources, and the segments of the stage."""
        self.samples_per_epoch: int = sum(sizes)
        """Positions in an epoch of the stage: the samples of all sources together."""
        self.total_positions: int | None = self.stage_mixture.end
        """Positions of the whole stage; None: endless, since a source has no epoch limit."""
        self._blocks_per_epoch = -(-self.samples_per_epoch // block)
        self._block_key = derive_key("blocks", seed, stage)

    @property
    def settings(self) -> Mapping[str, int | str]:
        """What fixes the order, in a few short values: a saved state compares them one by one."""
        return self._settings_with(self.stage_mixture.settings_until(None))

    def settings_until(self, end: int) -> Mapping[str, int | str]:
        """What fixes the order of the positions before ``end``, counted over the whole stage.

        Positions are shuffled in blocks: ``end`` is rounded up to the end of the block of its
        last position.  Phases that begin there or later have no part in the settings.
        """
        epoch, last = divmod(max(end, 1) - 1, self.samples_per_epoch)
        block_end = min((last // self.block + 1) * self.block, self.samples_per_epoch)
        return self._settings_with(
            self.stage_mixture.settings_until(epoch * self.samples_per_epoch + block_end)
        )

    def _settings_with(self, mixture: Mapping[str, str]) -> Mapping[str, int | str]:
        return {
            "order version": ORDER_VERSION,
            "seed": self.seed,
            "sources": self._sources_digest,
            **mixture,
            "mixture block": self.block,
            "shard window": self.shard_window,
        }

    @cached_property
    def _sources_digest(self) -> str:
        return digest(
            [[source.name, source.shard_sizes, source.fingerprint] for source in self.sources]
        )

    @property
    def fingerprint(self) -> str:
        """Hex digest of the stage and all settings: equal fingerprints mean equal orders."""
        return digest([self.stage, dict(self.settings)])

    @property
    def shares(self) -> dict[str, float]:
        """Share of the samples by source name where the stage begins, 0 to 1; they sum to 1."""
        return self.shares_at(0)

    def shares_at(self, position: int) -> dict[str, float]:
        """Share of the samples by source name around a position of the stage, 0 to 1."""
        shares: dict[str, float] = {}
        for source, share in zip(self.sources, self._shares_at(position), strict=True):
            shares[source.name] = shares.get(source.name, 0.0) + share
        return shares

    def _shares_at(self, position: int) -> list[float]:
        weights = self.stage_mixture.segment_at(position).weights
        total = sum(weights)
        return [weight / total if total else 0.0 for weight in weights]

    @property
    def mixture(self) -> tuple[MixtureRow, ...]:
        """What is drawn from each source where the stage begins, as a table for display."""
        return tuple(
            MixtureRow(
                name=source.name,
                url=source.url,
                shards=len(source.shard_sizes),
                samples=order.samples,
                share=share,
                samples_per_epoch=share * self.samples_per_epoch,
                passes_per_epoch=share * self.samples_per_epoch / order.samples,
            )
            for source, order, share in zip(
                self.sources, self.orders, self._shares_at(0), strict=True
            )
        )

    def epochs_of_source(self, epoch: int) -> NDArray[np.float64]:
        """Passes over each source that are done when ``epoch`` epochs of the stage are; float64."""
        return self.drawn_before(epoch * self.samples_per_epoch) / self._samples

    def locate(self, epoch: int, positions: Int64Array) -> Locations:
        """Where the samples at ``positions`` (int64[n], any order) of an epoch lie.

        Raises ``IndexError`` for a position outside ``0..samples_per_epoch-1``, or behind the
        end of a stage that has one.
        """
        positions = self._checked(epoch, positions)
        if positions.size == 0:
            empty = np.empty(0, dtype=np.int64)
            return Locations(empty, empty, empty, empty)
        source, drawn = self._draw(epoch, positions)
        return self._place(source, drawn)

    def passes(self, epoch: int, positions: Int64Array) -> Int64Array:
        """How often the source of each of ``positions`` was gone through before; int64[n].

        Raises ``IndexError`` as ``locate`` does.
        """
        positions = self._checked(epoch, positions)
        if positions.size == 0:
            return positions
        source, drawn = self._draw(epoch, positions)
        return drawn // self._samples[source]

    def _checked(self, epoch: int, positions: Int64Array) -> Int64Array:
        positions = np.asarray(positions, dtype=np.int64)
        if positions.size == 0:
            return positions
        if epoch < 0 or positions.min() < 0 or positions.max() >= self.samples_per_epoch:
            raise IndexError(f"an epoch of {self.stage} has {self.samples_per_epoch} positions")
        last = epoch * self.samples_per_epoch + int(positions.max())
        if self.total_positions is not None and last >= self.total_positions:
            raise IndexError(f"stage {self.stage} ends after {self.total_positions} positions")
        return positions

    def drawn_before(self, position: int) -> Int64Array:
        """Samples of each source before a position of the stage, at most all; int64."""
        if self.total_positions is not None:
            position = min(position, self.total_positions)
        return self.stage_mixture.counts(position)

    def _draw(self, epoch: int, positions: Int64Array) -> tuple[Int64Array, Int64Array]:
        """The source of each position, and how many the stage has drawn from it before."""
        blocks, inverse = np.unique(positions // self.block, return_inverse=True)
        starts = blocks * self.block
        offset = epoch * self.samples_per_epoch
        epoch_end = self.samples_per_epoch
        if self.total_positions is not None:
            epoch_end = min(epoch_end, self.total_positions - offset)
        ends = np.minimum(starts + self.block, epoch_end)
        mixture = self.stage_mixture
        before = mixture.counts_at([offset + start for start in starts.tolist()])
        after = mixture.counts_at([offset + end for end in ends.tolist()])
        keys = derive_keys(self._block_key, epoch * self._blocks_per_epoch + blocks)
        slots = permute(positions - starts[inverse], (ends - starts)[inverse], keys[inverse])
        # Slots of a block belong to its sources in turn.  The blocks' edges, one block's after
        # the other's, are one ascending array, so that a single search serves all of them.
        edges = np.cumsum(after - before, axis=1)
        ascending = (edges + (np.arange(len(blocks)) * self.block)[:, None]).ravel()
        found = np.searchsorted(ascending, slots + inverse * self.block, side="right")
        source = found - inverse * len(self.sources)
        first_slots = edges - (after - before)
        return source, before[inverse, source] + slots - first_slots[inverse, source]

    def _place(self, source: Int64Array, drawn: Int64Array) -> Locations:
        """Shard and sample of the ``drawn``-th sample that the stage takes from each source."""
        passes, place = np.divmod(drawn, self._samples[source])
        groups, inverse = np.unique(passes * len(self.sources) + source, return_inverse=True)
        by_group = np.split(
            np.argsort(inverse, kind="stable"), np.cumsum(np.bincount(inverse))[:-1]
        )
        orders = []
        start = np.empty_like(place)
        size = np.empty_like(place)
        keys: UInt64Array = np.empty(place.shape, dtype=np.uint64)
        for group, members in zip(groups.tolist(), by_group, strict=True):
            number, which = divmod(group, len(self.sources))
            order = self.orders[which].of_pass(number)
            orders.append(order)
            window = np.searchsorted(order.window_starts, place[members], side="right") - 1
            start[members] = order.window_starts[window]
            size[members] = order.window_starts[window + 1] - order.window_starts[window]
            keys[members] = derive_keys(order.key, window)
        shuffled = start + permute(place - start, size, keys)
        shard = np.empty_like(place)
        sample = np.empty_like(place)
        for order, members in zip(orders, by_group, strict=True):
            slot = np.searchsorted(order.starts, shuffled[members], side="right") - 1
            shard[members] = order.shards[slot]
            sample[members] = shuffled[members] - order.starts[slot]
        return Locations(source, shard, sample, passes)


def _identities(sources: Sequence[Source]) -> list[tuple[str, int]]:
    """What the order of each source is drawn from: its name, and its number among that name.

    The URL has no part in it: data that is moved or copied keeps its order.
    """
    seen: Counter[str] = Counter()
    identities = []
    for source in sources:
        identities.append((source.name, seen[source.name]))
        seen[source.name] += 1
    return identities


def _check_settings(
    sources: Sequence[Source],
    stage: str,
    phases: Sequence[Phase],
    max_epochs: Sequence[float | None] | None,
    block: int,
    shard_window: int,
) -> None:
    problems = []

    def report(what: str, where: str, value: str, remedy: str) -> None:
        problems.append(Problem(what, f"stage {stage}: {where}", value, remedy))

    if not (stage.isprintable() and 0 < len(stage.encode()) <= MAX_STAGE_BYTES):
        report(
            f"the name of a stage has 1 to {MAX_STAGE_BYTES} bytes, all of them printable",
            "name",
            f"{stage!r}, {len(stage.encode())} bytes",
            "Choose another name",
        )
    if not sources:
        report("a stage needs a source", "sources", "none", "Name at least one source")
    for url, times in Counter(source.url for source in sources).items():
        if times > 1:
            report(
                f"a source is named {times} times",
                "sources",
                url,
                "Name it once, and give it a larger weight to see it more often",
            )
    for name, numbers in _numbers_by_source(phases, max_epochs):
        if numbers is not None and len(numbers) != len(sources):
            report(
                f"{len(sources)} sources need as many numbers",
                f"mixture.{name}",
                f"{len(numbers)} of them",
                "Give one for each source",
            )
    for name, number in (("mixture block", block), ("shard window", shard_window)):
        if number < 1:
            report("must be at least 1", name, str(number), "Use a positive number")
    if problems:
        raise ConfigError(problems)


def _numbers_by_source(
    phases: Sequence[Phase], max_epochs: Sequence[float | None] | None
) -> Iterator[tuple[str, Sequence[float | None] | None]]:
    """What is given once a source, with its path in the mixture."""
    yield "max_epochs", max_epochs
    for number, phase in enumerate(phases):
        place = "" if number == 0 else f"phases.{number - 1}."
        yield f"{place}weights", phase.weights
        yield f"{place}min_share", phase.min_shares
        yield f"{place}max_share", phase.max_shares


def _check_sources(sources: Sequence[Source]) -> None:
    problems = [
        Problem(
            what="a shard has a negative number of samples",
            where=f"{source.url} shard {number}",
            value=str(size),
            remedy="Build the manifest anew",
        )
        for source in sources
        for number, size in enumerate(source.shard_sizes)
        if size < 0
    ]
    problems += [
        Problem(
            what="the source has no samples",
            where=source.url,
            value=counted(len(source.shard_sizes), "shard"),
            remedy="Build its shards, or leave it out of the stage",
        )
        for source in sources
        if not any(source.shard_sizes)
    ]
    if problems:
        raise ShardError(problems)
