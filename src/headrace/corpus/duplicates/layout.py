"""What all tasks of a search know: the parts, the numbers of their documents, and the file names.

A document has a number: its place in the order of the parts and of their rows.  Files are written
under another name and renamed, so that what stands there is whole, and is not made again.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from headrace.corpus.duplicates.bands import bands_and_rows
from headrace.corpus.duplicates.settings import DuplicatesSettings

LAYOUT_NAME = "layout.json"
Stage = Literal["copies", "all"]
"""``copies``: exact and near-duplicates; ``all``: with those that mean the same."""
ENTRIES = 4_000_000
"""Entries of a partition, more or less: 96 MB, a few times that while it is sorted."""
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    """A Parquet file with a row a document.

    Columns: ``outcome`` (only rows with ``kept`` take part), ``id`` and ``content_hash`` (32
    hexadecimal digits), ``characters``, ``source``; with near-duplicates ``signature``, and
    ``text`` (UTF-8) where pairs are verified by it; with semantic duplicates ``text`` and
    ``language``.
    """

    file: Path
    source: str
    """Id of the source that all its documents are of."""


@dataclass(frozen=True)
class Layout:
    """Of one search, in one folder."""

    folder: Path
    settings: DuplicatesSettings
    parts: tuple[Part, ...]
    rows: tuple[int, ...]
    """Of each part, those that take no part among them."""

    @cached_property
    def firsts(self) -> Numbers:
        """``[parts + 1]``: number of each part's first document, and of all documents."""
        return np.concatenate([[0], np.cumsum(self.rows, dtype=np.int64)]).astype(np.int64)

    @cached_property
    def bands(self) -> tuple[int, int]:
        """How many bands there are, and of how many values; none without near-duplicates."""
        near = self.settings.near
        return (0, 0) if near is None else bands_and_rows(near.threshold, near.permutations)

    @property
    def partitions(self) -> int:
        """Into how many files' worth the entries are divided by the hash of their band."""
        return max(1, -(-int(self.firsts[-1]) * (self.bands[0] + 1) // ENTRIES))

    @property
    def reads_texts(self) -> bool:
        """Whether some pairs are decided by their texts."""
        return self.settings.near is not None and self.settings.near.verify == "text"

    @property
    def last_stage(self) -> Stage:
        """Which decisions hold in the end."""
        return "copies" if self.settings.semantic is None else "all"

    def part_of(self, numbers: Numbers) -> NDArray[np.int64]:
        """The part of each document."""
        return np.searchsorted(self.firsts, numbers, side="right") - 1

    def path(self, kind: str, number: int, suffix: str = ".npy") -> Path:
        """The file of a part or partition."""
        return self.folder / f"{kind}-{number:06d}{suffix}"


def edges_path(folder: Path, stage: Stage) -> Path:
    """Edges from the first document of each set to its others."""
    return folder / f"{stage}-edges.npy"


def prepare(parts: Sequence[Part], folder: Path, settings: DuplicatesSettings) -> Layout:
    """Lay a search out, and take away what another search has left in its folder."""
    rows = tuple(pq.read_metadata(part.file).num_rows for part in parts)
    layout = Layout(folder, settings, tuple(parts), rows)
    content = {
        "settings": settings.model_dump(mode="json"),
        "parts": [[str(part.file), part.source, part.file.stat().st_size] for part in parts],
        "rows": rows,
    }
    text = json.dumps(content)
    file = folder / LAYOUT_NAME
    if not file.is_file() or file.read_text(encoding="utf-8") != text:
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        write(file, lambda output: output.write(text.encode()))
    return layout


def load_layout(folder: Path) -> Layout:
    """Return what :func:`prepare` has laid out in a folder."""
    file = folder / LAYOUT_NAME
    return _loaded(folder, file.read_text(encoding="utf-8"))


@lru_cache(maxsize=2)
def _loaded(folder: Path, text: str) -> Layout:
    content = json.loads(text)
    settings = DuplicatesSettings.model_validate_json(json.dumps(content["settings"]))
    parts = tuple(Part(Path(file), source) for file, source, _ in content["parts"])
    return Layout(folder, settings, parts, tuple(content["rows"]))


def write(path: Path, fill: Callable[[BinaryIO], Any]) -> None:
    """Make a file at once: it is never seen half written."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as output:
        fill(output)
    temporary.replace(path)


def write_arrays(path: Path, **arrays: NDArray[Any]) -> None:
    """Make a file of several arrays in numpy's format."""
    write(path, lambda output: np.savez(output, allow_pickle=False, **arrays))


def write_table(path: Path, table: pa.Table) -> None:
    """Make a Parquet file."""
    write(path, lambda output: pq.write_table(table, output))


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Make a file in numpy's format."""
    write(path, lambda output: np.save(output, array))
