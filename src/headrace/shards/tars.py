"""The bytes of one tar, local or remote, with every block verified on its first read."""

from __future__ import annotations

import logging
import mmap
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import xxhash
from numpy.typing import NDArray

from headrace.errors import Problem, ShardError
from headrace.shards import storage
from headrace.shards.filesystems import translated
from headrace.shards.index import BLOCK_BYTES
from headrace.shards.manifest import ShardEntry
from headrace.shards.retry import DEFAULT_RETRY, RetryPolicy

if TYPE_CHECKING:
    from headrace.shards.cache import Lease

_log = logging.getLogger(__name__)
_CACHED_BLOCKS = 32
_READ_AHEAD = 4
FETCH_AGAIN = "Copy the shard again from where it came, or build the source again"


@dataclass(frozen=True)
class CachedCopy:
    """A shard in the cache."""

    lease: Lease
    fetch_again: Callable[[Lease], Lease]
    """Takes the lease of a damaged copy and returns that of another one."""


def open_tar(
    url: str,
    entry: ShardEntry,
    hashes: list[int] | None,
    retry: RetryPolicy = DEFAULT_RETRY,
    cached: CachedCopy | None = None,
) -> Tar:
    """Open a local, a cached or a remote tar; ``hashes`` are those of its blocks."""
    if cached is not None:
        return LeasedTar(url, entry, hashes, cached)
    if storage.is_local(url):
        return MappedTar(url, entry, hashes)
    return RemoteTar(url, entry, hashes, retry)


class Tar(Protocol):
    """What an open shard reads from."""

    def read(self, start: int, stop: int) -> bytes:
        """The bytes from ``start`` up to ``stop``; ``ShardError`` if a block is not intact."""
        ...

    def read_many(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> list[bytes]:
        """The bytes of each of many ranges (int64[n] each); ``ShardError`` as for ``read``."""
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


class MappedTar:
    """A local tar in memory; the pages belong to the page cache, not to the process."""

    def __init__(self, url: str, entry: ShardEntry, hashes: list[int] | None) -> None:
        self._entry = entry
        self._hashes = hashes or []
        self._verified = np.zeros(len(self._hashes), dtype=np.bool_)
        self._unverified = len(self._hashes)
        with storage.open_for_reading(url) as file:
            _check_size(file.seek(0, 2), entry)
            with translated(url, "map it"):
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def read(self, start: int, stop: int) -> bytes:
        """See :meth:`Tar.read`."""
        if self._unverified and stop > start:
            for block in range(start // BLOCK_BYTES, (stop - 1) // BLOCK_BYTES + 1):
                if not self._verified[block]:
                    self._check(block)
        return self._map[start:stop]

    def read_many(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> list[bytes]:
        """See :meth:`Tar.read_many`."""
        if self._unverified and starts.size:
            self._check_ranges(starts, stops)
        data = self._map
        return [
            data[start:stop] for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)
        ]

    def _check_ranges(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> None:
        some = stops > starts
        first, last = starts[some] // BLOCK_BYTES, (stops[some] - 1) // BLOCK_BYTES
        wanted = np.zeros(len(self._verified) + 1, dtype=np.int64)
        # Plus one where a range begins, minus one behind its end: the sum counts those inside.
        np.add.at(wanted, first, 1)
        np.add.at(wanted[1:], last, -1)
        for block in np.flatnonzero((np.cumsum(wanted[:-1]) > 0) & ~self._verified).tolist():
            if not self._verified[block]:  # as it is when a check took another copy of the tar
                self._check(block)

    def _check(self, block: int) -> None:
        start = block * BLOCK_BYTES
        with memoryview(self._map) as view, view[start : start + BLOCK_BYTES] as data:
            check_block(data, block, self._hashes[block], self._entry)
        self._verified[block] = True
        self._unverified -= 1

    def close(self) -> None:
        """Let go of the file."""
        self._map.close()


class LeasedTar(MappedTar):
    """A cached copy of a remote tar: one that is not intact is fetched again, once."""

    def __init__(
        self, url: str, entry: ShardEntry, hashes: list[int] | None, cached: CachedCopy
    ) -> None:
        super().__init__(url, entry, hashes)
        self._lease = cached.lease
        self._fetch_again = cached.fetch_again
        self._is_second = False

    def _check(self, block: int) -> None:
        try:
            super()._check(block)
        except ShardError as error:
            if self._is_second:
                raise
            _log.warning("%s; the cached copy is dropped", error.problems[0])
            self._replace()

    def _replace(self) -> None:
        lease = self._fetch_again(self._lease)
        self._is_second = True
        fresh = MappedTar(storage.join(lease.folder, self._entry.name), self._entry, self._hashes)
        self.close()
        self._lease, self._map = lease, fresh._map
        self._verified[:] = False
        self._unverified = len(self._hashes)
        # The caller goes on with blocks that it found verified in the old copy.
        for block in range(len(self._hashes)):
            self._check(block)

    def close(self) -> None:
        """Let go of the file, which may be evicted then."""
        super().close()
        self._lease.release()


class RemoteTar:
    """A tar behind a URL: ranged reads of whole blocks, each verified, the newest ones kept."""

    def __init__(
        self,
        url: str,
        entry: ShardEntry,
        hashes: list[int] | None,
        retry: RetryPolicy = DEFAULT_RETRY,
    ) -> None:
        self._url = url
        self._retry = retry
        self._entry = entry
        self._hashes = hashes
        self._blocks: OrderedDict[int, bytes] = OrderedDict()

    def read(self, start: int, stop: int) -> bytes:
        """See :meth:`Tar.read`."""
        if stop <= start:
            return b""
        first, last = start // BLOCK_BYTES, (stop - 1) // BLOCK_BYTES
        parts = [self._block(block) for block in range(first, last + 1)]
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        return data[start - first * BLOCK_BYTES : stop - first * BLOCK_BYTES]

    def read_many(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> list[bytes]:
        """See :meth:`Tar.read_many`."""
        return [
            self.read(start, stop)
            for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)
        ]

    def _block(self, block: int) -> bytes:
        data = self._blocks.get(block)
        if data is not None:
            self._blocks.move_to_end(block)
            return data
        # A block that follows one in hand is part of a scan: fetch some more in one request.
        count = _READ_AHEAD if block - 1 in self._blocks else 1
        start = block * BLOCK_BYTES
        length = min(count * BLOCK_BYTES, self._entry.bytes - start)

        def check(data: bytes) -> None:
            _check_size(start + len(data) if len(data) < length else self._entry.bytes, self._entry)
            for number, content in _split(data, block):
                if self._hashes is not None:
                    check_block(content, number, self._hashes[number], self._entry)

        fetched = storage.read_range(self._url, start, length, self._retry, check)
        self._blocks.update(_split(fetched, block))
        while len(self._blocks) > _CACHED_BLOCKS:
            self._blocks.popitem(last=False)
        return self._blocks[block]

    def close(self) -> None:
        """Let go of the file."""
        self._blocks.clear()


def _split(data: bytes, first: int) -> Iterator[tuple[int, bytes]]:
    """The blocks in some bytes that start with block ``first``, each with its number."""
    for position in range(0, len(data), BLOCK_BYTES):
        yield first + position // BLOCK_BYTES, data[position : position + BLOCK_BYTES]


def size_problem(size: int, entry: ShardEntry) -> Problem:
    """What is wrong with a tar of ``size`` bytes, where the manifest says another number."""
    what = "truncated" if size < entry.bytes else "longer than it was"
    return Problem(
        f"the shard is {what}",
        f"shard {entry.name} offset {min(size, entry.bytes)}",
        f"{size} bytes, the manifest says {entry.bytes}",
        FETCH_AGAIN,
    )


def _check_size(size: int, entry: ShardEntry) -> None:
    if size != entry.bytes:
        raise ShardError(size_problem(size, entry))


def check_block(data: bytes | memoryview, block: int, expected: int, entry: ShardEntry) -> None:
    """Raise :class:`ShardError` if block ``block`` of a tar has not the xxh3-64 ``expected``."""
    found = xxhash.xxh3_64_intdigest(data)
    if found != expected:
        start = block * BLOCK_BYTES
        raise ShardError(
            Problem(
                f"the bytes {start} to {start + len(data)} are corrupt",
                f"shard {entry.name} offset {start}",
                f"xxh3 {found:016x}, the index says {expected:016x}",
                FETCH_AGAIN,
            )
        )
