"""Room in the shard cache: what is in it, what may go, and what dead processes left."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from headrace.file_hash import hash_of
from headrace.shards.index import INDEX_SUFFIX
from headrace.shards.locks import claimed, is_at, lock

DISK_FULL = {errno.ENOSPC, errno.EDQUOT}
INCOMING = "incoming"
"""Folder of the tars that are being fetched, each named by its key, with a lock file beside."""
NOTES = "entry.json"
"""What the entry is, for people."""
_KEY = re.compile(r"[0-9a-f]{32}")
_LOCK = "lock"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Entry:
    """What one folder of the cache holds."""

    folder: Path
    tar: Path | None
    bytes: int
    used: int
    """Nanoseconds at which the tar was used last."""


class Room:
    """The space of a cache folder.

    Only folders are looked at whose name is a key, and only files in them that the cache writes.
    """

    def __init__(self, folder: Path, limit_bytes: int | None) -> None:
        self._folder = folder
        self._limit = limit_bytes
        self._swept_by: int | None = None
        self._warned = False

    def part_of(self, key: str, name: str) -> Path:
        """A file of an entry while it is made; what it is called at last is ``name``."""
        return self._folder / INCOMING / f"{key}{Path(name).suffix}.part"

    def lock_of(self, key: str) -> Path:
        """The file whose lock the process has that fetches an entry."""
        return self._folder / INCOMING / f"{key}.lock"

    def drop_parts(self, key: str) -> None:
        """Delete what is unfinished of an entry, and its lock file; the caller has the lock."""
        for path in (self._folder / INCOMING).glob(f"{key}.*"):
            if path != self.lock_of(key):
                path.unlink(missing_ok=True)
        self.lock_of(key).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Delete what processes that were killed have left; done once in a process."""
        if self._swept_by == os.getpid():
            return
        self._swept_by = os.getpid()
        with claimed(self._folder / _LOCK, wait=True), suppress(FileNotFoundError):
            keys = {path.name.partition(".")[0] for path in (self._folder / INCOMING).iterdir()}
            for key in sorted(filter(_KEY.fullmatch, keys)):
                with claimed(self.lock_of(key), wait=False) as own:
                    if own is None:
                        continue  # its process lives
                    folder = self._folder / key
                    if folder.is_dir() and not any(folder.glob("*.tar")):
                        for path in _ours(folder):
                            path.unlink(missing_ok=True)
                        with suppress(OSError):
                            folder.rmdir()
                    self.drop_parts(key)

    def reserve(self, part: int, size: int) -> None:
        """Make room for ``size`` bytes of a shard; others see them in the open file ``part``.

        Where all that is left is in use, the limit is exceeded with a warning: a run needs the
        shards that it reads.
        """
        if self._limit is None:
            return
        with claimed(self._folder / _LOCK, wait=True):
            entries = self._entries()
            total = sum(entry.bytes for entry in entries) + self._arriving() + size
            for entry in entries:
                if total <= self._limit:
                    break
                if _evict(entry):
                    total -= entry.bytes
            if total > self._limit and not self._warned:
                self._warned = True
                _log.warning(
                    "the shard cache %s takes %s bytes, more than its limit of %s: all of its "
                    "shards are in use; raise the limit, or read fewer sources at a time",
                    self._folder,
                    f"{total:,}",
                    f"{self._limit:,}",
                )
            # Not written yet, but of this size to everybody who adds up.
            os.ftruncate(part, size)

    def free(self, size: int) -> bool:
        """Delete shards of ``size`` bytes since the disk is full; False if none may go."""
        freed = 0
        with claimed(self._folder / _LOCK, wait=True):
            for entry in self._entries():
                if freed >= size:
                    break
                if _evict(entry):
                    freed += entry.bytes
        if freed:
            _log.warning("the disk of the shard cache %s is full: old shards went", self._folder)
        return freed > 0

    def drop(self, hashes: Collection[str]) -> tuple[int, int]:
        """Delete the entries whose tars have these hashes: how many went, and how many are in use.

        Those in use count as not used for long: they are the first to be evicted.
        """
        if not hashes or not self._folder.is_dir():
            return 0, 0
        gone, in_use = 0, 0
        with claimed(self._folder / _LOCK, wait=True):
            for entry in self._entries():
                if entry.tar is None or _hash_of(entry.tar) not in hashes:
                    continue
                if _evict(entry):
                    gone += 1
                else:
                    with suppress(FileNotFoundError):
                        os.utime(entry.tar, (0, 0))
                        in_use += 1
        return gone, in_use

    def _arriving(self) -> int:
        """Bytes of the shards that are being fetched."""
        total = 0
        with suppress(FileNotFoundError):
            for part in (self._folder / INCOMING).iterdir():
                with suppress(FileNotFoundError):
                    total += part.stat().st_size
        return total

    def _entries(self) -> list[_Entry]:
        """All entries, the least recently used first."""
        entries = []
        for folder in self._folder.iterdir():
            if not _KEY.fullmatch(folder.name):
                continue
            tar, size, used = None, 0, 0
            with suppress(FileNotFoundError, NotADirectoryError):
                for path in _ours(folder):
                    found = path.stat()
                    size += found.st_size
                    if path.suffix == ".tar":
                        tar, used = path, found.st_mtime_ns
            entries.append(_Entry(folder, tar, size, used))
        return sorted(entries, key=lambda entry: entry.used)


def _hash_of(tar: Path) -> str:
    """xxh3-128 of the tar of an entry: as its notes say, or of its bytes if they were damaged.

    Empty where the tar has gone since: no hash is that.
    """
    try:
        return str(json.loads(tar.with_name(NOTES).read_bytes())["hash"])
    except (OSError, ValueError, KeyError, TypeError):
        try:
            return hash_of(tar)
        except FileNotFoundError:
            return ""


def _ours(folder: Path) -> list[Path]:
    """The files in the folder of an entry that the cache wrote."""
    return [
        path
        for path in folder.iterdir()
        if path.suffix in (".tar", INDEX_SUFFIX) or path.name == NOTES
    ]


def _evict(entry: _Entry) -> bool:
    """Delete an entry; False if it is in use."""
    if entry.tar is None:
        return False
    try:
        descriptor = os.open(entry.tar, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        if not lock(descriptor, shared=False, wait=False) or not is_at(descriptor, entry.tar):
            return False
        # The tar goes last: while it is there, nobody else writes into the folder.
        entry.tar.with_suffix(INDEX_SUFFIX).unlink(missing_ok=True)
        entry.tar.with_name(NOTES).unlink(missing_ok=True)
        entry.tar.unlink()
    finally:
        os.close(descriptor)
    with suppress(OSError):
        entry.folder.rmdir()
    return True
