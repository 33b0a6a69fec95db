"""The lengths of removed samples: batches go on being planned with them.

A removed sample has left the shard and the sidecar; how many tokens it had stays known, so that no
other sample gets into another batch.  Lengths are taken from the sidecar that had the sample, or
measured while its text is still there, and kept beside the sidecar.  ``headrace remove`` puts them
into the source as well before it deletes sidecars: ``tombstones/planned-SPEC.json``.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from headrace.encoding import store
from headrace.encoding.encoded_shard import EncodedShard
from headrace.errors import EncodingError, Problem, ShardError
from headrace.shards import storage
from headrace.shards.tombstones import FOLDER

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


@dataclass(frozen=True)
class UnwrittenShard(EncodedShard):
    """Samples that were encoded to be measured, and are not written."""

    arrays: Mapping[str, NDArray[Any]]

    def array(self, name: str) -> NDArray[Any]:
        """A whole array."""
        return self.arrays[name]


def _parsed(content: Mapping[str, Any]) -> Planned:
    planned: Planned = {}
    for number, lengths in content.items():
        planned[int(number)] = None if lengths is None else [int(length) for length in lengths]
    return planned


def _path(sidecar: Path) -> Path:
    return sidecar.with_name(f"{sidecar.name}.planned.json")


def _recorded_url(url: str, spec: str) -> str:
    return storage.join(url, FOLDER, f"planned-{spec}.json")
