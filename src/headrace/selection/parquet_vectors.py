"""Ready-made vectors in Parquet files: copied once, batch by batch, to an array that is mapped.

A file has a column of lists of floating-point numbers, and may have ``id``, ``cost`` (or
``tokens``) and ``group`` (or ``language``).  ``CACHE/FINGERPRINT/vectors.npy`` holds the vectors,
fp16 where they are that and fp32 otherwise.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute
import pyarrow.parquet
from filelock import FileLock
from numpy.typing import NDArray
from tqdm import tqdm

from headrace.counts import counted
from headrace.encoding.store import writing_problems
from headrace.errors import Problem, SelectionError
from headrace.file_hash import hash_of
from headrace.selection.row_files import allocate_rows
from headrace.selection.vector_cache import joint_fingerprint
from headrace.selection.vectors import encoded_ids
from headrace.shards import storage
from headrace.shards.filesystems import NO_SUCH_FILE

DEFAULT_COLUMN = "vector"
_IDS, _COSTS, _GROUPS = ("id",), ("cost", "tokens"), ("group", "language")
_VERSION = 1
_BATCH_BYTES = 1 << 22
_READ_BYTES = 1 << 20
_NAMED = 10
"""Rows that a problem names."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ParquetVectors:
    """The rows of one or more files, in the order of the names of the files."""

    vectors: NDArray[Any]
    """``[rows, d]`` fp16 or fp32, mapped; private to the process, never written back."""
    ids: NDArray[np.bytes_] | None
    """``[rows]``, UTF-8; None without a column ``id``."""
    groups: NDArray[np.str_] | None
    """``[rows]``: name of the group; None without a column ``group`` or ``language``."""
    costs: NDArray[np.int64] | None
    """``[rows]``; None without a column ``cost`` or ``tokens``."""
    fingerprint: str
    """32 hexadecimal digits over the bytes of the files and the column."""


def is_parquet(words: str) -> bool:
    """Whether the words (``PATH`` or ``PATH:COLUMN``) name Parquet files, or a folder."""
    path, _ = _split(words)
    return path.suffix == ".parquet" or path.is_dir()


def open_parquet(words: str, cache_dir: Path | str, where: str) -> ParquetVectors:
    """Open vectors in Parquet files, and copy them to the cache if they are not there.

    Memory is bounded by a batch of rows, besides ids, groups and costs.  A row whose vector is
    null, has nulls or another length is refused by name.

    Args:
        words: a file, a folder of ``*.parquet`` or a pattern with ``*``, and ``:COLUMN`` where the
            vectors are not in the column ``vector``.
        cache_dir: local folder of the cache.
        where: name of the option.

    Raises:
        SelectionError: with all that is wrong with the files.
        EncodingError: if the cache cannot be written.
    """
    path, column = _split(words)
    opened, problems = _opened(_files(path, where), column, where)
    if problems:
        raise SelectionError(problems)
    ids, groups, costs = (_column(opened, names, where) for names in (_IDS, _GROUPS, _COSTS))
    names = None if ids is None else encoded_ids(ids.tolist(), where)
    hashes = [hash_of(file) for file, _ in opened]
    fingerprint = joint_fingerprint(["parquet", _VERSION, column, *hashes])
    folder = Path(cache_dir).expanduser() / fingerprint
    with writing_problems(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            if not _is_whole(folder):
                _copy(opened, column, names, folder, where)
    vectors = np.asarray(np.load(folder / "vectors.npy", mmap_mode="c", allow_pickle=False))
    return ParquetVectors(
        vectors,
        names,
        None if groups is None else groups.astype(np.str_),
        None if costs is None else costs.astype(np.int64),
        fingerprint,
    )


_Opened = list[tuple[Path, Any]]
"""Files with their readers."""


def _split(words: str) -> tuple[Path, str]:
    path, colon, column = words.rpartition(":")
    if not colon or Path(words).expanduser().exists():
        return Path(words).expanduser(), DEFAULT_COLUMN
    return Path(path).expanduser(), column


def _files(path: Path, where: str) -> list[Path]:
    if path.is_dir():
        found = sorted(path.glob("*.parquet"))
    elif path.exists():
        found = [path]
    else:
        # the part before the first pattern is a folder
        place = next((i for i, part in enumerate(path.parts) if "*" in part), len(path.parts))
        pattern = str(Path(*path.parts[place:]))
        found = sorted(Path(*path.parts[:place]).glob(pattern)) if pattern != "." else []
    if not found:
        raise SelectionError(Problem(NO_SUCH_FILE, where, str(path)))
    return found


def _opened(files: list[Path], column: str, where: str) -> tuple[_Opened, list[Problem]]:
    opened: _Opened = []
    problems: list[Problem] = []
    widths: dict[str, int] = {}
    for file in files:
        try:
            # not mapped and not read ahead: a row group may be larger than memory
            reader = pyarrow.parquet.ParquetFile(
                file, buffer_size=_READ_BYTES, pre_buffer=False, memory_map=False
            )
        except (OSError, pyarrow.ArrowException) as error:
            problems.append(_unreadable(file, error, where))
            continue
        schema = reader.schema_arrow
        if column not in schema.names:
            remedy = f"Name one as {file.name}:COLUMN. Columns: {', '.join(schema.names[:20])}"
            problems.append(Problem(f"no column {column}", where, str(file), remedy))
            continue
        kind = schema.field(column).type
        if not _is_list(kind) or not pyarrow.types.is_floating(kind.value_type):
            remedy = "Give a column of lists of floating-point numbers"
            problems.append(
                Problem(f"column {column} holds no vectors", where, f"{file}: {kind}", remedy)
            )
            continue
        if pyarrow.types.is_fixed_size_list(kind):
            widths[str(file)] = kind.list_size
        opened.append((file, reader))
    if len(set(widths.values())) > 1:
        found = ", ".join(f"{name} {width}" for name, width in widths.items())
        problems.append(Problem("vectors of different lengths have no cosine", where, found))
    if opened and not sum(reader.metadata.num_rows for _, reader in opened):
        problems.append(Problem("not a single row", where, str(files[0])))
    return opened, problems


def _unreadable(file: Path, error: Exception, where: str) -> Problem:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    return Problem(f"cannot be read as Parquet: {reason}", where, str(file))


def _is_list(kind: Any) -> bool:
    types = pyarrow.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _column(opened: _Opened, names: tuple[str, ...], where: str) -> NDArray[Any] | None:
    """A column beside the vectors under the first of its names that there is."""
    present = [
        next((name for name in names if name in reader.schema_arrow.names), None)
        for _, reader in opened
    ]
    if not any(present):
        return None
    number = names is _COSTS
    problems, parts = [], []
    for (file, reader), name in zip(opened, present, strict=True):
        if name is None:
            problems.append(
                Problem(f"no column {names[0]}, which other files have", where, str(file))
            )
            continue
        try:
            values = reader.read(columns=[name])[name]
        except (OSError, pyarrow.ArrowException) as error:
            problems.append(_unreadable(file, error, where))
            continue
        if values.null_count:
            row = int(np.flatnonzero(pyarrow.compute.is_null(values))[0])
            problems.append(
                Problem(f"column {name} has nulls", where, f"{file}: row {row:,} and others")
            )
            continue
        try:
            values = values.cast(pyarrow.int64() if number else pyarrow.large_string())
        except pyarrow.ArrowException:
            wanted = "integers" if number else "text"
            problems.append(
                Problem(f"column {name} is not {wanted}", where, f"{file}: {values.type}")
            )
            continue
        parts.append(values.to_numpy(zero_copy_only=False))
    if problems:
        raise SelectionError(problems)
    return np.concatenate(parts)


def _is_whole(folder: Path) -> bool:
    """Whether the vectors are there, as they were written."""
    try:
        expected = (folder / "done").read_text(encoding="utf-8")
        if expected == hash_of(folder / "vectors.npy"):
            return True
    except FileNotFoundError:
        return False
    except (OSError, ValueError) as error:
        _log.warning("%s is made again: %s", folder / "vectors.npy", error)
        return False
    _log.warning("%s is made again: not what was written", folder / "vectors.npy")
    return False


def _copy(
    opened: _Opened, column: str, ids: NDArray[np.bytes_] | None, folder: Path, where: str
) -> None:
    """Write the vectors, and then the file that says that they are there."""
    total = sum(reader.metadata.num_rows for _, reader in opened)
    kinds = {reader.schema_arrow.field(column).type.value_type for _, reader in opened}
    dtype = np.dtype(np.float16 if kinds == {pyarrow.float16()} else np.float32)
    width = _width(opened, column, where)
    allocate_rows(folder / "vectors.npy", (total, width), dtype)
    rows = max(1, _BATCH_BYTES // (8 * max(1, width)))
    bad: list[tuple[str, int]] = []
    row = 0
    with (
        (folder / "vectors.npy").open("r+b") as stream,
        tqdm(desc="copying vectors", total=total, unit=" rows", disable=None) as progress,
    ):
        np.lib.format.read_magic(stream)
        np.lib.format.read_array_header_1_0(stream)
        for values in _batches(opened, column, rows, where):
            wrong = _wrong(values, width)
            bad += [(what, row + place) for place, what in wrong.items()]
            if not bad:
                numbers = values.flatten().to_numpy(zero_copy_only=False)
                with np.errstate(over="ignore"):  # becomes infinite, which is refused later
                    stream.write(np.ascontiguousarray(numbers.astype(dtype)).data)
            row += len(values)
            progress.update(len(values))
        stream.flush()
        os.fsync(stream.fileno())
    if bad or width == 0:
        raise SelectionError(_row_problems(bad, ids, width, where))
    storage.write_atomically(str(folder / "done"), hash_of(folder / "vectors.npy").encode())


def _width(opened: _Opened, column: str, where: str) -> int:
    """The length of the first vector that there is; 0 if there is none."""
    for values in _batches(opened, column, 1024, where):
        lengths = pyarrow.compute.list_value_length(values).drop_null()
        if len(lengths):
            return int(lengths[0].as_py())
    return 0


def _batches(opened: _Opened, column: str, rows: int, where: str) -> Iterator[Any]:
    for file, reader in opened:
        try:
            for batch in reader.iter_batches(batch_size=rows, columns=[column]):
                yield batch.column(0)
        except (OSError, pyarrow.ArrowException) as error:
            raise SelectionError(_unreadable(file, error, where)) from error


def _wrong(values: Any, width: int) -> dict[int, str]:
    """What is wrong with rows of a batch, by their places."""
    compute = pyarrow.compute
    wrong: dict[int, str] = {}
    if values.null_count:
        wrong |= dict.fromkeys(np.flatnonzero(compute.is_null(values)).tolist(), "null")
    lengths = compute.list_value_length(values).fill_null(width).to_numpy(zero_copy_only=False)
    for place in np.flatnonzero(lengths != width).tolist():
        wrong[place] = f"of {counted(int(lengths[place]), 'number')}"
    if values.flatten().null_count:
        for place in range(len(values)):
            if place not in wrong and values[place].values.null_count:
                wrong[place] = "with nulls"
    return wrong


def _row_problems(
    bad: list[tuple[str, int]], ids: NDArray[np.bytes_] | None, width: int, where: str
) -> list[Problem]:
    if not bad:
        return [Problem("vectors without a number have no cosine", where)]
    kinds: dict[str, list[int]] = {}
    for what, row in bad:
        kinds.setdefault(what, []).append(row)
    problems = []
    for what, rows in kinds.items():
        named = ", ".join(
            f"row {row:,}" if ids is None else ids[row].decode() for row in rows[:_NAMED]
        )
        more = f" and {len(rows) - _NAMED:,} more" if len(rows) > _NAMED else ""
        problems.append(
            Problem(
                f"vectors that are {what} have no cosine with others of {width}",
                where,
                named + more,
                "Leave these rows out, or embed them again",
            )
        )
    return problems
