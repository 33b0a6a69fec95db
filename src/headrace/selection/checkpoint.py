"""What a solver has reached, kept in a folder: it goes on from there after the process was killed.

A file for each stage of the solver: a line of JSON with the fingerprint of the task and a hash of
what follows, and the arrays of the stage.  It holds nothing of how the rows were shared out, so
that any number of ranks can go on.
"""

from __future__ import annotations

import io
import json
import logging
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from headrace.errors import UserError
from headrace.selection.ranks import Ranks
from headrace.shards import storage

DEFAULT_SECONDS = 60.0
_VERSION = 1
_log = logging.getLogger(__name__)

Arrays = Mapping[str, NDArray[Any]]


class Checkpoint:
    """The folder of the files.

    Args:
        folder: local; the main rank alone reads and writes it.  :meth:`remove` deletes it.
        fingerprint: of the task: files with another one are not used.
        ranks: all of them have to make one.
        seconds: at least so much time passes between two files of a stage.
    """

    def __init__(
        self, folder: Path, fingerprint: str, ranks: Ranks, seconds: float = DEFAULT_SECONDS
    ) -> None:
        self._folder, self._fingerprint, self.ranks = folder, fingerprint, ranks
        self.seconds = seconds

    def read(self, name: str) -> bytes:
        """The arrays of a stage as they were written; nothing if they are not there or unusable.

        A warning says so where a file is damaged, or that of another task.
        """
        path = self._folder / name
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            _log.warning("%s is not used: %s", path, error)
            return b""
        line, _, arrays = content.partition(b"\n")
        try:
            head = json.loads(line)
            version, fingerprint, written = (head[k] for k in ("version", "fingerprint", "xxh3"))
        except (ValueError, KeyError, TypeError):
            version = fingerprint = written = None
        if written != xxhash.xxh3_128_hexdigest(arrays):
            _log.warning("%s is not used: it is not what was written", path)
        elif (version, fingerprint) != (_VERSION, self._fingerprint):
            _log.warning("%s is not used: it is of another selection", path)
        else:
            return arrays
        return b""

    def write(self, name: str, arrays: Arrays) -> None:
        """Write a stage whole; a warning says if that is not possible, and the solver goes on."""
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **arrays)
        content = buffer.getbuffer()
        head = {
            "version": _VERSION,
            "fingerprint": self._fingerprint,
            "xxh3": xxhash.xxh3_128_hexdigest(content),
        }
        try:
            with storage.open_atomically(str(self._folder / name)) as file:
                file.write(json.dumps(head).encode() + b"\n")
                file.write(content)
        except (OSError, UserError) as error:
            _log.warning("no checkpoint of the selection: %s", error)

    def remove(self) -> None:
        """Delete the folder: the task is done."""
        if self.ranks.rank == 0:
            shutil.rmtree(self._folder, ignore_errors=True)


def stage_of(checkpoint: Checkpoint | None, name: str) -> Stage | None:
    """A file of a checkpoint, if there is one."""
    return None if checkpoint is None else Stage(checkpoint, name)


class Stage:
    """One file of a checkpoint; on other ranks than the main one :meth:`due` is never true."""

    def __init__(self, checkpoint: Checkpoint, name: str) -> None:
        self._checkpoint, self._name = checkpoint, name
        self._last = time.monotonic()

    def load(self) -> dict[str, NDArray[Any]] | None:
        """What was reached, on every rank; None if nothing was.  All ranks call it."""
        main = self._checkpoint.ranks.rank == 0
        content = self._checkpoint.read(self._name) if main else b""
        shared = self._checkpoint.ranks.gather(np.frombuffer(content, np.uint8))
        if not len(shared):
            return None
        with np.load(io.BytesIO(shared.tobytes()), allow_pickle=False) as arrays:
            return dict(arrays)

    def due(self) -> bool:
        """Whether it is time to write."""
        if self._checkpoint.ranks.rank != 0:
            return False
        return time.monotonic() - self._last >= self._checkpoint.seconds

    def save(self, arrays: Arrays) -> None:
        """Write what was reached; the main rank calls it."""
        self._checkpoint.write(self._name, arrays)
        self._last = time.monotonic()
