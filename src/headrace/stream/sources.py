"""Folders of shards as sources of the stream."""

from __future__ import annotations

from headrace.shards.manifest import Manifest
from headrace.shards.reader import ShardReader
from headrace.stream.plan import Source
from headrace.stream.selected import Chosen


def stream_source(
    name: str,
    reader: ShardReader,
    fingerprint: str | None = None,
    chosen: Chosen | None = None,
) -> Source:
    """Describe a source of shards to the stream; see :func:`manifest_source`."""
    return manifest_source(name, reader.url, reader.manifest, fingerprint, chosen)


def manifest_source(
    name: str,
    url: str,
    manifest: Manifest,
    fingerprint: str | None = None,
    chosen: Chosen | None = None,
) -> Source:
    """Describe a source to the stream by its manifest, and by what is chosen of its samples.

    Without ``fingerprint`` its own is that of the manifest and of the choice.  Samples that were
    removed keep their positions, so it does not change with them.
    """
    if chosen is None:
        sizes = tuple(entry.samples for entry in manifest.shards)
        own = manifest.identity
    else:
        sizes, own = chosen.sizes, chosen.fingerprint(manifest.identity)
    return Source(name=name, url=url, shard_sizes=sizes, fingerprint=fingerprint or own)
