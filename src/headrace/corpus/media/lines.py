"""Lines of text: a line is a document, or the columns of one with tabs between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import ClassVar

from headrace.corpus.documents import Record, Reject
from headrace.corpus.media.byte_lines import byte_lines
from headrace.corpus.media.columns import record_of
from headrace.corpus.media.encodings import decoded_as
from headrace.corpus.media.reader import Reader
from headrace.corpus.media.refusal import record_or_reject
from headrace.corpus.media.source_file import SourceFile
from headrace.corpus.media.unpacking import packing_of
from headrace.shards import storage


class LineFormat(Reader):
    """A format whose records are lines, so that its unpacked files can be cut anywhere."""

    single = False
    filler = " "
    standard_encoding: ClassVar[str | None] = None
    """What the format prescribes: files without a byte order mark are in it."""

    def parts(self, file: SourceFile, size: int) -> list[tuple[int, int | None]]:
        """Ranges of ``size`` bytes; the whole file if it is packed."""
        with storage.open_for_reading(file.url) as stream:
            packed = packing_of(stream.read(4)) is not None
            total = stream.seek(0, 2)
        if packed or total <= size:
            return [(0, None)]
        starts = range(0, total, size)
        return [(start, start + size if start + size < total else None) for start in starts]

    def each_line(
        self,
        file: SourceFile,
        record_of_line: Callable[[str, str, int, int], Record],
        *,
        header: bool = False,
    ) -> Iterator[Record | Reject]:
        """What ``record_of_line(text, encoding, offset, length)`` makes of each line not blank.

        With ``header`` the first line of the file is no record.
        """
        encoding = file.encoding(self.standard_encoding)
        most = file.settings.limits.document_bytes
        separator = "\n".encode(encoding)
        with file.open() as stream:
            for line in byte_lines(stream, file.start, file.end, most=most, separator=separator):
                if header and line.offset == 0:
                    continue
                key = f"{file.key}#{line.offset}"
                content = line.content
                if content is None:
                    detail = f"a line of {line.length} bytes, more than {most}"
                    yield Reject(key, "too large", detail, line.offset)
                    continue
                if _is_blank(content, encoding, len(separator)):
                    continue

                def make(
                    content: bytes = content, offset: int = line.offset, length: int = line.length
                ) -> Record:
                    text = decoded_as(content, encoding)
                    if offset == 0:
                        text = text.removeprefix("\ufeff")
                    return record_of_line(text.removesuffix("\r"), encoding, offset, length)

                yield record_or_reject(make, key, line.offset)


def _is_blank(content: bytes, encoding: str, width: int) -> bool:
    """Whether a line has white space alone; ``width`` is the bytes of a space."""
    if width == 1:
        return not content.strip()
    return not content.decode(encoding, "replace").strip(" \t\r\v\f\ufeff")


class LinesReader(LineFormat):
    """A line is a document; where ``fields.text`` is a number, lines are columns between tabs."""

    name = "lines"

    def read(self, file: SourceFile) -> Iterator[Record | Reject]:
        """A record for each line that is not blank."""
        fields = file.settings.fields
        columns = isinstance(fields.text, int)

        def record(text: str, encoding: str, offset: int, length: int) -> Record:
            place = f"{file.key}#{offset}"
            if not columns:
                return Record(
                    place,
                    text,
                    format=self.name,
                    encoding=encoding,
                    offset=offset,
                    length=length,
                )
            return record_of(
                dict(enumerate(text.split("\t"), 1)).get,
                fields,
                file.key,
                place,
                format=self.name,
                encoding=encoding,
                offset=offset,
                length=length,
            )

        return self.each_line(file, record)
