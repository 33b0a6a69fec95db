"""``.npy`` files whose rows are written part by part, by any number of processes."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.shards import storage

_log = logging.getLogger(__name__)


def mapped_rows(path: Path) -> NDArray[Any]:
    """The array in a file, mapped privately: torch wants arrays that could be written to."""
    return np.asarray(np.load(path, mmap_mode="c", allow_pickle=False))


def ensure_rows(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Make a file at its full size unless it is there, so that a full disk shows before the work.

    A file of another shape, or one that cannot be read, is made again with a warning.
    """
    try:
        array = mapped_rows(path)
        if array.shape == shape and array.dtype == dtype:
            return
        _log.warning("%s is made again: another shape", path)
    except FileNotFoundError:
        pass
    except (OSError, ValueError, EOFError) as error:
        _log.warning("%s is made again: %s", path, error)
    allocate_rows(path, shape, dtype)


def allocate_rows(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Make a file of zeros whose space on the disk is taken."""
    temporary = path.with_name(f".{path.name}{storage.TEMPORARY_SUFFIX}")
    try:
        with temporary.open("wb") as stream:
            np.lib.format.write_array_header_1_0(
                stream, {"descr": dtype.str, "fortran_order": False, "shape": shape}
            )
            size = int(np.prod(shape)) * dtype.itemsize
            if size:
                os.posix_fallocate(stream.fileno(), stream.tell(), size)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    temporary.rename(path)


def write_rows(path: Path, start: int, rows: NDArray[Any]) -> None:
    """Write rows of a file that is there, from row ``start`` on, and wait until the disk has them.

    Not through a map: a disk that fills up would end the process there.
    """
    with path.open("r+b") as stream:
        np.lib.format.read_magic(stream)
        np.lib.format.read_array_header_1_0(stream)
        row_bytes = rows.dtype.itemsize * int(np.prod(rows.shape[1:]))
        stream.seek(start * row_bytes, os.SEEK_CUR)
        stream.write(np.ascontiguousarray(rows).data)
        stream.flush()
        os.fsync(stream.fileno())
