"""``NAME.idx``: where every sample and member of a shard lies, and a hash for each block.

Layout, little-endian: magic (8 bytes), format version and header length (2 x uint32), a JSON
header that lists the arrays, the arrays (each padded to 8 bytes), xxh3-64 of all that comes
before.  Offsets are stored in tar blocks of 512 bytes, so 4 bytes reach 2 TiB.  A sample with two
members takes 30 bytes beside its key.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from headrace.errors import Problem, ShardError
from headrace.shards import storage
from headrace.shards.retry import DEFAULT_RETRY, RetryPolicy

INDEX_SUFFIX = ".idx"
BLOCK_BYTES = 1 << 20
"""Bytes of the tar under one hash; the last block of a tar may be shorter."""
TAR_BLOCK = 512
_MAGIC = b"\x89HRIDX\r\n"
_VERSION = 1
_PREFIX = struct.Struct("<8sII")
_DTYPES = {"u1", "u2", "u4", "u8"}
_ARRAYS = (
    "sample_offsets",
    "member_starts",
    "member_offsets",
    "member_sizes",
    "member_fields",
    "key_ends",
    "key_bytes",
    "block_hashes",
)
Integers = NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class ShardIndex:
    """The index of one tar with n samples and m members (files in the tar)."""

    tar_bytes: int
    tar_hash: str
    """xxh3-128 of the tar, hexadecimal."""
    field_names: tuple[str, ...]
    sample_offsets: Integers
    """uint64[n + 1]: byte at which the first header of a sample starts; last: end of the last."""
    member_starts: Integers
    """uint64[n + 1]: number of the first member of a sample; last: m."""
    member_offsets: Integers
    """uint64[m]: byte at which the content starts."""
    member_sizes: Integers
    """uint64[m]: bytes of content."""
    member_fields: Integers
    """uint64[m]: position in ``field_names``."""
    key_ends: Integers
    """uint64[n]: end of each key in ``key_bytes``."""
    key_bytes: bytes
    """All keys, UTF-8, one after the other."""
    block_hashes: Integers
    """uint64[ceil(tar_bytes / BLOCK_BYTES)]: xxh3-64 of each block."""

    def __len__(self) -> int:
        return len(self.member_starts) - 1

    @cached_property
    def keys(self) -> list[str]:
        """The key of each sample, in order."""
        ends = self.key_ends.tolist()
        return [
            self.key_bytes[start:end].decode("utf-8")
            for start, end in zip([0, *ends], ends, strict=False)
        ]

    def to_bytes(self) -> bytes:
        """The content of an ``.idx`` file."""
        arrays: dict[str, NDArray[Any]] = {
            "sample_offsets": self.sample_offsets // TAR_BLOCK,
            "member_starts": self.member_starts,
            "member_offsets": self.member_offsets // TAR_BLOCK,
            "member_sizes": self.member_sizes,
            "member_fields": self.member_fields,
            "key_ends": self.key_ends,
        }
        packed = {name: array.astype(_smallest(name, array)) for name, array in arrays.items()}
        packed["key_bytes"] = np.frombuffer(self.key_bytes, dtype="<u1")
        packed["block_hashes"] = self.block_hashes.astype("<u8")
        header = {
            "tar_bytes": self.tar_bytes,
            "tar_hash": self.tar_hash,
            "block_bytes": BLOCK_BYTES,
            "field_names": self.field_names,
            "arrays": [[name, f"u{packed[name].itemsize}", len(packed[name])] for name in _ARRAYS],
        }
        head = json.dumps(header).encode()
        head += b" " * (-len(head) % 8)
        parts = [_PREFIX.pack(_MAGIC, _VERSION, len(head)), head]
        for name in _ARRAYS:
            data = packed[name].tobytes()
            parts += [data, b"\0" * (-len(data) % 8)]
        body = b"".join(parts)
        return body + struct.pack("<Q", xxhash.xxh3_64_intdigest(body))

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> ShardIndex:
        """Parse an ``.idx`` file; :class:`ShardError` naming ``where`` if it is damaged."""

        def damaged(what: str, value: str | None = None) -> ShardError:
            remedy = "Delete the index and make it again: headrace index URL"
            return ShardError(Problem(f"the index is damaged: {what}", where, value, remedy))

        if len(data) < _PREFIX.size + 8 or data[:8] != _MAGIC:
            raise damaged("it does not start as an index does", repr(data[:8]))
        _, version, head_bytes = _PREFIX.unpack_from(data)
        if version != _VERSION:
            raise damaged(f"its version is not {_VERSION}", str(version))
        if xxhash.xxh3_64_intdigest(memoryview(data)[:-8]) != struct.unpack("<Q", data[-8:])[0]:
            raise damaged("its checksum does not fit")
        try:
            header = json.loads(data[_PREFIX.size : _PREFIX.size + head_bytes])
            arrays = _unpack(data, header["arrays"], _PREFIX.size + head_bytes)
            index = cls(
                tar_bytes=int(header["tar_bytes"]),
                tar_hash=str(header["tar_hash"]),
                field_names=tuple(str(name) for name in header["field_names"]),
                sample_offsets=arrays["sample_offsets"].astype(np.uint64) * TAR_BLOCK,
                member_starts=arrays["member_starts"].astype(np.uint64),
                member_offsets=arrays["member_offsets"].astype(np.uint64) * TAR_BLOCK,
                member_sizes=arrays["member_sizes"].astype(np.uint64),
                member_fields=arrays["member_fields"].astype(np.uint64),
                key_ends=arrays["key_ends"].astype(np.uint64),
                key_bytes=arrays["key_bytes"].tobytes(),
                block_hashes=arrays["block_hashes"].astype(np.uint64),
            )
        except (ValueError, TypeError, KeyError) as error:
            raise damaged("its header does not fit its content", str(error)) from error
        inconsistency = index._inconsistency()
        if inconsistency:
            raise damaged(inconsistency)
        return index

    def _inconsistency(self) -> str | None:
        samples, members = len(self.member_starts) - 1, len(self.member_offsets)
        blocks = math.ceil(self.tar_bytes / BLOCK_BYTES)
        lengths = (len(self.sample_offsets), len(self.key_ends), len(self.member_sizes))
        if samples < 0 or lengths != (samples + 1, samples, members):
            return "its arrays have different lengths"
        if len(self.member_fields) != members or len(self.block_hashes) != blocks:
            return "its arrays have different lengths"
        rising = all(
            bool(np.all(array[1:] >= array[:-1]))
            for array in (self.sample_offsets, self.member_starts, self.key_ends)
        )
        if not rising or int(self.member_starts[-1]) != members:
            return "its offsets do not rise"
        if samples and int(self.key_ends[-1]) != len(self.key_bytes):
            return "its keys have another length"
        if members and int((self.member_offsets + self.member_sizes).max()) > self.tar_bytes:
            return "it points behind the end of the tar"
        if members and int(self.member_fields.max()) >= len(self.field_names):
            return "it names an unknown field"
        return None


class IndexBuilder:
    """Collects the members of a tar in their order and makes the index of them."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self._fields: dict[str, int] = {}
        self._sample_offsets: list[int] = []
        self._member_starts: list[int] = []
        self._members: list[tuple[int, int, int]] = []

    def start_sample(self, key: str, offset: int) -> None:
        """The header of the first member of sample ``key`` starts at byte ``offset``."""
        self.keys.append(key)
        self._sample_offsets.append(offset)
        self._member_starts.append(len(self._members))

    def add_member(self, field: str, data_offset: int, size: int) -> None:
        """The sample has a member whose content starts at byte ``data_offset``."""
        number = self._fields.setdefault(field, len(self._fields))
        self._members.append((data_offset, size, number))

    def finish(self, end: int, hasher: BlockHasher) -> ShardIndex:
        """The index; ``end`` is the byte behind the last member, ``hasher`` has seen the tar."""
        members = np.array(self._members, dtype=np.uint64).reshape(-1, 3)
        encoded = [key.encode("utf-8") for key in self.keys]
        return ShardIndex(
            tar_bytes=hasher.bytes,
            tar_hash=hasher.digest(),
            field_names=tuple(self._fields),
            sample_offsets=np.array([*self._sample_offsets, end], dtype=np.uint64),
            member_starts=np.array([*self._member_starts, len(members)], dtype=np.uint64),
            member_offsets=members[:, 0],
            member_sizes=members[:, 1],
            member_fields=members[:, 2],
            key_ends=np.cumsum([len(key) for key in encoded], dtype=np.uint64),
            key_bytes=b"".join(encoded),
            block_hashes=np.array(hasher.blocks(), dtype=np.uint64),
        )


class BlockHasher:
    """Hashes a stream of bytes as a whole and block by block; a sink to write a tar through."""

    def __init__(self, write: Callable[[bytes], Any] | None = None) -> None:
        self.bytes = 0
        self._write = write
        self._whole = xxhash.xxh3_128()
        self._block = xxhash.xxh3_64()
        self._finished: list[int] = []

    def write(self, data: bytes) -> int:
        """Take the next bytes, and pass them on."""
        if self._write is not None:
            self._write(data)
        self._whole.update(data)
        view = memoryview(data)
        while len(view):
            part = view[: BLOCK_BYTES - self.bytes % BLOCK_BYTES]
            self._block.update(part)
            self.bytes += len(part)
            view = view[len(part) :]
            if self.bytes % BLOCK_BYTES == 0:
                self._finished.append(self._block.intdigest())
                self._block.reset()
        return len(data)

    def digest(self) -> str:
        """xxh3-128 of all bytes so far, hexadecimal."""
        return self._whole.hexdigest()

    def blocks(self) -> list[int]:
        """xxh3-64 of each block so far, the last one perhaps short."""
        last = [self._block.intdigest()] if self.bytes % BLOCK_BYTES else []
        return self._finished + last


def index_url(tar_url: str) -> str:
    """The URL of the index of a tar: ``.tar`` becomes ``.idx``."""
    return tar_url.removesuffix(".tar") + INDEX_SUFFIX


def read_index(tar_url: str, retry: RetryPolicy = DEFAULT_RETRY) -> ShardIndex:
    """Read the index that lies beside a tar; :class:`ShardError` if it is damaged or not there."""
    where = index_url(tar_url)
    return storage.read_parsed(where, lambda data: ShardIndex.from_bytes(data, where), retry)


def write_index(tar_url: str, index: ShardIndex) -> None:
    """Write the index beside its tar, atomically."""
    storage.write_atomically(index_url(tar_url), index.to_bytes())


def build_index(tar_url: str) -> ShardIndex:
    """Scan an existing tar, write its index beside it and return it.

    Raises :class:`ShardError` if the tar is truncated or damaged, has no samples, or its members
    are not grouped by sample (see :func:`headrace.shards.scan.scan_tar`).
    """
    from headrace.shards.scan import scan_tar

    with storage.open_local(tar_url) as file:
        index = scan_tar(file, storage.name_of(tar_url))
    write_index(tar_url, index)
    return index


def _smallest(name: str, array: NDArray[Any]) -> str:
    """The smallest unsigned type that holds the values; offsets never below 4 bytes."""
    largest = int(array.max()) if len(array) else 0
    if name == "member_fields":
        return "<u1" if largest < 1 << 8 else "<u2"
    return "<u4" if largest < 1 << 32 else "<u8"


def _unpack(data: bytes, table: list[Any], position: int) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    for name, dtype, length in table:
        if dtype not in _DTYPES:
            raise ValueError(f"unknown type {dtype!r}")
        arrays[name] = np.frombuffer(data, dtype=f"<{dtype}", count=length, offset=position)
        size = arrays[name].nbytes
        position += size + -size % 8
    return arrays
