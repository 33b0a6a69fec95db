"""Vectors that are there already, and tables that lie in several arrays."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.errors import Problem, SelectionError
from headrace.shards.filesystems import NO_SUCH_FILE


class Stack:
    """Arrays ``[rows, d]`` one after the other as one table, without a copy.

    Raises :class:`SelectionError` if their rows are not of one length.
    """

    ndim = 2

    def __init__(self, parts: Sequence[NDArray[Any]], names: Sequence[str]) -> None:
        widths = {int(part.shape[1]) for part in parts}
        if len(widths) > 1:
            found = ", ".join(
                f"{name} {part.shape[1]}" for name, part in zip(names, parts, strict=True)
            )
            raise SelectionError(
                Problem(
                    "vectors of different lengths have no cosine",
                    "vectors",
                    found,
                    "Embed all sources with one encoder",
                )
            )
        self._parts = list(parts)
        self._bounds = np.cumsum([0, *map(len, parts)])
        self.shape = (int(self._bounds[-1]), widths.pop())
        self.dtype = np.result_type(*parts)

    def __len__(self) -> int:
        return self.shape[0]

    def part(self, start: int, stop: int) -> Stack:
        """The rows from ``start`` to before ``stop``, without a copy."""
        parts = [
            array[max(start - low, 0) : max(stop - low, 0)]
            for array, low in zip(self._parts, self._bounds.tolist(), strict=False)
        ]
        return Stack(parts, [""] * len(parts))

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        """The rows of a slice (without a step) or of an array of row numbers, from 0 on."""
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(len(self))
            stop = max(start, stop)
            first = int(np.searchsorted(self._bounds, start, side="right")) - 1
            if first < len(self._parts) and stop <= self._bounds[first + 1]:
                low = int(self._bounds[first])
                return self._parts[first][start - low : stop - low]
            rows = np.arange(start, stop)
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of {len(self)}")
        out = np.empty((len(rows), self.shape[1]), self.dtype)
        for part, (low, high) in zip(self._parts, pairwise(self._bounds), strict=True):
            inside = (rows >= low) & (rows < high)
            out[inside] = part[rows[inside] - low]
        return out


Table = NDArray[Any] | Stack
"""``[rows, d]``: one array, or several as one."""


def open_vectors(path: str, where: str) -> NDArray[Any]:
    """A ``.npy`` file, mapped privately.  ``where`` is the name of the option.

    Raises:
        SelectionError: if it is not there, or is no array that NumPy can map.
    """
    try:
        return np.asarray(np.load(Path(path).expanduser(), mmap_mode="c", allow_pickle=False))
    except FileNotFoundError:
        raise SelectionError(Problem(NO_SUCH_FILE, where, path)) from None
    except (OSError, ValueError, EOFError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        remedy = "Write it with numpy.save"
        raise SelectionError(
            Problem(f"not an array in .npy format: {reason}", where, path, remedy)
        ) from None


def read_ids(path: str, where: str) -> NDArray[np.bytes_]:
    """The lines of a UTF-8 file as ids, in their order.

    Raises:
        SelectionError: if the file cannot be read, or a line is empty or ends in NUL.
    """
    try:
        lines = Path(path).expanduser().read_bytes().decode("utf-8").split("\n")
    except FileNotFoundError:
        raise SelectionError(Problem(NO_SUCH_FILE, where, path)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SelectionError(Problem(f"not a text file: {error}", where, path)) from None
    if lines and not lines[-1]:
        lines.pop()
    ids = [line.removesuffix("\r") for line in lines]
    if "" in ids:
        line = ids.index("") + 1
        raise SelectionError(Problem("an empty line, where an id has to be", f"{path}:{line}"))
    return encoded_ids(ids, where)


def encoded_ids(ids: Sequence[str], where: str) -> NDArray[np.bytes_]:
    """``[rows]``: ids in UTF-8.

    Raises:
        SelectionError: naming the row of an id that is empty, or that ends in a NUL, which an
            array of NumPy does not keep.
    """
    for row, identifier in enumerate(ids):
        if not identifier or identifier[-1] == "\0":
            what = "an id ends in NUL" if identifier else "an id is empty"
            raise SelectionError(
                Problem(what, where, f"row {row:,}", "Give each row an id of its own")
            )
    return np.array([identifier.encode("utf-8") for identifier in ids], dtype=np.bytes_)


def ties_of(ids: NDArray[np.bytes_]) -> NDArray[np.int64]:
    """``[rows]``: the place of each id among all ids in byte order.

    Raises:
        SelectionError: naming ids that occur twice.
    """
    order = np.argsort(ids, kind="stable")
    ordered = ids[order]
    twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if len(twice):
        named = ", ".join(identifier.decode() for identifier in twice[:10])
        more = f" and {len(twice) - 10:,} more" if len(twice) > 10 else ""
        raise SelectionError(
            Problem("an id occurs more than once", "ids", named + more, "Ids have to be unique")
        )
    ties = np.empty(len(ids), np.int64)
    ties[order] = np.arange(len(ids))
    return ties
