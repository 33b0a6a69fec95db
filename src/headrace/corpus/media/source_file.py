"""A file that a reader is given: its bytes, unpacked, within the limits."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, cast

from headrace.corpus.media.encodings import SAMPLE_BYTES, encoding_of
from headrace.corpus.media.refusal import RefusalError
from headrace.corpus.media.settings import MediaSettings
from headrace.corpus.media.unpacking import packing_of, unpacked
from headrace.shards import storage

_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file, or the records of it that begin in a range of its bytes."""

    url: str
    key: str
    """Key of the file, which those of its records begin with."""
    settings: MediaSettings
    format: str
    """Name of the reader."""
    start: int = 0
    end: int | None = None
    """None: the end of the file."""

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """A stream of what is in the file, unpacked; it can only be read forwards if packed."""
        with storage.open_for_reading(self.url) as file:
            packing = packing_of(_head(file, 4))
            if packing is None:
                yield file
            else:
                stream = unpacked(file, packing, self.settings.limits.ratio)
                yield cast(IO[bytes], stream)

    @contextmanager
    def open_seekable(self) -> Iterator[IO[bytes]]:
        """A local file with what is in this one, unpacked, of ``file_bytes`` at most."""
        most = self.settings.limits.file_bytes
        with self.open() as stream, storage.open_for_reading(self.url) as plain:
            if packing_of(_head(plain, 4)) is None:
                _refuse_more(plain.seek(0, 2), most)
                with storage.open_local(self.url) as file:
                    yield file
                return
            with tempfile.TemporaryFile() as copy:
                size = 0
                while data := stream.read(_PIECE_BYTES):
                    size += len(data)
                    _refuse_more(size, most)
                    copy.write(data)
                copy.seek(0)
                yield copy

    def content(self) -> bytes:
        """All that is in the file; :class:`RefusalError` over ``document_bytes``, or if empty."""
        most = self.settings.limits.document_bytes
        with self.open() as stream:
            data = stream.read(most + 1)
        _refuse_more(len(data), most)
        if not data:
            raise RefusalError("empty", "a file of no bytes")
        return data

    def encoding(self, otherwise: str | None = None) -> str:
        """The encoding of a file of text, from its beginning: the same for all of its ranges.

        ``otherwise`` is as in :func:`headrace.corpus.media.encodings.encoding_of`.
        """
        with self.open() as stream:
            sample = stream.read(SAMPLE_BYTES)
            whole = len(sample) < SAMPLE_BYTES
        return encoding_of(sample, self.settings.encoding, whole=whole, otherwise=otherwise)

    def head(self, size: int) -> bytes:
        """The first bytes, unpacked."""
        with self.open() as stream:
            return stream.read(size)


def _head(file: IO[bytes], size: int) -> bytes:
    head = file.read(size)
    file.seek(0)
    return head


def _refuse_more(size: int, most: int) -> None:
    if size > most:
        raise RefusalError("too large", f"more than {most} bytes")
