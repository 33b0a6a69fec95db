"""``tombstones/000001.json``: the samples that were removed from a source, epoch by epoch.

An epoch is a file that is never changed again.  It counts from the moment at which the manifest
says so: the file is written first, the manifest after it, each of them atomically.  A file that
the manifest names and that is not there is an error, since what it removed would come back.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from headrace.errors import Problem, ShardError
from headrace.shards import storage
from headrace.shards.manifest import Manifest, Takedown, read_manifest, write_manifest
from headrace.shards.retry import DEFAULT_RETRY, RetryPolicy

FOLDER = "tombstones"
JOURNAL = "overwriting.json"
"""In the same folder: there while shards are overwritten."""
FORMAT_VERSION = 1
_BRING_BACK = "Bring the file back from a copy of the source"


@dataclass(frozen=True)
class Removed:
    """A removed sample."""

    shard: str
    """File name of its shard."""
    number: int
    """In the shard, from 0."""
    key: str


@dataclass(frozen=True)
class RemovedSamples:
    """The removed samples of one shard."""

    numbers: NDArray[np.int64] = field(repr=False)
    """Ascending."""
    keys: tuple[str, ...]
    epochs: NDArray[np.int64] = field(repr=False)
    """When each was removed."""

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def digest(self) -> str:
        """16 hexadecimal digits over the numbers."""
        return xxhash.xxh3_64_hexdigest(self.numbers.astype("<i8").tobytes())


NOTHING_REMOVED = RemovedSamples(np.zeros(0, np.int64), (), np.zeros(0, np.int64))


@dataclass(frozen=True)
class Tombstones:
    """All that was removed from a source."""

    epoch: int
    """The newest; 0: nothing was ever removed."""
    shards: Mapping[str, RemovedSamples]
    """By file name, of those that have any."""

    def of(self, shard: str) -> RemovedSamples:
        """The removed samples of a shard."""
        return self.shards.get(shard, NOTHING_REMOVED)

    @property
    def samples(self) -> int:
        """Removed samples in all."""
        return sum(map(len, self.shards.values()))


def read_tombstones(url: str, manifest: Manifest, retry: RetryPolicy = DEFAULT_RETRY) -> Tombstones:
    """Read and check what was removed from the source at ``url``.

    Raises :class:`ShardError` if a file is missing, damaged, of another source, or names a sample
    that the manifest does not have.
    """
    takedown = manifest.takedown
    if takedown is None:
        return Tombstones(0, {})
    sizes = {entry.name: entry.samples for entry in manifest.shards}
    found: dict[str, dict[int, tuple[str, int]]] = {}
    for epoch in range(1, takedown.epoch + 1):
        where = epoch_url(url, epoch)
        parse = partial(_parsed, where=where, epoch=epoch, identity=manifest.identity)
        rows = storage.read_parsed(where, parse, retry)
        for row in rows:
            if not 0 <= row.number < sizes.get(row.shard, 0):
                raise ShardError(
                    Problem(
                        "a removed sample that the source does not have",
                        where,
                        f"{row.shard} sample {row.number}",
                        _BRING_BACK,
                    )
                )
            found.setdefault(row.shard, {}).setdefault(row.number, (row.key, epoch))
    return Tombstones(takedown.epoch, {name: _of_shard(some) for name, some in found.items()})


def add_tombstones(url: str, removed: Iterable[Removed]) -> int:
    """Remove samples from a source for good; the number of the epoch.

    The caller holds the lock of the source.  Samples that were removed before are passed over;
    where nothing is left no epoch is made.  Raises :class:`ShardError` for a sample that the
    source does not have.
    """
    manifest = read_manifest(url)
    before = read_tombstones(url, manifest)
    known = {(name, n) for name, some in before.shards.items() for n in some.numbers.tolist()}
    rows = sorted(
        {row for row in removed if (row.shard, row.number) not in known},
        key=lambda row: (row.shard, row.number),
    )
    if not rows:
        return before.epoch
    sizes = {entry.name: entry.samples for entry in manifest.shards}
    wrong = [row for row in rows if not 0 <= row.number < sizes.get(row.shard, 0)]
    if wrong:
        raise ShardError(
            Problem(
                "no such sample to remove",
                url,
                ", ".join(f"{row.shard} {row.number}" for row in wrong[:3]),
                "Look for it in the manifest of the source",
            )
        )
    epoch = before.epoch + 1
    document: dict[str, Any] = {
        "version": FORMAT_VERSION,
        "epoch": epoch,
        "manifest": manifest.identity,
        "removed": [[row.shard, row.number, row.key] for row in rows],
    }
    document["digest"] = _digest(document)
    text = json.dumps(document, ensure_ascii=False, indent=1) + "\n"
    storage.write_atomically(epoch_url(url, epoch), text.encode("utf-8", "surrogatepass"))
    takedown = manifest.takedown
    shards = {} if takedown is None else takedown.shards
    write_manifest(
        url,
        manifest.with_takedown(
            manifest.shards,
            Takedown(epoch, manifest.identity, manifest.fingerprint, shards),
        ),
    )
    return epoch


def broken_off(url: str) -> list[Problem]:
    """A problem, if an overwriting of the source was broken off, or is going on."""
    journal = storage.join(url, FOLDER, JOURNAL)
    if not storage.exists(journal):
        return []
    return [
        Problem(
            "removed documents are being overwritten here, or that was broken off",
            journal,
            remedy="Wait for it to end, or run headrace remove --stage overwrite again",
        )
    ]


def epoch_url(url: str, epoch: int) -> str:
    """The file of an epoch of the source at ``url``."""
    return storage.join(url, FOLDER, f"{epoch:06d}.json")


def _of_shard(some: Mapping[int, tuple[str, int]]) -> RemovedSamples:
    numbers = sorted(some)
    return RemovedSamples(
        np.array(numbers, dtype=np.int64),
        tuple(some[number][0] for number in numbers),
        np.array([some[number][1] for number in numbers], dtype=np.int64),
    )


def _parsed(data: bytes, where: str, epoch: int, identity: str) -> list[Removed]:
    try:
        document = json.loads(data)
        digest = document.pop("digest")
        rows = [
            Removed(shard, number, key)
            for shard, number, key in document["removed"]
            if type(number) is int and isinstance(shard, str) and isinstance(key, str)
        ]
        sound = (
            digest == _digest(document)
            and document["version"] == FORMAT_VERSION
            and document["epoch"] == epoch
            and len(rows) == len(document["removed"])
        )
        found = document["manifest"]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ShardError(
            Problem("not a list of removed samples", where, str(error)[:80], _BRING_BACK)
        ) from error
    if not sound:
        what = "the list of removed samples is damaged, or of another version"
        raise ShardError(Problem(what, where, str(digest)[:40], _BRING_BACK))
    if found != identity:
        what = "the list of removed samples is of another source"
        raise ShardError(Problem(what, where, f"{found}, the manifest is {identity}", _BRING_BACK))
    return rows


def _digest(document: Mapping[str, Any]) -> str:
    text = json.dumps(document, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return xxhash.xxh3_128_hexdigest(text.encode())
