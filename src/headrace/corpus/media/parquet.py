"""Parquet: a row is a document."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from headrace.corpus.documents import Record, Reject
from headrace.corpus.media.columns import check_columns, record_of
from headrace.corpus.media.json_lines import member
from headrace.corpus.media.reader import Reader
from headrace.corpus.media.refusal import record_or_reject, reject_of
from headrace.corpus.media.settings import Fields
from headrace.corpus.media.source_file import SourceFile

_ROWS = 1024
"""Rows that are unpacked at once."""


class ParquetReader(Reader):
    """Rows with a column of texts; columns may be paths into structures: ``meta.url``.

    A range has the row groups whose first bytes are in it.  ``row`` in the metadata is the number
    of a row in the file, from 0, which is also its key where it has no id.
    """

    name = "parquet"
    suffixes = (".parquet",)
    magic = (b"PAR1",)
    single = False

    def read(self, file: SourceFile) -> Iterator[Record | Reject]:
        """A record for each row of the range's row groups."""
        from pyarrow.parquet import ParquetFile

        fields = file.settings.fields
        with file.open_seekable() as stream, ParquetFile(stream) as table:
            names = table.schema_arrow.names
            check_columns(fields, names)
            columns = _columns(fields, names)
            row = 0
            for number in range(table.num_row_groups):
                group = table.metadata.row_group(number)
                begin = _first_byte(group)
                if begin >= file.start and (file.end is None or begin < file.end):
                    yield from self._group(file, table, number, columns, row)
                row += group.num_rows

    def parts(self, file: SourceFile, size: int) -> list[tuple[int, int | None]]:
        """Ranges of whole row groups, of ``size`` bytes where these are small enough."""
        from pyarrow.parquet import ParquetFile

        with file.open_seekable() as stream, ParquetFile(stream) as table:
            begins = [
                _first_byte(table.metadata.row_group(number))
                for number in range(table.num_row_groups)
            ]
        starts = [0]
        for begin in begins[1:]:
            if begin - starts[-1] >= size:
                starts.append(begin)
        ends: list[int | None] = [*starts[1:], None]
        return list(zip(starts, ends, strict=True))

    def _group(
        self, file: SourceFile, table: Any, number: int, columns: list[str], row: int
    ) -> Iterator[Record | Reject]:
        """The rows of a row group; damage in it is one Reject for the rest of its rows."""
        try:
            batches = table.iter_batches(
                _ROWS, row_groups=[number], columns=columns, use_threads=False
            )
            for batch in batches:
                for values in batch.to_pylist():
                    place = f"{file.key}#{row}"
                    yield record_or_reject(partial(self._record, file, place, row, values), place)
                    row += 1
        except Exception as error:  # of Arrow, whose messages may quote values
            yield reject_of(error, f"{file.key}#{row}")

    def _record(self, file: SourceFile, place: str, row: int, values: dict[str, Any]) -> Record:
        fields = file.settings.fields
        record = record_of(
            lambda column: member(values, column), fields, file.key, place, format=self.name
        )
        return replace(record, metadata={**record.metadata, "row": row})


def _columns(fields: Fields, names: list[str]) -> list[str]:
    """The columns that the fields need; whole structures where they point into one."""
    wanted = [fields.text, fields.id, fields.url, fields.language, fields.licence, fields.title]
    wanted += [fields.collected_at, *fields.metadata]
    texts = [str(column) for column in wanted if column is not None]
    found = [text if text in names else text.partition(".")[0] for text in texts]
    return sorted({name for name in found if name in names})


def _first_byte(group: Any) -> int:
    """Where a row group begins: its first page, which may be a dictionary."""
    first = group.column(0)
    places = [first.data_page_offset]
    if first.has_dictionary_page and first.dictionary_page_offset is not None:
        places.append(first.dictionary_page_offset)
    return int(min(places))
