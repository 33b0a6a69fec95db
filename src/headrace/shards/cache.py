"""Local copies of remote shards, verified, shared by processes and nodes, limited in size."""

from __future__ import annotations

import json
import logging
import os
import weakref
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import xxhash

from headrace.errors import StorageError
from headrace.shards import storage
from headrace.shards.background import Background
from headrace.shards.download import download_shard
from headrace.shards.eviction import DISK_FULL, NOTES, Room
from headrace.shards.index import index_url
from headrace.shards.locks import claimed, is_at, lock
from headrace.shards.manifest import ShardEntry
from headrace.shards.retry import DEFAULT_RETRY, RetryPolicy

T = TypeVar("T")

DEFAULT_FOLDER = ".headrace/shards"
_log = logging.getLogger(__name__)


class Lease:
    """The right to use a cached shard: it is not evicted before the lease is released."""

    def __init__(self, descriptor: int, tar: Path) -> None:
        self.folder = str(tar.parent)
        """Folder that holds the tar and its index."""
        self.inode = os.fstat(descriptor).st_ino
        """Which file it is: one that is fetched again gets another number."""
        self._tar = tar
        self._close = weakref.finalize(self, os.close, descriptor)

    def release(self) -> None:
        """Let the shard be evicted from now on; it counts as used now."""
        if self._close.alive:
            _stamp(self._tar)
            self._close()


class ShardCache:
    """A folder of verified copies of remote shards.

    A shard is kept under the hash of its full URL and of the content that the manifest pins, so
    that shards of equal names never meet and a replaced shard is another entry.  Any number of
    processes and nodes may use one folder if its file system has ``flock``: each shard is fetched
    by one of them.  A copy appears by renaming, after its bytes were found to be those of the
    manifest and are on the disk.  Files that the cache did not make are never touched.

    Args:
        folder: Local folder, made where it is missing.
        limit_bytes: Size that the least recently used shards are deleted for; shards in use stay.
            None: only a full disk makes room.
        threads: Shards that are fetched at one time in the background.
    """

    def __init__(
        self,
        folder: Path | str = DEFAULT_FOLDER,
        *,
        limit_bytes: int | None = None,
        threads: int = 4,
    ) -> None:
        self.folder = storage.local_folder(str(folder), "shard cache")
        self.limit_bytes = limit_bytes
        self._threads = threads
        self._room = Room(self.folder, limit_bytes)
        self._background = Background(threads)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (str(self.folder), self.limit_bytes, self._threads)

    def acquire(
        self,
        url: str,
        entry: ShardEntry,
        retry: RetryPolicy = DEFAULT_RETRY,
        damaged: Lease | None = None,
    ) -> Lease:
        """A lease on the local copy of a shard of the source at ``url``, fetched if need be.

        ``damaged`` is the lease of a copy that turned out not to be intact: another one is
        fetched, once for all processes that hold it.

        Raises :class:`ShardError` if the shard cannot be fetched, is not that of the manifest, or
        if the folder cannot be written.
        """
        key = _key(url, entry)
        tar = self.folder / key / entry.name
        bad = None if damaged is None else damaged.inode
        with storage.writing_problems(StorageError, "the shard cache cannot be used", self.folder):
            self._room.sweep()
            while True:
                lease = _lease(tar, entry, bad)
                if lease is not None:
                    return lease
                with self._alone_with(key, entry):
                    # Somebody else may have fetched it meanwhile.
                    if not _is_intact(tar, entry, bad):
                        self._fetch(url, entry, key, retry)

    def drop(self, hashes: Collection[str]) -> tuple[int, int]:
        """Delete the copies of shards with these hashes, from whatever URL they were fetched.

        Returns:
            How many were deleted, and how many stay since they are in use; these are the first to
            be evicted when they are not.
        """
        with storage.writing_problems(StorageError, "the shard cache cannot be used", self.folder):
            return self._room.drop(hashes)

    def acquire_later(
        self, url: str, entry: ShardEntry, retry: RetryPolicy = DEFAULT_RETRY
    ) -> Future[Lease]:
        """Start :meth:`acquire` in the background; its error is that of the future."""
        return self._background.submit(partial(self.acquire, url, entry, retry))

    @contextmanager
    def _alone_with(self, key: str, entry: ShardEntry) -> Iterator[None]:
        """No other process fetches the entry, and nothing unfinished of it is left behind."""
        with ExitStack() as stack:
            path = self._room.lock_of(key)
            if stack.enter_context(claimed(path, wait=False)) is None:
                _log.info("waiting for another process that fetches %s: %s", entry.name, path)
                stack.enter_context(claimed(path, wait=True))
            stack.callback(self._room.drop_parts, key)
            yield

    def _fetch(self, url: str, entry: ShardEntry, key: str, retry: RetryPolicy) -> None:
        """Fetch a shard, and put it where it belongs when it is on the disk."""
        parts = {
            name: self._room.part_of(key, name)
            for name in (index_url(entry.name), NOTES, entry.name)
        }
        with self._with_room(lambda: parts[entry.name].open("w+b", buffering=0), 1) as file:
            self._room.reserve(file.fileno(), entry.bytes)

            def write(data: bytes) -> None:
                rest = memoryview(data)
                while len(rest):
                    rest = rest[self._with_room(partial(file.write, rest), len(rest)) :]

            index = download_shard(url, entry, file, write, retry).to_bytes()
            os.fsync(file.fileno())
        notes = {"url": storage.join(url, entry.name), "hash": entry.hash}
        # These two are not forced to disk: they can be made again, and their damage shows.
        for name, data in ((index_url(entry.name), index), (NOTES, json.dumps(notes).encode())):
            self._with_room(partial(parts[name].write_bytes, data), len(data))
        # The tar comes last: where it is, the entry is complete.
        for name, part in parts.items():
            _move(part, self.folder / key / name)
        storage.sync(self.folder / key)

    def _with_room(self, write: Callable[[], T], size: int) -> T:
        """Write, after deleting old shards where the disk is full."""
        while True:
            try:
                return write()
            except OSError as error:
                if error.errno not in DISK_FULL or not self._room.free(size):
                    raise


def _key(url: str, entry: ShardEntry) -> str:
    """32 hexadecimal digits for the full URL and the content that the manifest pins."""
    parts = [storage.join(url, entry.name), entry.bytes, entry.hash]
    return xxhash.xxh3_128_hexdigest(json.dumps(parts).encode())


def _lease(tar: Path, entry: ShardEntry, bad: int | None) -> Lease | None:
    try:
        descriptor = os.open(tar, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    kept = False
    try:
        # This waits only while the shard is being evicted.
        lock(descriptor, shared=True, wait=True)
        found = os.fstat(descriptor)
        kept = is_at(descriptor, tar) and found.st_ino != bad and found.st_size == entry.bytes
        if not kept:
            return None
        _stamp(tar)
        return Lease(descriptor, tar)
    finally:
        if not kept:
            os.close(descriptor)


def _move(part: Path, target: Path) -> None:
    while True:
        target.parent.mkdir(exist_ok=True)
        try:
            part.replace(target)
        except FileNotFoundError:
            # An old entry that is just being evicted takes its empty folder with it.
            if not part.exists():
                raise
        else:
            return


def _is_intact(tar: Path, entry: ShardEntry, bad: int | None) -> bool:
    try:
        found = tar.stat()
    except FileNotFoundError:
        return False
    return found.st_ino != bad and found.st_size == entry.bytes


def _stamp(tar: Path) -> None:
    """Eviction goes by the time of the last use; a cache may be readable only."""
    with suppress(OSError):
        os.utime(tar)


def _reopen(folder: str, limit_bytes: int | None, threads: int) -> ShardCache:
    return ShardCache(folder, limit_bytes=limit_bytes, threads=threads)
