"""The folder of a neighbour graph: what is done in it, and what of that is whole."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from filelock import FileLock
from numpy.typing import NDArray

from headrace.errors import Problem, SelectionError
from headrace.selection.row_files import ensure_rows, write_rows
from headrace.shards import storage

_ARRAYS: dict[str, np.dtype[Any]] = {
    "indices": np.dtype(np.int32),
    "similarities": np.dtype(np.float32),
}
_WORK = ("parts", "indexes")
"""Folders that are of no use once the graph is whole."""
_log = logging.getLogger(__name__)


class GraphFiles:
    """Two arrays ``[rows, m]`` that are written chunk by chunk, and the work before that.

    Whatever is read has the hash that it was written with; what has not is made again, with a
    warning.  ``OSError`` if something cannot be written.
    """

    def __init__(self, folder: Path, shape: tuple[int, int]) -> None:
        self.folder, self.shape = folder, shape

    def allocate(self) -> None:
        """Make the arrays at their full size, so that a full disk shows before the work."""
        (self.folder / "done").mkdir(parents=True, exist_ok=True)
        for name, dtype in _ARRAYS.items():
            ensure_rows(self._path(name), self.shape, dtype)

    def begin(self) -> None:
        """Make the folders of the work before the graph."""
        for name in _WORK:
            (self.folder / name).mkdir(exist_ok=True)

    def array(self, name: str) -> NDArray[Any]:
        """``indices`` or ``similarities``, mapped."""
        return np.asarray(np.load(self._path(name), mmap_mode="r", allow_pickle=False))

    def write_part(
        self,
        block: int,
        chunk: int,
        indices: NDArray[np.int32],
        similarities: NDArray[np.float32],
    ) -> None:
        """Keep the neighbours in one index block of the rows of one chunk."""
        content = indices.tobytes() + similarities.tobytes()
        storage.write_atomically(str(self._part(block, chunk)), _sealed(content))

    def has_part(self, block: int, chunk: int) -> bool:
        """Whether that is there and whole."""
        return _opened(self._part(block, chunk)) is not None

    def read_part(self, block: int, chunk: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """What was written for a block and a chunk, each ``[rows of the chunk, m]``."""
        path = self._part(block, chunk)
        content = _opened(path)
        if content is None:
            remedy = "Start the command again"
            raise SelectionError(Problem("a part of the graph is gone", str(path), None, remedy))
        half, shape = len(content) // 2, (-1, self.shape[1])
        return (
            np.frombuffer(content[:half], np.int32).reshape(shape),
            np.frombuffer(content[half:], np.float32).reshape(shape),
        )

    def write_chunk(
        self,
        chunk: int,
        start: int,
        indices: NDArray[np.int32],
        similarities: NDArray[np.float32],
    ) -> None:
        """Write the rows of a chunk, the first of which is ``start``, and mark it as done."""
        hashes = {}
        for name, array in zip(_ARRAYS, (indices, similarities), strict=True):
            hashes[name] = xxhash.xxh3_128_hexdigest(array.data)
            write_rows(self._path(name), start, array)
        storage.write_atomically(str(self._marker(chunk)), json.dumps(hashes).encode())

    def has_chunk(self, chunk: int, start: int, stop: int) -> bool:
        """Whether the rows of a chunk are what was written."""
        path = self._marker(chunk)
        try:
            marker = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return False
        except (OSError, ValueError) as error:
            _log.warning("neighbours are looked for again: %s: %s", path, error)
            return False
        found = {
            name: xxhash.xxh3_128_hexdigest(self.array(name)[start:stop].data) for name in _ARRAYS
        }
        if marker == found:
            return True
        _log.warning(
            "neighbours of rows %d to %d are looked for again: they are not what was written (%s)",
            start,
            stop - 1,
            self.folder,
        )
        return False

    def index(self, block: int, make: Callable[[], bytes]) -> bytes:
        """The index of a block: read where it was made before, made once otherwise."""
        path = self.folder / "indexes" / f"{block}.faiss"
        with FileLock(path.with_suffix(".lock")):
            content = _opened(path)
            if content is None:
                content = make()
                storage.write_atomically(str(path), _sealed(content))
            return content

    def write_report(self, report: Mapping[str, Any]) -> None:
        """Write what is known of the whole graph, and delete what it was made of."""
        storage.write_atomically(
            str(self.folder / "graph.json"), (json.dumps(report, indent=1) + "\n").encode()
        )
        for name in _WORK:
            shutil.rmtree(self.folder / name)

    def read_report(self) -> dict[str, Any] | None:
        """The report, or None if there is none that can be read."""
        path = self.folder / "graph.json"
        try:
            return dict(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            _log.warning("%s is made again: %s", path, error)
            return None

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.npy"

    def _part(self, block: int, chunk: int) -> Path:
        return self.folder / "parts" / f"{block}-{chunk}"

    def _marker(self, chunk: int) -> Path:
        return self.folder / "done" / f"{chunk}.json"


def _sealed(content: bytes) -> bytes:
    return xxhash.xxh3_128_digest(content) + content


def _opened(path: Path) -> bytes | None:
    """What was sealed in a file, or None if it is not there or damaged."""
    try:
        sealed = path.read_bytes()
    except FileNotFoundError:
        return None
    content = sealed[16:]
    if xxhash.xxh3_128_digest(content) == sealed[:16]:
        return content
    _log.warning("%s is made again: it is not what was written", path)
    return None
