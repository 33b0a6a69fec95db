"""Parts of remote files: ranged reads with retries, streams over them, sizes and versions."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from headrace.shards.filesystems import read_remotely, size_in
from headrace.shards.retry import DEFAULT_RETRY, RetryPolicy


def read_from(
    url: str,
    start: int,
    length: int,
    retry: RetryPolicy = DEFAULT_RETRY,
    check: Callable[[bytes], None] | None = None,
) -> bytes:
    """``length`` bytes from byte ``start``; the whole file if its server knows no ranges.

    With ``check`` an answer that is too short is only believed if the file is that short, and one
    for which ``check`` raises :class:`ShardError` is fetched again before it is raised.
    """

    def request(filesystem: Any, path: str, options: dict[str, Any]) -> bytes:
        data = bytes(filesystem.cat_file(path, start=start, end=start + length, **options))
        if check is not None:
            is_whole = len(data) > length
            wanted = data[start : start + length] if is_whole else data
            if is_whole or len(wanted) < length:
                size = size_on(filesystem, path, options)
                if len(data) < (size if is_whole else min(length, size - start)):
                    raise OSError(f"the answer has {len(data)} bytes, which are not all")
            check(wanted)
        return data

    return read_remotely(url, retry, "read it", request)


def size_on(filesystem: Any, path: str, options: dict[str, Any]) -> int:
    """The size of a file on a remote filesystem, as the store has it now."""
    filesystem.invalidate_cache()
    return size_in(filesystem.info(path, **options), path)


def version_of(url: str, retry: RetryPolicy = DEFAULT_RETRY) -> str | None:
    """What the store says of a remote file's version: its ETag, or else its time."""

    def request(filesystem: Any, path: str, options: dict[str, Any]) -> str | None:
        filesystem.invalidate_cache()
        found = filesystem.info(path, **options)
        for name in ("ETag", "etag", "md5Hash", "LastModified", "Last-Modified", "mtime"):
            if found.get(name):
                return str(found[name])
        return None

    return read_remotely(url, retry, "read it", request)


class RemoteFile(io.RawIOBase):
    """A remote file as a raw stream: a ranged read, with retries, for each piece."""

    def __init__(self, url: str, size: int) -> None:
        super().__init__()
        self._url = url
        self._size = size
        self._position = 0
        self._whole: bytes | None = None

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """See :meth:`io.RawIOBase.seek`; nothing is asked for."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        """See :meth:`io.RawIOBase.readinto`: one ranged read."""
        start, length = self._position, min(len(buffer), self._size - self._position)
        if length <= 0:
            return 0
        if self._whole is None:
            data = read_from(self._url, start, length, check=lambda _: None)
            if len(data) > length:
                self._whole = data
        if self._whole is not None:
            data = self._whole[start : start + length]
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
