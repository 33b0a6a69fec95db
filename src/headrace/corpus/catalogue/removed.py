"""Which documents of a corpus have been removed: the tombstones of its languages."""

from __future__ import annotations

from collections.abc import Iterable

from headrace.shards import storage
from headrace.shards.manifest import read_manifest
from headrace.shards.tombstones import read_tombstones


def removed_ids(url: str, folders: Iterable[str]) -> dict[str, int]:
    """Ids of removed documents -> epoch of the tombstone, over all folders of shards.

    Raises :class:`ShardError` if the manifest of a language or a tombstone file is missing or
    damaged: what it removed would come back.
    """
    removed: dict[str, int] = {}
    for folder in folders:
        source = storage.join(url, folder)
        for samples in read_tombstones(source, read_manifest(source)).shards.values():
            removed.update(zip(samples.keys, samples.epochs.tolist(), strict=True))
    return removed
