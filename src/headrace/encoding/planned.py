"""The lengths of removed samples: batches go on being planned with them.

A removed sample has left the shard and the sidecar; how many tokens it had stays known, so that no
other sample gets into another batch.  Lengths are taken from the sidecar that had the sample, or
measured while its text is still there, and kept beside the sidecar.  ``headrace remove`` puts them
into the source as well before it deletes sidecars: ``tombstones/planned-SPEC.json``.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import xxhash
from numpy.typing import NDArray

from headrace.encoding import store
from headrace.encoding.encoded_shard import EncodedShard
from headrace.errors import EncodingError, Problem, ShardError
from headrace.shards import storage
from headrace.shards.tombstones import FOLDER

if TYPE_CHECKING:
    from headrace.encoding.task_encoder import TaskEncoder
    from headrace.shards.manifest import Manifest, ShardEntry
    from headrace.shards.reader import ShardReader

Planned: TypeAlias = dict[int, list[int] | None]
"""By number of a sample: the length of each sequence it was, or None where nobody knows any
more."""

_log = logging.getLogger(__name__)


def read_planned(sidecar: Path) -> Planned:
    """The lengths that are kept beside a sidecar; none where there is no such file."""
    path = _path(sidecar)
    try:
        return _parsed(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        _log.warning("%s is damaged and made again: %s", path, error)
        return {}


def write_planned(sidecar: Path, planned: Planned) -> None:
    """Keep lengths beside a sidecar."""
    text = json.dumps({str(number): planned[number] for number in sorted(planned)})
    storage.write_atomically(str(_path(sidecar)), text.encode())


def recorded(url: str, spec: str) -> dict[str, Planned]:
    """The lengths that the source at ``url`` has for an encoding, by file name of the shard.

    Raises :class:`ShardError` if the file is damaged.
    """
    where = _recorded_url(url, spec)
    if not storage.exists(where):
        return {}

    def parse(data: bytes) -> dict[str, Planned]:
        return {name: _parsed(some) for name, some in json.loads(data).items()}

    try:
        return storage.read_parsed(where, parse)
    except (ValueError, TypeError, AttributeError) as error:
        what = "the lengths of removed samples are damaged"
        raise ShardError(Problem(what, where, str(error)[:80], "Delete the file")) from error


def record(url: str, spec: str, found: Mapping[str, Planned]) -> None:
    """Add lengths to those that the source at ``url`` has for an encoding."""
    known = recorded(url, spec)
    merged = {
        name: {**found.get(name, {}), **known.get(name, {})} for name in sorted({*known, *found})
    }
    if merged != known:
        text = json.dumps(merged, indent=1) + "\n"
        storage.write_atomically(_recorded_url(url, spec), text.encode())


def lengths_of(shard: EncodedShard, texts: NDArray[np.int64]) -> list[list[int]]:
    """The lengths of the sequences of each of some samples of a sidecar."""
    lengths = shard.lengths
    return [
        lengths[shard.sequences_of(texts[place : place + 1])].tolist()
        for place in range(len(texts))
    ]


def planned_of_sidecar(
    sidecar: Path, name: str, hashes: Collection[str], wanted: NDArray[np.int64]
) -> Planned:
    """The lengths of some samples of a shard, those of them that its sidecar still has.

    ``hashes`` are those that the shard of this file name has, or had: another one's sidecar is not
    looked at.
    """
    try:
        meta = json.loads((sidecar / store.META_FILE).read_text(encoding="utf-8"))
        if meta["shard_hash"] not in hashes:
            return {}
        lacks = np.array(meta.get("lacks", []), dtype=np.int64)
        there = wanted[~np.isin(wanted, lacks)]
        shard = EncodedShard(name, sidecar, meta)
        lengths = lengths_of(shard, there - np.searchsorted(lacks, there))
    except (OSError, ValueError, KeyError, TypeError, IndexError, EncodingError):
        return {}  # there is none, or it is damaged
    return dict(zip(there.tolist(), lengths, strict=True))


def hashes_of(manifest: Manifest, entry: ShardEntry) -> set[str]:
    """Hashes that a shard has, or had before removed samples were overwritten in it."""
    overwritten = manifest.takedown.shards.get(entry.name) if manifest.takedown else None
    return {entry.hash, *(overwritten.former if overwritten else ())}


@dataclass(frozen=True)
class _MeasuredShard(EncodedShard):
    """Samples that were encoded to be measured, and are not written."""

    arrays: Mapping[str, NDArray[Any]]

    def array(self, name: str) -> NDArray[Any]:
        """A whole array."""
        return self.arrays[name]


class LengthsOfRemoved:
    """Finds the lengths of the removed samples of a source, wherever they are still known."""

    def __init__(
        self, reader: ShardReader, encoder: TaskEncoder, path_of: Callable[[ShardEntry], Path]
    ) -> None:
        """``path_of`` gives the folder of the sidecar of a shard."""
        self._reader = reader
        self._encoder = encoder
        self._path_of = path_of

    def find(self, number: int) -> Planned | None:
        """Those of shard ``number``; None if a sample cannot be encoded.

        They are kept beside the sidecar, or come from a sidecar that still has the samples, from
        the source, or from the text where that is there.
        """
        entry, manifest = self._reader.manifest.shards[number], self._reader.manifest
        removed, path = self._reader.removed(number), self._path_of(entry)
        wanted = removed.numbers.tolist()
        found = planned_of_sidecar(path, entry.name, hashes_of(manifest, entry), removed.numbers)
        found |= read_planned(path)
        overwritten = manifest.takedown.shards.get(entry.name) if manifest.takedown else None
        gone = 0 if overwritten is None else overwritten.epoch
        if gone and any(found.get(n) is None for n in wanted):
            known = recorded(self._reader.url, self._encoder.spec.fingerprint).get(entry.name, {})
            found |= {n: known[n] for n in wanted if found.get(n) is None and n in known}
        readable = [
            n
            for n, epoch in zip(wanted, removed.epochs.tolist(), strict=True)
            if found.get(n) is None and epoch > gone
        ]
        if readable:
            lengths = self._measure(number, np.array(readable, dtype=np.int64))
            if lengths is None:
                return None
            found |= dict(zip(readable, lengths, strict=True))
        return {n: found.get(n) for n in wanted}

    def forgotten(self) -> list[str]:
        """A digest of the removed samples whose lengths are not known any more, if there are any.

        Batches cannot be planned with what is forgotten: a run that was may not go on.
        """
        rows = []
        for number, entry in enumerate(self._reader.manifest.shards):
            if len(self._reader.removed(number)):
                planned = read_planned(self._path_of(entry))
                rows += [[entry.name, n] for n in sorted(planned) if planned[n] is None]
        return [xxhash.xxh3_128_hexdigest(json.dumps(rows).encode())] if rows else []

    def _measure(self, number: int, numbers: NDArray[np.int64]) -> list[list[int]] | None:
        entry = self._reader.manifest.shards[number]
        samples = self._reader.shard(number).removed_samples(numbers)
        encoded = self._encoder.encode(samples, entry.name, lambda _: None)
        if encoded is None:
            return None
        meta = {**encoded.facts, "samples": len(samples), "arrays": encoded.arrays.keys()}
        shard = _MeasuredShard(entry.name, self._path_of(entry), meta, encoded.arrays)
        return lengths_of(shard, np.arange(len(samples)))


def _parsed(content: Mapping[str, Any]) -> Planned:
    planned: Planned = {}
    for number, lengths in content.items():
        planned[int(number)] = None if lengths is None else [int(length) for length in lengths]
    return planned


def _path(sidecar: Path) -> Path:
    return sidecar.with_name(f"{sidecar.name}.planned.json")


def _recorded_url(url: str, spec: str) -> str:
    return storage.join(url, FOLDER, f"planned-{spec}.json")
