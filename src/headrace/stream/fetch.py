"""Reads the samples at given locations, many at a time, shard by shard.

The samples of a chunk are sorted by source, shard and number, each shard is read once in ascending
order, and the contents are put back into the order of positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress, pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from headrace.errors import ShardError, StorageError
from headrace.shards.reader import ShardReader
from headrace.shards.sample import Sample
from headrace.shards.shard import Shard
from headrace.stream.plan import Locations
from headrace.stream.selected import Chosen
from headrace.stream.served import Served

Item: TypeAlias = Sample | bytes | tuple[bytes, ...]

CLOSE_AFTER = 32
"""A shard is closed after its source has given this many times the window's shards in samples
without one from it: the windows of the plan have gone past it."""


@dataclass(frozen=True)
class Chunk:
    """Samples in the order in which they were asked for.

    They are kept as columns and put together when they are handed out, so that the garbage
    collector never sees thousands of samples at a time.
    """

    columns: tuple[list[Any], ...]
    """One value a sample in each: the contents of the fields asked for, or all keys and fields."""
    combine: Callable[..., Iterator[Item]]
    """Makes samples of columns."""
    kept: list[bool] | None
    """Whether the shard of each sample is intact; None: all are."""
    found: list[tuple[int, str]]
    """Shards that turned out to be bad: the number of the first sample that lacks, their names."""

    def items(self, begin: int = 0, end: int | None = None) -> Iterator[Item]:
        """Some of the samples, without those of bad shards."""
        columns = [column[begin:end] for column in self.columns]
        items = self.combine(*columns)
        return items if self.kept is None else compress(items, self.kept[begin:end])


class Fetcher:
    """The open sources of a stream."""

    def __init__(
        self,
        names: Sequence[str],
        readers: Sequence[ShardReader],
        fields: str | Sequence[str] | None,
        *,
        shard_window: int,
        quarantine: bool,
        chosen: Mapping[str, Chosen] | None = None,
    ) -> None:
        """Make one; numbers of samples are those among the ``chosen`` ones of a shard, if given.

        ``names`` are those of the sources; with ``quarantine`` bad shards are left out.
        """
        self.readers = tuple(readers)
        self.names = tuple(names)
        self._fields = (fields,) if isinstance(fields, str) else fields
        self._width = 2 if self._fields is None else len(self._fields)
        self._combine: Callable[..., Iterator[Item]] = zip
        if fields is None:
            self._combine = _samples
        elif isinstance(fields, str):
            self._combine = iter
        self._quarantine = quarantine
        self._chosen = [chosen[name].shards for name in names] if chosen else None
        self._served = [
            Served(reader, None if self._chosen is None else self._chosen[number])
            for number, reader in enumerate(self.readers)
        ]
        self.substituted = 0
        """Samples that were read in place of removed ones."""
        self._left_out: set[tuple[int, int]] = set()
        shards = [reader.manifest.shards for reader in readers]
        self._most_shards = max(len(entries) for entries in shards)
        self._most_samples = max(entry.samples for entries in shards for entry in entries)
        self._idle = CLOSE_AFTER * shard_window
        self._drawn = [0] * len(readers)
        self._last_use: dict[tuple[int, int], int] = {}

    def leave_out(self, shards: Iterable[str]) -> None:
        """From now on leave out these shards (``SOURCE NAME/SHARD NAME``), and no others."""
        wanted = set(shards)
        self._left_out = {
            (source, number)
            for source, name in enumerate(self.names)
            if any(shard.startswith(f"{name}/") for shard in wanted)
            for number, entry in enumerate(self.readers[source].manifest.shards)
            if f"{name}/{entry.name}" in wanted
        }

    def fetch(self, locations: Locations) -> Chunk:
        """The samples at ``locations``, in their order.

        Raises ``ShardError`` for a bad shard, unless bad shards are quarantined, and
        ``StorageError`` where it cannot be told whether it is one.
        """
        for reader, served in zip(self.readers, self._served, strict=True):
            if reader.refresh():
                served.forget()
        count = len(locations)
        group = locations.source * self._most_shards + locations.shard
        order = np.argsort(group * self._most_samples + locations.sample)
        group, samples = group[order], locations.sample[order]
        edges = [0, *(np.flatnonzero(np.diff(group)) + 1).tolist(), count] if count else []
        columns: list[list[Any]] = [[] for _ in range(self._width)]
        found: list[tuple[int, str]] = []
        bad: list[NDArray[np.int64]] = []
        for begin, end in pairwise(edges):
            place = divmod(int(group[begin]), self._most_shards)
            members = order[begin:end]
            if place in self._left_out:
                parts = self._nothing(end - begin)
                bad.append(members)
            else:
                try:
                    parts = self._read(place, samples[begin:end])
                except ShardError as error:
                    # A store that fails for a while must not cost the shards that lie there.
                    if not self._quarantine or isinstance(error, StorageError):
                        raise
                    parts, lacking = self._read_until_bad(place, samples[begin:end], members)
                    if lacking.size:
                        bad.append(lacking)
                        found.append((int(lacking.min()), self._name(place)))
                        self._left_out.add(place)
            for column, part in zip(columns, parts, strict=True):
                column += part
        self._close_idle()
        inverse = np.empty(count, dtype=np.int64)
        inverse[order] = np.arange(count)
        numbers = inverse.tolist()
        kept = None
        if bad:
            mask = np.ones(count, dtype=np.bool_)
            mask[np.concatenate(bad)] = False
            kept = mask.tolist()
        ordered = tuple([column[number] for number in numbers] for column in columns)
        return Chunk(ordered, self._combine, kept, sorted(found))

    def prefetch(self, source: int, shards: Iterable[int]) -> None:
        """Have these shards of a source fetched in the background, but for those left out."""
        left_out = self._left_out
        self.readers[source].prefetch(n for n in shards if (source, n) not in left_out)

    def _name(self, place: tuple[int, int]) -> str:
        source, shard = place
        return f"{self.names[source]}/{self.readers[source].manifest.shards[shard].name}"

    def _close_idle(self) -> None:
        drawn = self._drawn
        for place, use in list(self._last_use.items()):
            source, shard = place
            if use < 0:  # it has just been read from
                self._last_use[place] = drawn[source]
            elif drawn[source] - use > self._idle:
                self.readers[source].close_shard(shard)
                del self._last_use[place]

    def _read(self, place: tuple[int, int], samples: NDArray[np.int64]) -> list[list[Any]]:
        """The columns of some samples of a shard."""
        source, number = place
        self._drawn[source] += len(samples)
        self._last_use[place] = -1
        if self._chosen is not None:
            samples = self._chosen[source][number][samples]
        try:
            return self._read_served(source, number, samples)
        except StorageError:
            raise
        except ShardError:
            # The shard may have been overwritten after it was opened.
            if not self.readers[source].refresh(at_once=True):
                raise
        self._served[source].forget()
        return self._read_served(source, number, samples)

    def _read_served(self, source: int, number: int, samples: NDArray[np.int64]) -> list[list[Any]]:
        """The columns of some samples of a shard, or of what takes their place."""
        reader = self.readers[source]
        removed = reader.removed(number)
        is_removed = np.isin(samples, removed.numbers) if len(removed) else None
        if is_removed is None or not is_removed.any():
            return self._columns(reader.shard(number), samples)
        donor, samples = self._served[source].of(number, samples)
        self._last_use[source, donor] = -1
        self.substituted += int(is_removed.sum())
        return self._columns(reader.shard(donor), samples)

    def _columns(self, shard: Shard, samples: NDArray[np.int64]) -> list[list[Any]]:
        if self._fields is None:
            return [shard.keys_of(samples), shard.read_fields(samples)]
        return list(shard.read_many(samples, self._fields))

    def _nothing(self, count: int) -> list[list[Any]]:
        return [[None] * count for _ in range(self._width)]

    def _read_until_bad(
        self, place: tuple[int, int], samples: NDArray[np.int64], positions: NDArray[np.int64]
    ) -> tuple[list[list[Any]], NDArray[np.int64]]:
        """The columns of a bad shard, and the ``positions`` that lack their sample.

        Those are all from the first, in order, whose bytes are bad: where a shard is left out
        does not depend on how many samples are read together.
        """
        columns = self._nothing(len(samples))
        by_position = np.argsort(positions)
        for done, number in enumerate(by_position.tolist()):
            try:
                parts = self._read(place, samples[number : number + 1])
            except StorageError:
                raise
            except ShardError:
                return columns, positions[by_position[done:]]
            for column, part in zip(columns, parts, strict=True):
                (column[number],) = part
        # It was bad a moment ago and is not now: someone put the file back.
        return columns, positions[:0]


def _samples(keys: list[str], fields: list[dict[str, bytes]]) -> Iterator[Sample]:
    return map(Sample, keys, fields)
