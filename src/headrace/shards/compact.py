"""Writes a source anew without its removed samples: a new version, between runs.

Samples get other numbers and shards other names' contents, so a run that is under way cannot go on
with it: its state names the old manifest, which is the parent of the new one.  The new version is
built beside the source and then takes its name; a process that is killed meanwhile goes on when it
is run again.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from headrace.errors import Problem, ShardError
from headrace.shards import storage
from headrace.shards.manifest import MANIFEST_NAME, Manifest, read_manifest
from headrace.shards.reader import ShardReader
from headrace.shards.writer import ShardWriter

_NEW, _OLD = ".compacted", ".before"


def compact_source(url: str) -> Manifest:
    """Replace a local source by one without its removed samples; its manifest.

    A source from which nothing was removed stays as it is.

    Raises :class:`ShardError` if it is not local, damaged, or nothing of it lives.
    """
    if not storage.is_local(url):
        what = "a source on a store cannot be compacted in its place"
        remedy = "Overwrite it (--stage overwrite), or copy it to a local folder first"
        raise ShardError(Problem(what, url, remedy=remedy))
    folder = storage.local_path(url)
    finish_compaction(folder)
    with ShardReader(url) as reader:
        if not reader.tombstones.samples:
            return reader.manifest
        if not reader.living:
            raise ShardError(
                Problem(
                    "all samples of the source were removed",
                    url,
                    remedy="Delete the folder, and take the language out of corpus.json",
                )
            )
        new = _beside(folder, _NEW)
        _write(reader, str(new))
    # From here on the old one is only in the way.
    folder.rename(_beside(folder, _OLD))
    storage.sync(folder.parent)
    finish_compaction(folder)
    return read_manifest(url)


def finish_compaction(folder: Path) -> None:
    """Finish what a killed :func:`compact_source` left half done, once the new version is whole."""
    new, old = _beside(folder, _NEW), _beside(folder, _OLD)
    if not folder.exists() and old.exists():
        (new if (new / MANIFEST_NAME).exists() else old).rename(folder)
        storage.sync(folder.parent)
    if folder.exists() and old.exists():
        shutil.rmtree(old)


def _write(reader: ShardReader, url: str) -> None:
    """Write the living samples; goes on with what an earlier, killed call has written."""
    manifest = reader.manifest
    names = [entry.name for entry in manifest.shards]
    first = next(iter(reader))
    name = names[0].removesuffix(".tar").rpartition("-")[0] or "shard"
    finished = storage.exists(storage.join(url, MANIFEST_NAME))
    made_from = [manifest.fingerprint, reader.tombstones.epoch]
    if finished and read_manifest(url).metadata.get("compacted") == made_from:
        return
    with ShardWriter(
        url,
        name=name,
        samples_per_shard=max(entry.samples for entry in manifest.shards),
        fields=tuple(first.fields),
        fingerprint=f"compacted {made_from}",
        parent=manifest.fingerprint,
        overwrite=finished,
    ) as writer:
        writer.metadata |= {**manifest.metadata, "compacted": made_from}
        for sample in reader:
            writer.write(sample)


def _beside(folder: Path, ending: str) -> Path:
    return folder.with_name(f".{folder.name}{ending}")
