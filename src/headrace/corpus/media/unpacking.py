"""Packed files as streams of what is in them, with caps against those that grow without end."""

from __future__ import annotations

import io
from typing import IO

from headrace.corpus.media.refusal import RefusalError

MAGIC = ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"BZh", "bz2"))
SUFFIXES = (".gz", ".zst", ".bz2")
LOOKED_AT_FROM = 16 << 20
"""Bytes that anything may become: what is smaller is no bomb, however well it was packed."""


def packing_of(head: bytes) -> str | None:
    """How a file that begins with ``head`` is packed, as Arrow names it; None if it is not."""
    return next((name for magic, name in MAGIC if head.startswith(magic)), None)


def unpacked(file: IO[bytes], packing: str, ratio: float) -> io.BufferedReader:
    """A stream of what is in a packed file; nothing is unpacked before it is read.

    Reading raises :class:`RefusalError` where the data are damaged or end too early
    (``unreadable``), and where they become more than ``ratio`` times as large (``too large``).
    """
    return io.BufferedReader(_Unpacked(file, packing, ratio), 1 << 16)


class _Counted(io.RawIOBase):
    """What Arrow reads from; counts the bytes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.bytes = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        data = self._file.read(-1 if size is None else size)
        self.bytes += len(data)
        return data


class _Unpacked(io.RawIOBase):
    def __init__(self, file: IO[bytes], packing: str, ratio: float) -> None:
        import pyarrow

        self._packed = _Counted(file)
        self._stream = pyarrow.CompressedInputStream(
            pyarrow.PythonFile(self._packed, mode="r"), packing
        )
        self._packing = packing
        self._ratio = ratio
        self._bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        try:
            data = self._stream.read(len(buffer))
        except OSError as error:
            if error.errno is not None:  # the file itself cannot be read: not Arrow's complaint
                raise
            detail = f"the {self._packing} data are damaged or end too early"
            raise RefusalError("unreadable", detail) from None
        self._bytes += len(data)
        if self._bytes > max(LOOKED_AT_FROM, self._ratio * self._packed.bytes):
            raise RefusalError("too large", f"becomes more than {self._ratio:g} times as large")
        buffer[: len(data)] = data
        return len(data)
