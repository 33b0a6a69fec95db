"""One part of a build: its records examined, and what became of each written to one table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from headrace.corpus.building.outcomes import FILTERED, KEPT, OUTCOME_SCHEMA, REJECTED, rejected_row
from headrace.corpus.building.parts import Part
from headrace.corpus.building.sandbox import Changed, SandboxSettings, borrowed
from headrace.corpus.documents import Reject
from headrace.file_hash import hash_of
from headrace.shards import storage

_GROUP_ROWS = 4096
_GROUP_BYTES = 32 << 20
"""Texts of a row group; a shard's documents are read by row groups."""


class _ChangeFound(Exception):  # noqa: N818 - not an error: the part is done again without the file
    def __init__(self, number: int, detail: str) -> None:
        super().__init__(detail)
        self.number = number
        self.detail = detail


def part_path(folder: Path, name: str) -> Path:
    """Where the table of a part is, in the folder of what lies between the stages."""
    return folder / "parts" / f"{name}.parquet"


def examine_part(part: Part, settings: SandboxSettings, source: str, folder: str) -> dict[str, Any]:
    """Read and examine a part, and write its table; the line of the ledger.

    The same files and recipe give the same bytes, wherever and however often it is done.

    Args:
        part: slices of files of one source.
        settings: of the process that examines.
        source: id of the source.
        folder: of what lies between the stages.
    """
    changed: dict[int, str] = {}
    while True:
        try:
            return _examined(part, settings, source, Path(folder), changed)
        except _ChangeFound as change:
            changed[change.number] = change.detail


def _examined(
    part: Part, settings: SandboxSettings, source: str, folder: Path, changed: dict[int, str]
) -> dict[str, Any]:
    path = part_path(folder, part.name)
    with (
        storage.open_atomically(str(path)) as file,
        _TableWriter(file) as table,
        borrowed(settings) as sandbox,
    ):
        read = 0
        for number, one in enumerate(part.slices):
            if number in changed:
                reject = Reject(one.file.key, "changed while read", changed[number], one.start)
                table.add(rejected_row(reject, source, one.file.url))
                read += 1
                continue
            for row in sandbox.rows(one, source):
                if isinstance(row, Changed):
                    raise _ChangeFound(number, row.detail)
                table.add(row)
            read += sandbox.read
    return {
        "part": part.number,
        "source": source,
        "read": read,
        **table.counts,
        "changed": len(changed),
        "bytes": path.stat().st_size,
        "hash": hash_of(path),
    }


class _TableWriter:
    """Writes rows in groups whose bounds depend on the rows alone."""

    def __init__(self, file: Any) -> None:
        self._writer = pq.ParquetWriter(file, OUTCOME_SCHEMA, compression="zstd")
        self._rows: list[dict[str, Any]] = []
        self._bytes = 0
        self.counts = {KEPT: 0, FILTERED: 0, REJECTED: 0}

    def add(self, row: dict[str, Any]) -> None:
        self.counts[row["outcome"]] += 1
        self._rows.append(row)
        self._bytes += len(row.get("text") or b"") + len(row.get("original") or b"")
        if len(self._rows) == _GROUP_ROWS or self._bytes >= _GROUP_BYTES:
            self._flush()

    def __enter__(self) -> _TableWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._flush()
            self._writer.close()
        else:
            self._writer.is_open = False  # the file is dropped: there is nothing to complete

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, OUTCOME_SCHEMA))
        self._rows.clear()
        self._bytes = 0
