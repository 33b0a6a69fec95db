"""Writes nothing over records in files that hold others as well.

A file is replaced as a whole.  What is behind a blanked record keeps its place, so that a later
build gives the other documents the ids that they have.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from headrace.corpus.documents import Record
from headrace.corpus.media.encodings import marked
from headrace.corpus.media.registry import reader_of
from headrace.corpus.media.settings import MediaSettings
from headrace.corpus.media.source_file import SourceFile
from headrace.corpus.media.unpacking import packing_of
from headrace.errors import CorpusError, Problem
from headrace.shards import storage

PARQUET = "parquet"
_LINE_ENDS = ("\r", "\n")


class _Kept(io.RawIOBase):
    """What Arrow writes to: the file stays open when Arrow is done."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return self._file.write(data)


def blank_records(url: str, settings: MediaSettings, records: Sequence[Record]) -> None:
    """Write what their reader passes over in the places of records; each keeps its length.

    Args:
        url: file of lines, plain or packed.
        settings: how it is read.
        records: as they were read just now.

    Raises:
        UserError: if the file cannot be read or written, or its reader does not say where records
            lie.
    """
    with storage.open_for_reading(url) as file:
        packing = packing_of(file.read(4))
    with SourceFile(url, "", settings, records[0].format).open() as source, _replaced(url) as file:
        target: IO[bytes] = file
        if packing is not None:
            stream = pa.CompressedOutputStream(pa.PythonFile(_Kept(file), mode="w"), packing)
            target = cast(IO[bytes], stream)
        position = 0
        for offset, length, record in _places(url, records):
            _copy(source, target, offset - position)
            target.write(_blank(source.read(length), record))
            position = offset + length
        _copy(source, target, None)
        if packing is not None:
            stream.close()


def _places(url: str, records: Sequence[Record]) -> list[tuple[int, int, Record]]:
    """Offset and length of records, in their order."""
    places = []
    for record in records:
        if record.offset is None or record.length is None:
            remedy = "Clean the file by hand"
            raise CorpusError(
                Problem("its reader does not say where records lie", url, None, remedy)
            )
        places.append((record.offset, record.length, record))
    return sorted(places, key=lambda place: place[0])


def blank_rows(url: str, rows: Sequence[int]) -> None:
    """Give rows of a Parquet file no value in any column; row groups and their sizes stay.

    Args:
        url: the file.
        rows: their numbers, from 0 on.

    Raises:
        UserError: if the file cannot be read or written, or Arrow cannot write such columns.
    """
    gone = np.array(sorted(rows))
    try:
        with (
            storage.open_local(url) as source,
            pq.ParquetFile(source) as table,
            _replaced(url) as target,
        ):
            schema = pa.schema(
                [field.with_nullable(True).with_type(_plain(field.type))
                 for field in table.schema_arrow],
                table.schema_arrow.metadata,
            )  # fmt: skip
            with pq.ParquetWriter(target, schema, compression=_codecs(table)) as writer:
                first = 0
                for number in range(table.num_row_groups):
                    group = table.read_row_group(number).cast(schema)
                    low, high = np.searchsorted(gone, [first, first + len(group)])
                    if low < high:
                        places = np.arange(len(group))
                        blank = np.isin(places, gone[low:high] - first)
                        group = group.take(pa.array(places, mask=blank))
                    writer.write_table(group, row_group_size=max(1, len(group)))
                    first += len(group)
    except pa.ArrowException as error:
        remedy = "Take the rows out with the program that made the file"
        what = "Arrow cannot write the file again"
        raise CorpusError(Problem(what, url, type(error).__name__, remedy)) from error


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type without a dictionary: that would keep values which no row has."""
    return _plain(kind.value_type) if pa.types.is_dictionary(kind) else kind


def _codecs(table: Any) -> dict[str, str]:
    """How each column is packed."""
    if not table.num_row_groups:
        return {}
    group = table.metadata.row_group(0)
    columns = [group.column(number) for number in range(group.num_columns)]
    return {
        column.path_in_schema: "NONE" if column.compression == "UNCOMPRESSED" else
        column.compression
        for column in columns
    }  # fmt: skip


def _blank(data: bytes, record: Record) -> bytes:
    """Fillers in the place of all characters but line ends and a byte order mark."""
    encoding = record.encoding or "utf-8"
    filler = reader_of(record.format).filler
    assert filler is not None, "no format of lines"
    unit = filler.encode(encoding)
    width = len(unit)
    found = marked(data) if width > 1 and not record.offset else None
    mark = data[: found[1]] if found is not None else b""
    kept = {end.encode(encoding) for end in _LINE_ENDS}
    body = data[len(mark) :]
    units = (body[place : place + width] for place in range(0, len(body), width))
    return mark + b"".join(one if one in kept else unit[: len(one)] for one in units)


def _copy(source: IO[bytes], target: IO[bytes], count: int | None) -> None:
    """Copy so many bytes, or all that are left."""
    while count is None or count > 0:
        size = storage.PIECE_BYTES if count is None else min(storage.PIECE_BYTES, count)
        data = source.read(size)
        if not data:
            return
        target.write(data)
        if count is not None:
            count -= len(data)


@contextmanager
def _replaced(url: str) -> Iterator[IO[bytes]]:
    """A file that takes the place of one, and whoever may read that may read it."""
    if not storage.is_local(url):
        with storage.open_atomically(url) as file:
            yield file
        return
    path = storage.local_path(url).resolve()
    for left in path.parent.glob(f".{path.name}.????????{storage.TEMPORARY_SUFFIX}"):
        left.unlink()  # of a process that was killed: it has what is to go
    with storage.open_atomically(str(path)) as file:
        shutil.copymode(path, file.name)
        with suppress(PermissionError):
            facts = path.stat()
            os.chown(file.name, facts.st_uid, facts.st_gid)
        yield file
