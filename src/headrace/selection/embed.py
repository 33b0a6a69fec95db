"""The vectors of a source on disk: made once, shard by shard, and mapped.

``CACHE/FINGERPRINT/`` holds ``vectors.npy`` (fp16, ``[samples, d]``), ``lengths.npy`` (int32, the
tokens of each sample), and for each shard a file in ``done/`` with the hashes of its rows, which is
written when they are on the disk.  Any number of processes may fill it at once: each shard is made
by one, and one that is killed loses the shard in hand and nothing else.
"""

from __future__ import annotations

import json
import logging
import os
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from tqdm import tqdm

from headrace.encoding.store import writing_problems
from headrace.errors import Problem, ShardError
from headrace.selection.encoder import Encoder
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
    """32 hexadecimal digits over the encoder and the source's manifest."""


def source_fingerprint(reader: ShardReader, encoder: Encoder) -> str:
    """32 hexadecimal digits: equal if and only if the vectors of the source are equal."""
    parts = [encoder.fingerprint, reader.manifest.fingerprint]
    return xxhash.xxh3_128_hexdigest(json.dumps(parts).encode())


def embed_source(
    reader: ShardReader, encoder: Encoder, cache_dir: Path | str, *, name: str, show: bool = True
) -> EmbeddedSource:
    """Open the vectors of a source, and make those that are missing.

    Rows whose bytes are not those that were written are made again, with a warning.

    Args:
        reader: the source.
        encoder: makes the vectors of the field ``txt``.
        cache_dir: local folder of the cache.
        name: of the source, for the progress bar.
        show: whether there is a progress bar (on a terminal).

    Raises:
        ShardError: with all shards that are damaged, and all texts that are not UTF-8.
        ConfigError: if a sample has no text.
        EncodingError: if the cache cannot be written.
    """
    fingerprint = source_fingerprint(reader, encoder)
    folder = Path(cache_dir).expanduser() / fingerprint
    with writing_problems(folder):
        (folder / "done").mkdir(parents=True, exist_ok=True)
        work = _Work(reader, encoder, folder)
        work.allocate()
        work.make_all(name, show)
    vectors, lengths = (work.mapped(file) for file in _ROW_FILES)
    return EmbeddedSource(vectors, lengths, fingerprint)


@dataclass
class _Work:
    """One call of :func:`embed_source`."""

    reader: ShardReader
    encoder: Encoder
    folder: Path

    def __post_init__(self) -> None:
        self.entries = self.reader.manifest.shards
        self.starts = np.cumsum([0, *(entry.samples for entry in self.entries)])
        total = int(self.starts[-1])
        self.shapes = {"vectors": (total, self.encoder.dimensions), "lengths": (total,)}

    def mapped(self, file: str) -> NDArray[Any]:
        # mapped privately, as torch wants arrays that could be written to
        path = self.folder / f"{file}.npy"
        return np.asarray(np.load(path, mmap_mode="c", allow_pickle=False))

    def allocate(self) -> None:
        """Make the files at their full size, so that a full disk shows before the work."""
        with FileLock(self.folder / ".lock"):
            for file, dtype in _ROW_FILES.items():
                try:
                    array = self.mapped(file)
                    if array.shape == self.shapes[file] and array.dtype == dtype:
                        continue
                    _log.warning("%s is made again: another shape", self.folder / f"{file}.npy")
                except FileNotFoundError:
                    pass
                except (OSError, ValueError, EOFError) as error:
                    _log.warning("%s is made again: %s", self.folder / f"{file}.npy", error)
                self._allocate(file, dtype)

    def _allocate(self, file: str, dtype: np.dtype[Any]) -> None:
        temporary = self.folder / f".{file}.npy{storage.TEMPORARY_SUFFIX}"
        shape = self.shapes[file]
        with temporary.open("wb") as stream:
            np.lib.format.write_array_header_1_0(
                stream, {"descr": dtype.str, "fortran_order": False, "shape": shape}
            )
            size = int(np.prod(shape)) * dtype.itemsize
            if size:
                os.posix_fallocate(stream.fileno(), stream.tell(), size)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.rename(self.folder / f"{file}.npy")

    def make_all(self, name: str, show: bool) -> None:
        """Make the rows of every shard that has none; other processes may be at it too."""
        missing = deque(number for number in range(len(self.entries)) if not self._is_done(number))
        damaged: list[Problem] = []
        waited = 0
        with tqdm(
            total=sum(self.entries[number].samples for number in missing),
            desc=f"embedding {name}",
            unit=" samples",
            disable=None if missing and show else True,
        ) as progress:
            while missing:
                number = missing.popleft()
                # shards that other processes are at come last; only then is there a wait
                lock = FileLock(self.folder / "done" / f".{self.entries[number].name}.lock")
                try:
                    with lock.acquire(timeout=-1 if waited > len(missing) else 0):
                        if not self._is_done(number):
                            self._make(number, progress)
                except Timeout:
                    missing.append(number)
                    waited += 1
                    continue
                except ShardError as error:
                    damaged += error.problems
                waited = 0
        if damaged:
            raise ShardError(damaged)

    def _make(self, number: int, progress: tqdm[Any]) -> None:
        shard = self.reader.shard(number)
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
        vectors, lengths = self.encoder.embed(texts, progress.update)
        self._write("vectors", number, vectors)
        self._write("lengths", number, lengths)
        marker = {
            "shard": self.entries[number].hash,
            "vectors": xxhash.xxh3_128_hexdigest(vectors.data),
            "lengths": xxhash.xxh3_128_hexdigest(lengths.data),
        }
        storage.write_atomically(str(self._marker(number)), json.dumps(marker).encode())

    def _write(self, file: str, number: int, rows: NDArray[Any]) -> None:
        # not through a map: a disk that fills up would end the process there
        with (self.folder / f"{file}.npy").open("r+b") as stream:
            np.lib.format.read_magic(stream)
            np.lib.format.read_array_header_1_0(stream)
            row_bytes = rows.dtype.itemsize * int(np.prod(rows.shape[1:]))
            stream.seek(int(self.starts[number]) * row_bytes, os.SEEK_CUR)
            stream.write(np.ascontiguousarray(rows).data)
            stream.flush()
            os.fsync(stream.fileno())

    def _marker(self, number: int) -> Path:
        return self.folder / "done" / f"{self.entries[number].name}.json"

    def _is_done(self, number: int) -> bool:
        try:
            marker = json.loads(self._marker(number).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return False
        except (OSError, ValueError) as error:
            _log.warning("%s is embedded again: %s", self.entries[number].name, error)
            return False
        rows = slice(int(self.starts[number]), int(self.starts[number + 1]))
        found = {
            file: xxhash.xxh3_128_hexdigest(np.ascontiguousarray(self.mapped(file)[rows]).data)
            for file in _ROW_FILES
        }
        if marker == {"shard": self.entries[number].hash, **found}:
            return True
        _log.warning(
            "%s is embedded again: its vectors are not those that were written (%s)",
            self.entries[number].name,
            self.folder,
        )
        return False
