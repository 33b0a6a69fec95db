"""A folder of flat ``.npy`` arrays and a ``meta.json``: written atomically, opened by mapping."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
import xxhash
from numpy.typing import NDArray

from headrace.errors import EncodingError, Problem
from headrace.shards import storage

if TYPE_CHECKING:
    from headrace.encoding.task_encoder import Arrays

META_FILE = "meta.json"
OPEN_ARRAYS = 512
"""Mapped arrays at one time in a process: each one holds a file descriptor."""
_copies: dict[str, str] = {}
"""Folders that are read in place of others, by what their meta has as ``made``."""


def source_id(url: str) -> str:
    """16 hexadecimal digits that name a source in the cache; local paths are made absolute."""
    if storage.is_local(url):
        url = str(storage.local_path(url).resolve())
    return xxhash.xxh3_64_hexdigest(url.encode())


class DamagedFolderError(Exception):
    """A folder is there and cannot be used; the message says why."""


def write_folder(folder: Path, arrays: Arrays, meta: Mapping[str, Any]) -> None:
    """Write arrays and meta so that the folder is complete or not there; replaces an old one.

    The caller holds the lock of the folder: parts that an earlier process left are removed.
    ``OSError`` if the disk is full or not writable.
    """
    remove_parts(folder)
    temporary = folder.with_name(f".{folder.name}.part-{os.getpid()}")
    temporary.mkdir(parents=True)
    described = {}
    for name, array in arrays.items():
        with (temporary / f"{name}.npy").open("wb") as file:
            np.save(file, array, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        described[name] = {
            "dtype": array.dtype.name,
            "length": len(array),
            "hash": _hash_of(array),
        }
    with (temporary / META_FILE).open("w", encoding="utf-8") as text:
        document = {**meta, "made": uuid4().hex, "arrays": described}
        json.dump(document, text, ensure_ascii=False, indent=1)
        text.write("\n")
        text.flush()
        os.fsync(text.fileno())
    storage.sync(temporary)
    if folder.exists():
        shutil.rmtree(folder)
    temporary.rename(folder)
    storage.sync(folder.parent)


def remove_parts(folder: Path) -> None:
    """Delete what a killed :func:`write_folder` left beside the folder."""
    if not folder.parent.is_dir():
        return
    for path in folder.parent.iterdir():
        if path.name.startswith(f".{folder.name}.part-"):
            shutil.rmtree(path)


def read_meta(
    folder: Path, expected: Mapping[str, Any], types: Mapping[str, np.dtype[Any]], *, verify: bool
) -> dict[str, Any] | None:
    """The meta of a folder, or None if there is no folder.

    ``expected`` are entries that the meta must have, ``types`` the arrays that must be there; with
    `verify` their bytes are hashed.  Raises :class:`DamagedFolderError` if something is not so.
    """
    if not folder.is_dir():
        return None
    try:
        meta = json.loads((folder / META_FILE).read_text(encoding="utf-8"))
        check_meta(meta, expected)
        if not isinstance(meta.get("made"), str) or set(meta["arrays"]) != set(types):
            raise DamagedFolderError("it does not list the arrays of this task")
        for name, dtype in types.items():
            entry = meta["arrays"][name]
            array = _load(folder / f"{name}.npy")
            if array.dtype != dtype or array.shape != (entry["length"],):
                raise DamagedFolderError(f"array {name} has another type or length")
            if verify and _hash_of(array) != entry["hash"]:
                raise DamagedFolderError(f"array {name} is corrupt")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError) as error:
        raise DamagedFolderError(f"{type(error).__name__}: {error}") from error
    return dict(meta)


def check_meta(meta: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Raise :class:`DamagedFolderError` for the first entry that a meta has not."""
    for key, value in expected.items():
        if meta.get(key) != value:
            raise DamagedFolderError(f"{key} has changed")


def remove_folder(folder: Path) -> None:
    """Delete a folder, and what a killed :func:`write_folder` left beside it."""
    remove_parts(folder)
    if folder.exists():
        shutil.rmtree(folder)


def open_array(folder: Path, meta: Mapping[str, Any], name: str) -> NDArray[Any]:
    """A read-only view of a mapped array of a folder whose meta has been read."""
    entry, made = meta["arrays"][name], meta["made"]
    return _mapped(_copies.get(made) or str(folder), made, name, entry["dtype"], entry["length"])


def use_copy(made: str, folder: Path) -> None:
    """Have this process, and those that it forks, read the arrays of a folder from a copy."""
    _copies[made] = str(folder)


def writing_problems(folder: Path) -> AbstractContextManager[None]:
    """Turn an ``OSError`` (disk full, no permission) into an :class:`EncodingError`."""
    return storage.writing_problems(EncodingError, "the cache cannot be written", folder)


# `made` differs each time that a folder is made: one that was made again is mapped again.  Strings
# hash many times faster than paths, and this is called for every shard of every batch.
@lru_cache(maxsize=OPEN_ARRAYS)
def _mapped(folder: str, made: str, name: str, dtype: str, length: int) -> NDArray[Any]:
    path = Path(folder) / f"{name}.npy"
    try:
        array = _load(path)
    except (OSError, ValueError, EOFError) as error:
        reason = f"it cannot be opened any more: {error}"
    else:
        if array.dtype.name == dtype and array.shape == (length,):
            return array
        reason = "it has changed since it was opened"
    raise EncodingError(
        Problem(f"an encoded array is gone: {reason}", str(path), remedy="Start the command again")
    )


def _load(path: Path) -> NDArray[Any]:
    # A plain view: slices of numpy's memmap class cost several times as much.
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))


def _hash_of(array: NDArray[Any]) -> str:
    return xxhash.xxh3_128_hexdigest(np.ascontiguousarray(array).data)
