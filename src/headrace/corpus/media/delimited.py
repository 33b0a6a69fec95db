"""CSV and TSV: a row is a document."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from functools import partial
from typing import IO, Any

from headrace.corpus.documents import Record, Reject
from headrace.corpus.media.byte_lines import ByteLine, byte_lines
from headrace.corpus.media.columns import check_columns, record_of
from headrace.corpus.media.encodings import decoded_as
from headrace.corpus.media.lines import LineFormat
from headrace.corpus.media.reader import Reader
from headrace.corpus.media.refusal import RefusalError, record_or_reject, reject_of
from headrace.corpus.media.source_file import SourceFile

_DELIMITERS = ",;\t|"
_HEAD_BYTES = 1 << 16


class TsvReader(LineFormat):
    """Columns between tabs, a header in the first line, no quotes."""

    name = "tsv"
    suffixes = (".tsv", ".tab")

    def read(self, file: SourceFile) -> Iterator[Record | Reject]:
        """A record for each line behind the header; numbered columns mean that there is none."""
        fields = file.settings.fields
        header: list[str] | None = None
        if isinstance(fields.text, str):
            encoding = file.encoding()
            most = file.settings.limits.document_bytes
            with file.open() as stream:
                lines = byte_lines(stream, most=most, separator="\n".encode(encoding))
                header = _header(next(lines, None), encoding).split("\t")
            check_columns(fields, header)

        def record(text: str, encoding: str, offset: int, length: int) -> Record:
            return record_of(
                _cells(text.split("\t"), header),
                fields,
                file.key,
                f"{file.key}#{offset}",
                format=self.name,
                encoding=encoding,
                offset=offset,
                length=length,
            )

        return self.each_line(file, record, header=header is not None)


class CsvReader(Reader):
    """Columns between commas, semicolons, bars or tabs, with quotes, and a header.

    A quote that is never closed takes rows with it up to the end of the file or to
    ``document_bytes``, in one Reject.
    """

    name = "csv"
    suffixes = (".csv",)
    single = False
    filler = "\n"  # a row of spaces would be a row

    def read(self, file: SourceFile) -> Iterator[Record | Reject]:
        """A record for each row behind the header; numbered columns mean that there is none."""
        fields = file.settings.fields
        most = file.settings.limits.document_bytes
        csv.field_size_limit(most)
        encoding = file.encoding()
        head = file.head(_HEAD_BYTES).partition("\n".encode(encoding))[0]
        first_line = head.decode(encoding, "replace")
        delimiter = max(_DELIMITERS, key=first_line.count)
        with file.open() as stream:
            rows = _Rows(stream, encoding, delimiter, most)
            header: list[str] | None = None
            if isinstance(fields.text, str):
                first = rows.next_row()
                if isinstance(first, Exception):
                    raise first
                header = first or []
                check_columns(fields, header)
            while (row := rows.next_row()) is not None:
                place = f"{file.key}#{rows.begin}"
                if isinstance(row, Exception):
                    yield reject_of(row, place, rows.begin)
                elif row:
                    make = partial(self._record, file, place, row, header, rows)
                    yield record_or_reject(make, place, rows.begin)

    def _record(
        self, file: SourceFile, place: str, row: list[str], header: list[str] | None, rows: _Rows
    ) -> Record:
        return record_of(
            _cells(row, header),
            file.settings.fields,
            file.key,
            place,
            format=self.name,
            encoding=rows.encoding,
            offset=rows.begin,
            length=rows.end - rows.begin,
        )


class _Rows:
    """Rows of a CSV file with the bytes that each takes; also the iterator that csv reads from."""

    def __init__(self, stream: IO[bytes], encoding: str, delimiter: str, most: int) -> None:
        self.encoding = encoding
        self.begin = self.end = 0
        self._most = most
        self._lines = byte_lines(stream, most=most, separator="\n".encode(encoding))
        self._taken = 0
        self._over = False
        self._delimiter = delimiter
        self._reader: Any = None

    def next_row(self) -> list[str] | Exception | None:
        """The next row, or what is wrong with it; None at the end of the file."""
        self._taken = 0
        if self._reader is None:
            self._reader = csv.reader(self, delimiter=self._delimiter)
        try:
            row: list[str] = next(self._reader)
        except StopIteration:
            return None
        except (csv.Error, RefusalError) as error:
            self._reader = None
            is_csv = isinstance(error, csv.Error)
            return RefusalError("unreadable", "not CSV") if is_csv else error
        if self._over and self._taken:
            return RefusalError("unreadable", "a quote that is never closed")
        return row

    def __iter__(self) -> _Rows:
        return self

    def __next__(self) -> str:
        line = next(self._lines, None)
        if line is None:
            self._over = True
            raise StopIteration
        if not self._taken:
            self.begin = line.offset
        self._taken += 1
        self.end = line.offset + line.length
        if line.content is None or self.end - self.begin > self._most:
            raise RefusalError("too large", f"a row of more than {self._most} bytes")
        return _decoded(line, self.encoding) + "\n"


def _header(line: ByteLine | None, encoding: str) -> str:
    if line is None or line.content is None:
        raise RefusalError("unreadable", "no header")
    return _decoded(line, encoding)


def _decoded(line: ByteLine, encoding: str) -> str:
    text = decoded_as(line.content or b"", encoding).removesuffix("\r")
    return text.removeprefix("\ufeff") if line.offset == 0 else text


def _cells(row: list[str], header: list[str] | None) -> Callable[[Any], Any]:
    if header is None:
        return dict(enumerate(row, 1)).get
    if len(row) != len(header):
        detail = f"{len(row)} columns under a header of {len(header)}"
        raise RefusalError("unreadable", detail)
    return dict(zip(header, row, strict=True)).get
