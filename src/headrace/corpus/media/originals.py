"""The bytes that a record was read from, as they are in its file once that is unpacked."""

from __future__ import annotations

from contextlib import ExitStack
from typing import IO

from headrace.corpus.documents import Record
from headrace.corpus.media.refusal import RefusalError
from headrace.corpus.media.registry import reader_of
from headrace.corpus.media.settings import MediaSettings
from headrace.corpus.media.source_file import SourceFile

_PIECE_BYTES = 1 << 20


class Originals:
    """Original bytes of the records of a file, which are asked for in their order.

    A packed file is unpacked once for all of them.  Use it as a context manager.
    """

    def __init__(self, url: str, settings: MediaSettings) -> None:
        self._file = SourceFile(url, "", settings, settings.format)
        self._most = settings.limits.file_bytes
        self._stack = ExitStack()
        self._stream: IO[bytes] | None = None
        self._at = 0

    def __enter__(self) -> Originals:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._stack.close()
        self._stream = None

    def of(self, record: Record) -> bytes | None:
        """What a record was read from; None if its format has no bytes for one record.

        That is the range of the file that it names, the file itself where that is one document, or
        what its reader gives as ``original``.

        Raises:
            RefusalError: if it is more than ``limits.file_bytes``, or not there any more.
            ShardError: if the file cannot be read.
        """
        if record.original is not None:
            return record.original
        if record.offset is not None and record.length is not None:
            return self._read(record.offset, record.length)
        if record.offset is None and reader_of(record.format).single:
            return self._read(0, None)
        return None

    def _read(self, offset: int, length: int | None) -> bytes:
        if (length or 0) > self._most:
            raise RefusalError("too large", f"an original of more than {self._most} bytes")
        stream = self._reach(offset)
        data = stream.read(self._most + 1 if length is None else length)
        self._at += len(data)
        if len(data) > self._most:
            raise RefusalError("too large", f"an original of more than {self._most} bytes")
        if length is not None and len(data) < length:
            raise RefusalError("changed while read", "the file ends before the record")
        return data

    def _reach(self, offset: int) -> IO[bytes]:
        """The stream, at a place in it."""
        if self._stream is None or offset < self._at:
            self.close()
            self._stream = self._stack.enter_context(self._file.open())
            self._at = 0
        stream = self._stream
        if offset > self._at and stream.seekable():
            stream.seek(offset)
            self._at = offset
        while self._at < offset:
            data = stream.read(min(_PIECE_BYTES, offset - self._at))
            if not data:
                raise RefusalError("changed while read", "the file ends before the record")
            self._at += len(data)
        return stream
