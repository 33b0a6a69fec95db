"""Locks on files between processes and nodes: the system frees those of a process that died."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headrace.errors import Problem, StorageError

_UNSUPPORTED = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
_exclusive: set[int] = set()
"""Descriptors under an exclusive lock.  A forked child would keep these locks after the death of
the process that works under them, so it closes its copies."""


def lock(descriptor: int, *, shared: bool, wait: bool) -> bool:
    """Lock an open file (flock); False if another one has it and ``wait`` is not set.

    Raises :class:`StorageError` where the file system has no locks.
    """
    operation = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(descriptor, operation if wait else operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        raise StorageError(
            Problem(
                "the file system of the cache has no locks",
                str(Path(f"/proc/self/fd/{descriptor}").resolve()),
                error.strerror,
                "Choose a folder on another disk, or mount this one with flock",
            )
        ) from error
    return True


def is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file is still the one at a path: it may be deleted or replaced."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    mine = os.fstat(descriptor)
    return (found.st_dev, found.st_ino) == (mine.st_dev, mine.st_ino)


@contextmanager
def claimed(path: Path, *, wait: bool) -> Iterator[int | None]:
    """Open a file, made where it is missing, under an exclusive lock: its descriptor.

    None if another one has it and ``wait`` is not set.  Folders are made, too.
    """
    descriptor = _claim(path, wait)
    if descriptor is None:
        yield None
        return
    _exclusive.add(descriptor)
    try:
        yield descriptor
    finally:
        _exclusive.discard(descriptor)
        os.close(descriptor)


def _claim(path: Path, wait: bool) -> int | None:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:
            continue  # the folder went away in between
        mine = False
        try:
            if not lock(descriptor, shared=False, wait=wait):
                return None
            mine = is_at(descriptor, path)
            if mine:
                return descriptor
        finally:
            if not mine:
                os.close(descriptor)


def _close_in_child() -> None:
    for descriptor in _exclusive:
        os.close(descriptor)
    _exclusive.clear()


os.register_at_fork(after_in_child=_close_in_child)
