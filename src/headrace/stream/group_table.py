"""How many groups of samples (batches, packs) each window of an epoch has: counted once, kept."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from tqdm import tqdm

from headrace.encoding import store
from headrace.shards import storage
from headrace.stream.feistel import Int64Array
from headrace.stream.packing import starts_of

_log = logging.getLogger(__name__)

Count = Callable[[int, range], NDArray[np.int32]]
"""Groups in each window of a range of windows of an epoch."""


class GroupTable:
    """The exact numbers of groups by window, for every epoch that is asked for.

    With a folder each epoch is counted by one process and kept in a file; any number of processes
    may share the folder, and wait for the one that counts.
    """

    def __init__(
        self, count: Count, *, windows_at_once: int, folder: Path | None, title: str
    ) -> None:
        """``folder`` belongs to these settings alone; ``title`` stands beside the progress bar."""
        self._count = count
        self._windows_at_once = windows_at_once
        self._folder = folder
        self._title = title
        self._starts: dict[int, Int64Array] = {}

    def of_epoch(self, epoch: int, windows: int) -> Int64Array:
        """Groups before each of the ``windows`` of an epoch, and in all; int64[windows + 1].

        Raises ``EncodingError`` where the folder cannot be written, and what ``count`` raises.
        """
        if epoch not in self._starts:
            if self._folder is None:
                counts = self._count_all(epoch, windows)
            else:
                counts = self._read_or_count(self._folder, epoch, windows)
            self._starts[epoch] = starts_of(counts.astype(np.int64))
        return self._starts[epoch]

    def _read_or_count(self, folder: Path, epoch: int, windows: int) -> NDArray[np.int32]:
        path = folder / f"epoch-{epoch:06d}.npz"
        found = _read(path, windows)
        if found is not None:
            return found
        with store.writing_problems(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_suffix(".lock")):
                found = _read(path, windows)
                if found is None:
                    found = self._count_all(epoch, windows)
                    with storage.open_atomically(str(path)) as file:
                        np.savez_compressed(file, groups=found)
        return found

    def _count_all(self, epoch: int, windows: int) -> NDArray[np.int32]:
        counts = np.empty(windows, dtype=np.int32)
        with tqdm(
            total=windows,
            desc=f"{self._title}, epoch {epoch + 1}",
            unit=" windows",
            disable=None,
            delay=2,
        ) as progress:
            for first in range(0, windows, self._windows_at_once):
                some = range(first, min(first + self._windows_at_once, windows))
                counts[some.start : some.stop] = self._count(epoch, some)
                progress.update(len(some))
        return counts


def _read(path: Path, windows: int) -> NDArray[np.int32] | None:
    """The counts in a file; None if there is none, or it is damaged (each member has a CRC)."""
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as content:
            counts = content["groups"]
        if counts.dtype == np.int32 and counts.shape == (windows,):
            return np.asarray(counts)
        reason = f"{counts.shape} {counts.dtype}"
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        reason = str(error)
    _log.warning("batches are counted again: %s is damaged (%s)", path, reason)
    return None
