"""One open shard: samples by number, one or many at a time, read through the index of the tar."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from headrace.errors import ConfigError, Problem, ShardError
from headrace.shards import storage
from headrace.shards.index import ShardIndex, index_url, read_index
from headrace.shards.manifest import ShardEntry
from headrace.shards.retry import DEFAULT_RETRY, RetryPolicy
from headrace.shards.sample import Sample
from headrace.shards.substitutes import choose_substitutes, seed_of, shortest
from headrace.shards.tars import CachedCopy, Tar, open_tar
from headrace.shards.tombstones import NOTHING_REMOVED, RemovedSamples

_SCAN = 256
"""Samples read together when a shard is gone through in order."""


class Shard:
    """One open shard: a sequence of samples.

    Numbers count all samples that were written.  Those that were removed since are passed over in
    an iteration, and in their place a substitute is read, see :meth:`served`; ``len`` and ``keys``
    are as they were.
    """

    def __init__(
        self,
        url: str,
        entry: ShardEntry,
        *,
        verify: bool = True,
        retry: RetryPolicy = DEFAULT_RETRY,
        cached: CachedCopy | None = None,
        removed: RemovedSamples = NOTHING_REMOVED,
    ) -> None:
        self.name = entry.name
        self.removed = removed
        """Samples that are not served any more."""
        tar_url = storage.join(cached.lease.folder if cached else url, entry.name)
        self.index = read_index(tar_url, retry)
        check_index(self.index, entry, index_url(tar_url))
        blocks = self.index.block_hashes.tolist() if verify else None
        self._tar: Tar = open_tar(tar_url, entry, blocks, retry, cached)
        # No Python number a member: opening a shard of 20,000 samples takes about a millisecond.
        self._starts = _signed(self.index.member_starts)
        self._begins = _signed(self.index.member_offsets)
        self._ends = self._begins + _signed(self.index.member_sizes)
        self._key_ends = _signed(self.index.key_ends)
        self._members: dict[str, NDArray[np.int64]] = {}

    def __len__(self) -> int:
        return len(self.index)

    @property
    def keys(self) -> list[str]:
        """The keys of the samples in order."""
        return self.index.keys

    def __getitem__(self, number: int) -> Sample:
        """Sample ``number``, counted from 0; :class:`ShardError` if its bytes are not intact."""
        if number < 0:
            number += len(self)
        if not 0 <= number < len(self):
            raise IndexError(f"sample {number} of {len(self)} in {self.name}")
        (sample,) = self.read_samples(np.array([number], dtype=np.int64))
        return sample

    def __iter__(self) -> Iterator[Sample]:
        living = self.living
        for start in range(0, len(living), _SCAN):
            numbers = living[start : start + _SCAN]
            try:
                samples = self.read_samples(numbers)
            except ShardError:
                # What comes before the bad bytes is still handed out.
                for number in numbers.tolist():
                    yield self[number]
            else:
                yield from samples

    @cached_property
    def living(self) -> NDArray[np.int64]:
        """Numbers of the samples that are not removed, ascending."""
        numbers = np.arange(len(self), dtype=np.int64)
        return np.delete(numbers, self.removed.numbers) if len(self.removed) else numbers

    @cached_property
    def room(self) -> NDArray[np.int64]:
        """``[samples]``: bytes of all members of each sample."""
        sizes = np.concatenate((np.zeros(1, np.int64), np.cumsum(self._ends - self._begins)))
        return np.diff(sizes[self._starts])

    def served(
        self, samples: NDArray[np.int64], among: NDArray[np.int64] | None = None
    ) -> NDArray[np.int64]:
        """The numbers of what is read for some samples: living ones, and substitutes for others.

        A substitute is a living sample of the shard that is no larger, or else the smallest one:
        see :func:`~headrace.shards.substitutes.choose_substitutes`.  ``among`` are the numbers
        that are taken first, where some of them live.  -1 where no sample lives.
        """
        if not len(self.removed):
            return samples
        if among is None:
            served = self._served
        else:
            living = np.intersect1d(among, self.living)
            served = self._substituted(living if living.size else self.living)
        return served[samples]

    @cached_property
    def _served(self) -> NDArray[np.int64]:
        return self._substituted(self.living)

    def _substituted(self, living: NDArray[np.int64]) -> NDArray[np.int64]:
        candidates = np.zeros(len(self), dtype=np.bool_)
        candidates[living] = True
        seeds = np.array([seed_of(key) for key in self.removed.keys], dtype=np.uint64)
        chosen = choose_substitutes(self.room, candidates, self.removed.numbers, seeds)
        chosen[chosen < 0] = shortest(self.room, candidates)
        served = np.arange(len(self), dtype=np.int64)
        served[self.removed.numbers] = chosen
        return served

    def read_many(self, samples: NDArray[np.int64], fields: Sequence[str]) -> list[list[bytes]]:
        """The contents of some fields of some samples: a list a field, each as long as ``samples``.

        ``samples`` is int64[n], any numbers of ``0..len-1`` in any order; ascending order reads
        fastest.  Raises :class:`ShardError` if bytes are not intact, :class:`ConfigError` if a
        sample does not have a field.
        """
        samples = self._readable(samples)
        contents = []
        for field in fields:
            members = self._members_of(field)[samples]
            if members.size and members.min() < 0:
                raise ConfigError(self._missing(field, int(samples[members.argmin()])))
            contents.append(self._tar.read_many(self._begins[members], self._ends[members]))
        return contents

    def read_samples(self, samples: NDArray[np.int64]) -> list[Sample]:
        """Whole samples, as many as ``samples`` (int64[n], any order) has numbers.

        Raises :class:`ShardError` if bytes are not intact.
        """
        return list(map(Sample, self.keys_of(samples), self.read_fields(samples)))

    def read_fields(self, samples: NDArray[np.int64]) -> list[dict[str, bytes]]:
        """All fields of some samples (int64[n], any order), by name.

        Raises :class:`ShardError` if bytes are not intact.
        """
        return self._fields_of(self._readable(samples))

    def removed_samples(self, numbers: NDArray[np.int64]) -> list[Sample]:
        """Removed samples as they were, to measure them: they are not to be served.

        Raises :class:`ShardError` if bytes are not intact.
        """
        return list(map(Sample, self._keys_of(numbers), self._fields_of(numbers)))

    def _readable(self, samples: NDArray[np.int64]) -> NDArray[np.int64]:
        served = self.served(samples)
        if served is not samples and served.size and served.min() < 0:
            what = "all samples of the shard were removed"
            raise ShardError(Problem(what, f"shard {self.name}", remedy="Read another shard"))
        return served

    def _fields_of(self, samples: NDArray[np.int64]) -> list[dict[str, bytes]]:
        firsts = self._starts[samples]
        counts = self._starts[samples + 1] - firsts
        # The members of all the samples, one sample's after the other's.
        before = np.cumsum(counts) - counts
        members = np.repeat(firsts - before, counts) + np.arange(int(counts.sum()))
        contents = self._tar.read_many(self._begins[members], self._ends[members])
        names, fields = self.index.field_names, self.index.member_fields[members]
        size = int(counts[0]) if counts.size else 0
        layout = fields[:size]
        if size and (counts == size).all() and (fields.reshape(-1, size) == layout).all():
            # All samples have the same members, as what Headrace wrote always has.
            own = [names[number] for number in layout.tolist()]
            rows = zip(*[iter(contents)] * size, strict=True)
            return [dict(zip(own, row, strict=True)) for row in rows]
        labels = map(names.__getitem__, fields.tolist())
        pairs = zip(labels, contents, strict=True)
        return [dict(islice(pairs, count)) for count in counts.tolist()]

    def keys_of(self, samples: NDArray[np.int64]) -> list[str]:
        """The keys of some samples (int64[n]); those of the substitutes of removed ones."""
        return self._keys_of(self._readable(samples))

    def _keys_of(self, samples: NDArray[np.int64]) -> list[str]:
        ends = self._key_ends[samples]
        begins = np.where(samples > 0, self._key_ends[samples - 1], 0)
        text = self.index.key_bytes
        return [
            text[begin:end].decode()
            for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)
        ]

    def close(self) -> None:
        """Let go of the file."""
        self._tar.close()

    def _members_of(self, field: str) -> NDArray[np.int64]:
        """The member of each sample that holds a field, -1 where there is none; int64[n]."""
        members = self._members.get(field)
        if members is None:
            members = np.full(len(self), -1, dtype=np.int64)
            if field in self.index.field_names:
                number = self.index.field_names.index(field)
                found = np.flatnonzero(self.index.member_fields == number)
                starts = self._starts
                if found.size == members.size and np.all(
                    (starts[:-1] <= found) & (found < starts[1:])
                ):
                    members = found  # one in each sample: nothing to search
                else:
                    members[np.searchsorted(self._starts, found, side="right") - 1] = found
            self._members[field] = members
        return members

    def _missing(self, field: str, sample: int) -> Problem:
        members = slice(*self._starts[sample : sample + 2].tolist())
        found = [self.index.field_names[n] for n in self.index.member_fields[members].tolist()]
        (key,) = self.keys_of(np.array([sample], dtype=np.int64))
        return Problem(
            f"the sample has no field {field}",
            f"shard {self.name} sample {key}",
            ", ".join(found),
            "Ask for other fields, or build the source anew",
        )


def check_index(index: ShardIndex, entry: ShardEntry, where: str) -> None:
    """Raise :class:`ShardError` if the index is not of the very tar that the manifest pins."""
    pairs = [
        ("hash of the tar", index.tar_hash, entry.hash),
        ("size of the tar", index.tar_bytes, entry.bytes),
        ("number of samples", len(index), entry.samples),
    ]
    problems = [
        Problem(
            f"the index and the manifest differ in the {name}",
            where,
            f"{found}, the manifest says {wanted}",
            "Make both again with: headrace index URL --rebuild",
        )
        for name, found, wanted in pairs
        if found != wanted
    ]
    if problems:
        raise ShardError(problems)


def _signed(array: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The same bytes as int64: offsets are far below 2**63, and indices are int64."""
    return array.view(np.int64)
