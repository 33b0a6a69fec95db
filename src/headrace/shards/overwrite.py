"""Overwrites the bytes of removed samples, each member at its own length.

A shard is not changed in place, since running jobs have it mapped: a copy with other bytes takes
its name, and they keep reading the old file until they close it.  So every file changes as a whole
or not at all.  Offsets stay as they are; hashes change, and the manifest says which shard is the
successor of which, so that a stream knows the source again.

The tar comes first, then its index, then the manifest.  A process that is killed in between leaves
a journal, ``tombstones/overwriting.json``; running it again finishes the work.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import IO, NamedTuple

import numpy as np
import xxhash
from filelock import FileLock, Timeout

from headrace.errors import Problem, ShardError
from headrace.shards import storage
from headrace.shards.index import BlockHasher, ShardIndex, read_index, write_index
from headrace.shards.manifest import (
    Manifest,
    Overwritten,
    ShardEntry,
    Takedown,
    read_manifest,
    write_manifest,
)
from headrace.shards.tombstones import FOLDER, JOURNAL, RemovedSamples, read_tombstones

_MARK = b'{"removed":true}'


class _Patch(NamedTuple):
    """Bytes that take the place of others."""

    start: int
    content: bytes


@contextmanager
def changing(url: str) -> Iterator[None]:
    """No other process removes samples from the source meanwhile; only known of local ones.

    Raises :class:`ShardError` if another one does.
    """
    if not storage.is_local(url):
        yield
        return
    folder = storage.local_path(storage.join(url, FOLDER))
    storage.make_folder(str(folder))
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        what = "another process removes documents from this source"
        raise ShardError(Problem(what, url, remedy="Wait for it to end")) from error
    try:
        yield
    finally:
        lock.release()


def is_interrupted(url: str) -> bool:
    """Whether an overwriting of this source was broken off."""
    return storage.exists(storage.join(url, FOLDER, JOURNAL))


def overwrite_removed(url: str) -> list[str]:
    """Overwrite all removed samples of a source; the names of the shards that were changed.

    The caller holds :func:`changing`.  What is done already is passed over, and what an earlier
    call left unfinished is finished.

    Raises :class:`ShardError` if a shard is not intact: then nothing of it is changed.
    """
    manifest = read_manifest(url)
    tombstones = read_tombstones(url, manifest)
    takedown = manifest.takedown
    journal = _read_journal(url)
    if takedown is None:
        return []
    storage.delete_leftovers(url)  # copies with the removed text in them
    changed = []
    for number, entry in enumerate(manifest.shards):
        removed = tombstones.of(entry.name)
        done = takedown.shards.get(entry.name)
        if not len(removed) or (done is not None and done.epoch >= int(removed.epochs.max())):
            continue
        manifest = _overwrite(url, manifest, number, removed, journal)
        changed.append(entry.name)
    storage.delete(storage.join(url, FOLDER, JOURNAL))
    return changed


def _overwrite(
    url: str,
    manifest: Manifest,
    number: int,
    removed: RemovedSamples,
    journal: dict[str, str],
) -> Manifest:
    """Overwrite the removed samples of one shard; the manifest that names what it is now."""
    entry, takedown = manifest.shards[number], manifest.takedown
    assert takedown is not None
    tar_url = storage.join(url, entry.name)
    # That of the tar before or after: offsets are the same.
    index = read_index(tar_url)
    if len(index) != entry.samples:
        what = "the index does not fit the manifest"
        raise ShardError(Problem(what, tar_url, remedy="Check it with: headrace verify URL"))
    with storage.open_local(tar_url) as source, storage.open_atomically(tar_url) as target:
        before = xxhash.xxh3_128()
        hasher = BlockHasher(target.write)
        _copy(source, _patches(index, removed), before, hasher)
        known = {entry.hash, journal.get(entry.name)}
        if before.hexdigest() not in known or hasher.bytes != entry.bytes:
            raise ShardError(
                Problem(
                    "the shard is not intact, so nothing of it is overwritten",
                    tar_url,
                    f"xxh3 {before.hexdigest()}, the manifest says {entry.hash}",
                    "Copy the shard again from where it came",
                )
            )
        journal |= {entry.name: hasher.digest()}
        text = json.dumps(journal, indent=1) + "\n"
        storage.write_atomically(storage.join(url, FOLDER, JOURNAL), text.encode())
    hashes = np.array(hasher.blocks(), dtype=np.uint64)
    write_index(tar_url, replace(index, tar_hash=hasher.digest(), block_hashes=hashes))
    former = takedown.shards[entry.name].former if entry.name in takedown.shards else ()
    if entry.hash != hasher.digest():
        former = (*former, entry.hash)
    overwritten = Overwritten(int(removed.epochs.max()), former)
    entries: list[ShardEntry] = list(manifest.shards)
    entries[number] = replace(entry, hash=hasher.digest())
    manifest = manifest.with_takedown(
        entries,
        Takedown(
            takedown.epoch,
            takedown.origin,
            takedown.fingerprint,
            {**takedown.shards, entry.name: overwritten},
        ),
    )
    write_manifest(url, manifest)
    return manifest


def _patches(index: ShardIndex, removed: RemovedSamples) -> Iterator[_Patch]:
    """What is written over the members of removed samples, in the order of the tar."""
    starts = index.member_starts.tolist()
    for number in removed.numbers.tolist():
        for member in range(starts[number], starts[number + 1]):
            field = index.field_names[int(index.member_fields[member])]
            yield _Patch(
                int(index.member_offsets[member]), _filler(field, int(index.member_sizes[member]))
            )


def _filler(field: str, size: int) -> bytes:
    """Bytes that say nothing and that a reader of the field can still read."""
    if field == "json" or field.endswith(".json"):
        mark = _MARK if size >= len(_MARK) else b"{}"[:size]
        return mark + b" " * (size - len(mark))
    return (b" " if field == "txt" else b"\0") * size


def _copy(
    source: IO[bytes], patches: Iterator[_Patch], before: xxhash.xxh3_128, target: BlockHasher
) -> None:
    """Copy a tar, with the patches in their places; ``before`` sees what was there."""
    position = 0
    for patch in patches:
        position += _copy_bytes(source, patch.start - position, before, target)
        before.update(source.read(len(patch.content)))
        target.write(patch.content)
        position += len(patch.content)
    _copy_bytes(source, None, before, target)


def _copy_bytes(
    source: IO[bytes], count: int | None, before: xxhash.xxh3_128, target: BlockHasher
) -> int:
    """Copy some bytes, or all that are left; how many."""
    copied = 0
    while count is None or copied < count:
        size = storage.PIECE_BYTES if count is None else min(storage.PIECE_BYTES, count - copied)
        data = source.read(size)
        if not data:
            break
        before.update(data)
        target.write(data)
        copied += len(data)
    return copied


def _read_journal(url: str) -> dict[str, str]:
    """Hashes that shards had been given when an earlier call was broken off, by file name."""
    where = storage.join(url, FOLDER, JOURNAL)
    if not storage.exists(where):
        return {}
    found = storage.read_parsed(where, json.loads)
    return {str(name): str(digest) for name, digest in found.items()}
