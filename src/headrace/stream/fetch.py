"""Reads the samples at given locations, many at a time, shard by shard.

The samples of a chunk are sorted by source, shard and number, each shard is read once in ascending
order, and the contents are put back into the order of positions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from headrace.errors import ShardError
from headrace.shards.reader import ShardReader
from headrace.shards.sample import Sample
from headrace.shards.shard import Shard
from headrace.stream.plan import Locations

Item: TypeAlias = Sample | bytes | tuple[bytes, ...]

CLOSE_AFTER = 32
"""A shard is closed after its source has given this many times the window's shards in samples
without one from it: the windows of the plan have gone past it."""


class _LeftOut:
    """Stands in a chunk for a sample of a quarantined shard."""


LEFT_OUT: Final = _LeftOut()


@dataclass(frozen=True)
class Chunk:
    """Samples in the order in which they were asked for."""

    items: list[Any]
    """An :data:`Item` each, or ``LEFT_OUT``."""
    found: list[tuple[int, str]]
    """Shards that turned out to be bad: the first of ``items`` that lacks them, and their names."""
    whole: bool
    """Whether none of ``items`` is ``LEFT_OUT``."""


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
    ) -> None:
        """``names`` are those of the sources; with ``quarantine`` bad shards are left out."""
        self.readers = tuple(readers)
        self.names = tuple(names)
        self._fields = fields
        self._quarantine = quarantine
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

        Raises ``ShardError`` for a bad shard, unless bad shards are quarantined.
        """
        count = len(locations)
        if not count:
            return Chunk([], [], True)
        group = locations.source * self._most_shards + locations.shard
        order = np.argsort(group * self._most_samples + locations.sample)
        group, samples = group[order], locations.sample[order]
        edges = [0, *(np.flatnonzero(np.diff(group)) + 1).tolist(), count]
        contents: list[Any] = []
        found: list[tuple[int, str]] = []
        whole = True
        for begin, end in pairwise(edges):
            place = divmod(int(group[begin]), self._most_shards)
            if place in self._left_out:
                contents += [LEFT_OUT] * (end - begin)
                whole = False
                continue
            self._drawn[place[0]] += end - begin
            self._last_use[place] = -1
            try:
                contents += self._read(self._shard(place), samples[begin:end])
            except ShardError:
                if not self._quarantine:
                    raise
                read, first_bad = self._read_until_bad(place, samples[begin:end], order[begin:end])
                contents += read
                if first_bad is not None:
                    found.append((first_bad, self._name(place)))
                    whole = False
                    self._left_out.add(place)
        found.sort()
        self._close_idle()
        inverse = np.empty(count, dtype=np.int64)
        inverse[order] = np.arange(count)
        return Chunk([contents[number] for number in inverse.tolist()], found, whole)

    def close(self) -> None:
        """Close all sources."""
        for reader in self.readers:
            reader.close()

    def _name(self, place: tuple[int, int]) -> str:
        source, shard = place
        return f"{self.names[source]}/{self.readers[source].manifest.shards[shard].name}"

    def _shard(self, place: tuple[int, int]) -> Shard:
        return self.readers[place[0]].shard(place[1])

    def _close_idle(self) -> None:
        drawn = self._drawn
        for place, use in list(self._last_use.items()):
            source, shard = place
            if use < 0:  # it has just been read from
                self._last_use[place] = drawn[source]
            elif drawn[source] - use > self._idle:
                self.readers[source].close_shard(shard)
                del self._last_use[place]

    def _read(self, shard: Shard, samples: NDArray[np.int64]) -> Sequence[Item]:
        if self._fields is None:
            return shard.read_samples(samples)
        if isinstance(self._fields, str):
            return shard.read_many(samples, (self._fields,))[0]
        return list(zip(*shard.read_many(samples, self._fields), strict=True))

    def _read_until_bad(
        self, place: tuple[int, int], samples: NDArray[np.int64], positions: NDArray[np.int64]
    ) -> tuple[list[Any], int | None]:
        """A bad shard's samples up to the first whose bytes are bad, in the order of positions.

        So the position from which a shard is left out does not depend on how many samples are
        read together.
        """
        contents: list[Any] = [LEFT_OUT] * len(samples)
        for number in np.argsort(positions).tolist():
            try:
                part = samples[number : number + 1]
                (contents[number],) = self._read(self._shard(place), part)
            except ShardError:
                return contents, int(positions[number])
        # It was bad a moment ago and is not now: someone put the file back.
        return contents, None
