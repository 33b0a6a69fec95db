"""WARC: the pages of a crawl, their texts, and the PDF files among them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import partial
from typing import IO, Any

from headrace.corpus.documents import Record, Reject
from headrace.corpus.media.encodings import decoded
from headrace.corpus.media.html import facts_of
from headrace.corpus.media.optional import needed
from headrace.corpus.media.pdf import pdf_record
from headrace.corpus.media.reader import Reader
from headrace.corpus.media.refusal import RefusalError, record_or_reject
from headrace.corpus.media.source_file import SourceFile
from headrace.corpus.media.web_page import page_of

_PAGES = ("text/html", "application/xhtml+xml")
_HEADER_BYTES = 1 << 16


class _Forwards:
    """What fastwarc reads from: it asks for its place by seeking, and never goes elsewhere."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._at = 0

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if (offset, whence) not in ((0, io.SEEK_CUR), (self._at, io.SEEK_SET)):
            raise io.UnsupportedOperation("a stream that is only read forwards")
        return self._at

    def tell(self) -> int:
        return self._at


class WarcReader(Reader):
    """What servers answered, and what was stored or converted: WARC, WET.

    Requests, metadata and references to other records hold no documents.  Answers that are no
    pages, texts or PDF files, or have a status other than 200, are Rejects.
    """

    name = "warc"
    suffixes = (".warc", ".wet")
    magic = (b"WARC/",)
    single = False

    def read(self, file: SourceFile) -> Iterator[Record | Reject]:
        """A record for each document; its key is the id of its WARC record."""
        warc = needed("fastwarc.warc", "fastwarc", "reading WARC")
        kinds = warc.WarcRecordType
        wanted = kinds.response | kinds.resource | kinds.conversion
        with file.open() as stream:
            for entry in warc.ArchiveIterator(
                _Forwards(stream),
                record_types=wanted,
                parse_http=False,
                fsspec_args=False,
                stream_detect=False,
                quirks_mode=True,
            ):
                offset = entry.stream_pos
                identifier = (entry.headers.get("WARC-Record-ID") or "").strip("<> ")
                key = f"{file.key}#{identifier.removeprefix('urn:uuid:') or offset}"
                make = partial(self._record, entry, key, offset, file)
                yield record_or_reject(make, key, offset)

    def _record(self, entry: Any, key: str, offset: int, file: SourceFile) -> Record:
        most = file.settings.limits.document_bytes
        if entry.content_length > most:
            detail = f"{entry.content_length} bytes, more than {most}"
            raise RefusalError("too large", detail)
        content_type, charset = _header_type(entry.headers.get("Content-Type"))
        language = None
        if entry.is_http:
            entry.parse_http(auto_decode="all", max_header_len=_HEADER_BYTES, quirks_mode=True)
            status = entry.http_headers.status_code if entry.http_headers else None
            if status != 200:
                raise RefusalError("not supported", f"HTTP status {status}")
            content_type, charset = _header_type(entry.http_headers.get("Content-Type"))
            language = entry.http_headers.get("Content-Language")
        data = entry.reader.read(most + 1)
        if len(data) > most:
            raise RefusalError("too large", f"more than {most} bytes unpacked")
        facts: dict[str, Any] = {
            "key": key,
            "url": entry.headers.get("WARC-Target-URI") or None,
            "collected_at": entry.headers.get("WARC-Date") or None,
            "format": self.name,
            "offset": offset,
            "original": data,
        }
        return self._document(data, content_type, charset, language, file, facts)

    def _document(
        self,
        data: bytes,
        content_type: str,
        charset: str | None,
        language: str | None,
        file: SourceFile,
        facts: dict[str, Any],
    ) -> Record:
        settings = file.settings
        if content_type in _PAGES:
            page = page_of(data, settings.html, charset or settings.encoding)
            of_page = facts_of(page)
            of_page["language"] = of_page["language"] or language
            return Record(text=page.text, **facts, **of_page)
        if content_type == "text/plain":
            text, encoding = decoded(data, charset or settings.encoding)
            return Record(text=text, encoding=encoding, language=language, **facts)
        if content_type == "application/pdf" or data.startswith(b"%PDF-"):
            found = pdf_record(io.BytesIO(data), facts["key"], settings)
            return Record(text=found.text, title=found.title, metadata=found.metadata, **facts)
        raise RefusalError("not supported", f"content type {content_type[:80]!r}")


def _header_type(value: str | None) -> tuple[str, str | None]:
    """Type and charset of a Content-Type."""
    kind, _, parameters = (value or "").partition(";")
    for parameter in parameters.split(";"):
        name, _, text = parameter.partition("=")
        if name.strip().lower() == "charset" and text.strip(" \"'"):
            return kind.strip().lower(), text.strip(" \"'")
    return kind.strip().lower(), None
