"""Reads a source: samples by shard and number, with every block verified on its first read."""

from __future__ import annotations

import mmap
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Protocol

import xxhash

from headrace.errors import Problem, ShardError, UserError
from headrace.shards import storage
from headrace.shards.index import BLOCK_BYTES, ShardIndex, index_url, read_index
from headrace.shards.manifest import Manifest, ShardEntry, read_manifest
from headrace.shards.sample import Sample

_OPEN_SHARDS = 64
"""Open shards of a reader at one time: each local one holds a file descriptor."""
_CACHED_BLOCKS = 32
_READ_AHEAD = 4
FETCH_AGAIN = "Copy the shard again from where it came, or build the source again"


class ShardReader:
    """A source that is open for reading.

    Opening reads the manifest and lists the folder, and nothing else.  Local tars are mapped into
    memory, so they must not be changed in place while they are read (Headrace only ever replaces
    files by renaming).  Remote tars are read in blocks.

    Args:
        url: Folder of the source.
        verify: Check the hash of each block of a tar when it is read for the first time.

    Raises :class:`ShardError` with all problems: no manifest, an empty one, shards or indexes
    that are missing or whose size is not what the manifest says.
    """

    def __init__(self, url: str, *, verify: bool = True) -> None:
        self.url = url
        self.manifest: Manifest = read_manifest(url)
        self._verify = verify
        self._open: OrderedDict[int, Shard] = OrderedDict()
        problems = missing_files(url, self.manifest)
        if problems:
            raise ShardError(problems)

    def __enter__(self) -> ShardReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        # A worker process opens the source for itself: maps and sockets do not travel.
        return _reopen, (self.url, self._verify)

    def __len__(self) -> int:
        return self.manifest.samples

    def __iter__(self) -> Iterator[Sample]:
        for number in range(len(self.manifest.shards)):
            yield from self.shard(number)

    def shard(self, number: int) -> Shard:
        """Shard ``number`` of the manifest, opened and checked against it; kept open a while.

        Raises :class:`ShardError` if its index is damaged or belongs to another tar, and
        ``IndexError`` if there is no such shard.
        """
        if not 0 <= number < len(self.manifest.shards):
            raise IndexError(f"shard {number} of {len(self.manifest.shards)}")
        shard = self._open.get(number)
        if shard is None:
            shard = Shard(self.url, self.manifest.shards[number], verify=self._verify)
            self._open[number] = shard
            if len(self._open) > _OPEN_SHARDS:
                self._open.popitem(last=False)
        else:
            self._open.move_to_end(number)
        return shard

    def close(self) -> None:
        """Close all open shards."""
        for shard in self._open.values():
            shard.close()
        self._open.clear()


class Shard:
    """One open shard: a sequence of samples."""

    def __init__(self, url: str, entry: ShardEntry, *, verify: bool = True) -> None:
        self.name = entry.name
        tar_url = storage.join(url, entry.name)
        self.index = read_index(tar_url)
        check_index(self.index, entry, index_url(tar_url))
        blocks = self.index.block_hashes.tolist() if verify else None
        source = _MappedTar if storage.is_local(url) else _RemoteTar
        self._tar: _Tar = source(tar_url, entry, blocks)
        self._names = self.index.field_names
        self._starts: list[int] = self.index.member_starts.tolist()
        self._begins: list[int] = self.index.member_offsets.tolist()
        self._ends: list[int] = (self.index.member_offsets + self.index.member_sizes).tolist()
        self._fields: list[int] = self.index.member_fields.tolist()

    def __len__(self) -> int:
        return len(self.index)

    @property
    def keys(self) -> list[str]:
        """The keys of the samples in order."""
        return self.index.keys

    def __getitem__(self, number: int) -> Sample:
        """Sample ``number``, counted from 0; :class:`ShardError` if its bytes are not intact."""
        if number < 0:
            number += len(self)
        if not 0 <= number < len(self):
            raise IndexError(f"sample {number} of {len(self)} in {self.name}")
        read, begins, ends = self._tar.read, self._begins, self._ends
        names, fields = self._names, self._fields
        return Sample(
            self.keys[number],
            {
                names[fields[member]]: read(begins[member], ends[member])
                for member in range(self._starts[number], self._starts[number + 1])
            },
        )

    def __iter__(self) -> Iterator[Sample]:
        for number in range(len(self)):
            yield self[number]

    def close(self) -> None:
        """Let go of the file."""
        self._tar.close()


class _Tar(Protocol):
    def read(self, start: int, stop: int) -> bytes: ...
    def close(self) -> None: ...


class _MappedTar:
    """A local tar in memory; the pages belong to the page cache, not to the process."""

    def __init__(self, url: str, entry: ShardEntry, hashes: list[int] | None) -> None:
        self._entry = entry
        self._hashes = hashes or []
        self._verified = bytearray(len(self._hashes))
        self._unverified = len(self._hashes)
        with storage.open_for_reading(url) as file:
            _check_size(file.seek(0, 2), entry)
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def read(self, start: int, stop: int) -> bytes:
        if self._unverified and stop > start:
            for block in range(start // BLOCK_BYTES, (stop - 1) // BLOCK_BYTES + 1):
                if not self._verified[block]:
                    self._check(block)
        return self._map[start:stop]

    def _check(self, block: int) -> None:
        start = block * BLOCK_BYTES
        check_block(self._map[start : start + BLOCK_BYTES], block, self._hashes[block], self._entry)
        self._verified[block] = 1
        self._unverified -= 1

    def close(self) -> None:
        self._map.close()


class _RemoteTar:
    """A tar behind a URL: ranged reads of whole blocks, each verified, the newest ones kept."""

    def __init__(self, url: str, entry: ShardEntry, hashes: list[int] | None) -> None:
        self._url = url
        self._entry = entry
        self._hashes = hashes
        self._blocks: OrderedDict[int, bytes] = OrderedDict()

    def read(self, start: int, stop: int) -> bytes:
        if stop <= start:
            return b""
        first, last = start // BLOCK_BYTES, (stop - 1) // BLOCK_BYTES
        parts = [self._block(block) for block in range(first, last + 1)]
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        return data[start - first * BLOCK_BYTES : stop - first * BLOCK_BYTES]

    def _block(self, block: int) -> bytes:
        data = self._blocks.get(block)
        if data is not None:
            self._blocks.move_to_end(block)
            return data
        # A block that follows one in hand is part of a scan: fetch some more in one request.
        count = _READ_AHEAD if block - 1 in self._blocks else 1
        start = block * BLOCK_BYTES
        length = min(count * BLOCK_BYTES, self._entry.bytes - start)
        fetched = storage.read_range(self._url, start, length)
        if len(fetched) != length:
            _check_size(start + len(fetched), self._entry)
        for number in range(block, block + -(-length // BLOCK_BYTES)):
            position = (number - block) * BLOCK_BYTES
            data = fetched[position : position + BLOCK_BYTES]
            if self._hashes is not None:
                check_block(data, number, self._hashes[number], self._entry)
            self._blocks[number] = data
        while len(self._blocks) > _CACHED_BLOCKS:
            self._blocks.popitem(last=False)
        return self._blocks[block]

    def close(self) -> None:
        self._blocks.clear()


def missing_files(url: str, manifest: Manifest) -> list[Problem]:
    """Shards and indexes of the manifest that are not there, and tars of another size."""
    wanted = [entry.name for entry in manifest.shards]
    sizes = storage.sizes(url, [*wanted, *(index_url(name) for name in wanted)])
    problems: list[Problem] = []
    for entry in manifest.shards:
        where = f"shard {entry.name}"
        size = sizes.get(entry.name)
        if size is None:
            problems.append(
                Problem("the shard is missing", where, storage.join(url, entry.name), FETCH_AGAIN)
            )
        elif size != entry.bytes:
            problems.append(_size_problem(size, entry))
        if index_url(entry.name) not in sizes:
            problems.append(
                Problem(
                    "its index is missing",
                    where,
                    storage.join(url, index_url(entry.name)),
                    f"Make it with: headrace index {url}",
                )
            )
    return problems


def _size_problem(size: int, entry: ShardEntry) -> Problem:
    what = "truncated" if size < entry.bytes else "longer than it was"
    return Problem(
        f"the shard is {what}",
        f"shard {entry.name} offset {min(size, entry.bytes)}",
        f"{size} bytes, the manifest says {entry.bytes}",
        FETCH_AGAIN,
    )


def _check_size(size: int, entry: ShardEntry) -> None:
    if size != entry.bytes:
        raise ShardError(_size_problem(size, entry))


def check_block(data: bytes, block: int, expected: int, entry: ShardEntry) -> None:
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


def check_index(index: ShardIndex, entry: ShardEntry, where: str) -> None:
    """Raise :class:`ShardError` if the index is not of the very tar that the manifest pins."""
    pairs = [
        ("hash of the tar", index.tar_hash, entry.hash),
        ("size of the tar", index.tar_bytes, entry.bytes),
        ("number of samples", len(index), entry.samples),
    ]
    problems = [
        Problem(
            f"the index and the manifest differ in the {name}",
            where,
            f"{found}, the manifest says {wanted}",
            "Make both again with: headrace index URL --rebuild",
        )
        for name, found, wanted in pairs
        if found != wanted
    ]
    if problems:
        raise ShardError(problems)


def open_readers(urls: Iterable[str], problems: list[Problem]) -> dict[str, ShardReader]:
    """Open sources, each URL once, by URL; the problems of those that fail go to ``problems``."""
    readers = {}
    for url in dict.fromkeys(urls):
        try:
            readers[url] = ShardReader(url)
        except UserError as error:
            problems += error.problems
    return readers


def _reopen(url: str, verify: bool) -> ShardReader:
    return ShardReader(url, verify=verify)
