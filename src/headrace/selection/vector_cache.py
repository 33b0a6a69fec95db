"""The folder of the vectors of a source: rows, lengths, and which shards are done.

``CACHE/FINGERPRINT/`` holds ``vectors.npy`` (fp16, ``[samples, d]``), ``lengths.npy`` (int32, the
tokens of each sample), and for each shard a file in ``done/`` with the hashes of its rows, which is
written when they are on the disk.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from filelock import FileLock
from numpy.typing import NDArray

from headrace.errors import Problem, ShardError
from headrace.selection.row_files import ensure_rows, mapped_rows, write_rows
from headrace.shards import storage
from headrace.shards.reader import ShardReader

_ROW_FILES: dict[str, np.dtype[Any]] = {
    "vectors": np.dtype(np.float16),
    "lengths": np.dtype(np.int32),
}
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EmbeddedSource:
    """The vectors of all samples of a source, in the order of its shards."""

    vectors: NDArray[np.float16]
    """``[samples, d]``, mapped; private to the process, never written back."""
    lengths: NDArray[np.int32]
    """``[samples]``: tokens of each sample, those cut off not counted."""
    fingerprint: str
    """32 hexadecimal digits over what makes the vectors and the source's manifest."""


class VectorCache:
    """The vectors of one source on disk.

    Args:
        reader: the source.
        dimensions: ``d``.
        folder: of these vectors alone; made if it is not there.
    """

    def __init__(self, reader: ShardReader, dimensions: int, folder: Path) -> None:
        self.folder = folder
        self._entries = reader.manifest.shards
        self._starts = np.cumsum([0, *(entry.samples for entry in self._entries)])
        total = int(self._starts[-1])
        self._shapes = {"vectors": (total, dimensions), "lengths": (total,)}
        (folder / "done").mkdir(parents=True, exist_ok=True)

    def opened(self, fingerprint: str) -> EmbeddedSource:
        """The vectors, mapped."""
        return EmbeddedSource(self._mapped("vectors"), self._mapped("lengths"), fingerprint)

    def lock(self, number: int) -> FileLock:
        """Held by the process that makes the rows of a shard."""
        return FileLock(self.folder / "done" / f".{self._entries[number].name}.lock")

    def missing(self) -> list[int]:
        """The numbers of the shards without rows, of which each still has to be stored."""
        return [number for number in range(len(self._entries)) if not self.is_done(number)]

    def allocate(self) -> None:
        """Make the files at their full size, so that a full disk shows before the work."""
        with FileLock(self.folder / ".lock"):
            for file, dtype in _ROW_FILES.items():
                ensure_rows(self._path(file), self._shapes[file], dtype)

    def store(self, number: int, vectors: NDArray[np.float16], lengths: NDArray[np.int32]) -> None:
        """Write the rows of a shard and then the file that says that they are there."""
        start = int(self._starts[number])
        write_rows(self._path("vectors"), start, vectors)
        write_rows(self._path("lengths"), start, lengths)
        marker = {
            "shard": self._entries[number].hash,
            "vectors": xxhash.xxh3_128_hexdigest(vectors.data),
            "lengths": xxhash.xxh3_128_hexdigest(lengths.data),
        }
        storage.write_atomically(str(self._marker(number)), json.dumps(marker).encode())

    def is_done(self, number: int) -> bool:
        """Whether the rows of a shard are there, as they were written."""
        name = self._entries[number].name
        try:
            marker = json.loads(self._marker(number).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return False
        except (OSError, ValueError) as error:
            _log.warning("%s is embedded again: %s", name, error)
            return False
        rows = self.rows(number)
        found = {
            file: xxhash.xxh3_128_hexdigest(np.ascontiguousarray(self._mapped(file)[rows]).data)
            for file in _ROW_FILES
        }
        if marker == {"shard": self._entries[number].hash, **found}:
            return True
        _log.warning(
            "%s is embedded again: its vectors are not those that were written (%s)",
            name,
            self.folder,
        )
        return False

    def rows(self, number: int) -> slice:
        """The rows of a shard."""
        return slice(int(self._starts[number]), int(self._starts[number + 1]))

    def _path(self, file: str) -> Path:
        return self.folder / f"{file}.npy"

    def _mapped(self, file: str) -> NDArray[Any]:
        return mapped_rows(self._path(file))

    def _marker(self, number: int) -> Path:
        return self.folder / "done" / f"{self._entries[number].name}.json"


def texts_of(reader: ShardReader, number: int) -> list[str]:
    """The field ``txt`` of each sample of a shard; that of a substitute where one was removed.

    Raises:
        ShardError: if the shard is damaged, or naming the samples whose text is not UTF-8.
        ConfigError: if a sample has no text.
    """
    shard = reader.shard(number)
    if not shard.living.size:
        return [""] * len(shard)
    (raw,) = shard.read_many(np.arange(len(shard)), ["txt"])
    texts, problems = [], []
    for key, content in zip(shard.keys, raw, strict=True):
        try:
            texts.append(content.decode("utf-8"))
        except UnicodeDecodeError as error:
            where = f"shard {shard.name}, sample {key}"
            problems.append(Problem("field txt is not UTF-8", where, str(error)))
    if problems:
        raise ShardError(problems)
    return texts


def joint_fingerprint(parts: Sequence[object]) -> str:
    """32 hexadecimal digits over values that JSON holds."""
    return xxhash.xxh3_128_hexdigest(json.dumps(parts).encode())
