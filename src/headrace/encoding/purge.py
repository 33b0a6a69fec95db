"""Deletes the sidecars that hold removed samples, and keeps the lengths that batches need."""

from __future__ import annotations

import json
from pathlib import Path

from filelock import FileLock

from headrace.encoding import store
from headrace.encoding.planned import Planned, hashes_of, planned_of_sidecar, read_planned, record
from headrace.shards.manifest import read_manifest
from headrace.shards.tombstones import read_tombstones


def purge_sidecars(url: str, cache_dir: Path | str) -> int:
    """Delete the sidecars, of all encodings, of shards that have removed samples in them.

    They are made again, without these samples, when they are next needed.  The lengths of what is
    removed go into the source before: with them a run goes on with the same batches on a machine
    that has never seen the texts.  How many sidecars were deleted.

    Raises ``ShardError`` if the source cannot be read or written.
    """
    cache = Path(cache_dir).expanduser()
    manifest = read_manifest(url)
    tombstones = read_tombstones(url, manifest)
    deleted = 0
    for folder in sorted(cache.glob(f"*/{store.source_id(url)}")):
        spec = folder.parent.name
        found: dict[str, Planned] = {}
        stale: list[Path] = []
        for entry in manifest.shards:
            removed = tombstones.of(entry.name)
            if not len(removed):
                continue
            hashes = hashes_of(manifest, entry)
            sidecar = folder / entry.name.removesuffix(".tar")
            lengths = planned_of_sidecar(sidecar, entry.name, hashes, removed.numbers)
            stale += [sidecar] if _holds_removed(sidecar, removed.numbers.tolist()) else []
            known = {number: of for number, of in read_planned(sidecar).items() if of is not None}
            found[entry.name] = {**lengths, **known}
        record(url, spec, {name: planned for name, planned in found.items() if planned})
        for sidecar in stale:
            with FileLock(f"{sidecar}.lock"):
                store.remove_folder(sidecar)
                deleted += 1
    return deleted


def _holds_removed(sidecar: Path, removed: list[int]) -> bool:
    """Whether a sidecar was made when one of these samples was still in its shard."""
    if not sidecar.is_dir():
        return any(sidecar.parent.glob(f".{sidecar.name}.part-*"))
    try:
        meta = json.loads((sidecar / store.META_FILE).read_text(encoding="utf-8"))
        return not set(removed) <= set(meta.get("lacks", ()))
    except (OSError, ValueError, AttributeError, TypeError):
        return True  # damaged: nobody knows what is in it
