"""The run folder, tried out by one rank of each node: sharing, renaming, locks, space."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from headrace.check.measured import FolderSeen
from headrace.errors import Problem, UserError
from headrace.shards.reader import ShardReader

_POLL = 0.02
_FILE = "of-rank-0"


@contextmanager
def probe_folder(folder: Path) -> Iterator[tuple[Path, str]]:
    """A folder of the check within the run folder, with a file of rank 0 that it holds a lock on.

    Yields the folder and what the file has; what was not there before is removed at the end.

    Raises:
        OSError: if this cannot be made.
    """
    content = secrets.token_hex(16)
    # those of the folders above that are made now are taken away again, if nothing else is in them
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    probe = folder / f".check-{content[:8]}"
    probe.mkdir(parents=True)
    try:
        with (probe / _FILE).open("w", encoding="ascii") as file:
            with suppress(OSError):  # without locks: each node finds out
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            yield probe, content
    finally:
        shutil.rmtree(probe, ignore_errors=True)
        for path in new:
            with suppress(OSError):
                path.rmdir()


def try_folder(probe: Path, content: str, node: int, seconds: float, *, alone: bool) -> FolderSeen:
    """Try what a run does in its folder, as one node.

    Args:
        probe: from :func:`probe_folder` of rank 0.
        content: what its file has.
        node: number of this node.
        seconds: how long the file is waited for.
        alone: this is the process that holds the lock, so it is not asked for it.
    """
    waited = _wait_for(probe / _FILE, content, seconds)
    if waited is None:
        return FolderSeen(None, None, locks_apart=False, free_bytes=0)
    problem: tuple[str, str] | None = None
    doing = "it cannot be written to"
    apart = False
    free_bytes = 0
    try:
        disk = os.statvfs(probe)
        free_bytes = disk.f_bavail * disk.f_frsize
        own = probe / f"of-node-{node}"
        own.mkdir()
        (own / "before").write_bytes(b"0" * 4096)
        with (own / "next").open("wb") as file:
            file.write(b"1" * 4096)
            file.flush()
            os.fsync(file.fileno())
        doing = "a file cannot be renamed over another"
        (own / "next").replace(own / "before")
        if (own / "before").read_bytes()[:1] != b"1":
            problem = (doing, "the old one is still there")
        doing = "files cannot be locked"
        with (own / "before").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        apart = not alone and _gets_lock(probe / _FILE)
    except OSError as error:
        problem = (doing, error.strerror or str(error))
    return FolderSeen(waited, problem, apart, free_bytes)


def _wait_for(path: Path, content: str, seconds: float) -> float | None:
    """Seconds until a file is there with its content; None: it does not come."""
    start = time.monotonic()
    while True:
        with suppress(OSError):
            if path.read_text(encoding="ascii") == content:
                return time.monotonic() - start
        if time.monotonic() - start > seconds:
            return None
        time.sleep(_POLL)


def _gets_lock(path: Path) -> bool:
    """Whether a lock is given that another node holds."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def try_sources(urls: list[str], node: int) -> UserError | None:
    """Open sources and read a sample of a shard, on each node another one; None: all is well."""
    problems: list[Problem] = []
    for url in urls:
        try:
            with ShardReader(url) as reader:
                shards = len(reader.manifest.shards)
                next(iter(reader.shard(node % shards)), None)
        except UserError as error:
            problems += error.problems
    return UserError(problems) if problems else None
