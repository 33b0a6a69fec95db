"""Reads an existing tar from end to end and makes its index."""

from __future__ import annotations

import io
import mmap
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from headrace.shards.headers import TarMember, read_members, tar_error
from headrace.shards.index import BLOCK_BYTES, TAR_BLOCK, BlockHasher, IndexBuilder, ShardIndex

_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"\x28\xb5": "zstd"}
# The rule of webdataset.tariterators.base_plus_ext; importing it would import torch.
_NAME = re.compile(r"((?:.*/|)[^.]+)[.]([^/]*)")


def scan_tar(file: IO[bytes], name: str, hasher: BlockHasher | None = None) -> ShardIndex:
    """Index a plain tar (ustar, GNU or PAX names) whose members are grouped by sample.

    Sample keys and fields are those of ``webdataset``: the member's name up to the first dot of
    its last part, and the rest in lower case.  Folders are passed over, and so are members whose
    first name part looks like ``__this__``, as ``webdataset`` does.

    ``hasher`` has seen the whole file already, where it has; otherwise it is hashed here.

    Raises :class:`ShardError` with shard and offset if the tar is compressed, truncated or
    damaged, if a member is a link, a device, sparse or without an extension, if its name leads
    out of the folder, if a field comes twice in a sample, if the members of samples are
    interleaved or a key is used twice, or if there is no sample.
    """
    with _mapped(file) as data:
        if not len(data):
            raise tar_error("the tar is truncated or damaged: it has no bytes", name, 0)
        if bytes(data[:2]) in _COMPRESSED:
            raise tar_error(
                f"the tar is compressed with {_COMPRESSED[bytes(data[:2])]}",
                name,
                0,
                remedy="Unpack it: shards are plain tars, so that samples can be read by offset",
            )
        if hasher is None:
            hasher = BlockHasher()
            for start in range(0, len(data), BLOCK_BYTES):
                hasher.write(bytes(data[start : start + BLOCK_BYTES]))
        builder = IndexBuilder()
        end = _collect_members(data, name, builder)
        _check_end(data, name, end)
    if not builder.keys:
        raise tar_error("the shard is empty: it has no samples", name, 0, remedy="Delete the shard")
    return builder.finish(end, hasher)


@contextmanager
def _mapped(file: IO[bytes]) -> Iterator[memoryview]:
    """The bytes of a file, of which only those are read that are looked at."""
    if isinstance(file, io.BytesIO):
        with file.getbuffer() as view:
            yield view
    elif os.fstat(file.fileno()).st_size == 0:
        yield memoryview(b"")
    else:
        with (
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
            memoryview(mapped) as view,
        ):
            yield view


def _collect_members(data: memoryview, name: str, builder: IndexBuilder) -> int:
    """Fill the builder; returns the byte behind the last member."""
    seen: dict[str, int] = {}
    fields: set[str] = set()
    end = 0
    for member in read_members(data, name):
        end = member.end
        if member.is_folder or _is_metadata(member.name):
            continue
        key, field = _split(member, name)
        if not builder.keys or key != builder.keys[-1]:
            if key in seen:
                raise tar_error(
                    "the members of a sample do not lie together, or its key is used "
                    f"twice (first at offset {seen[key]})",
                    name,
                    member.offset,
                    key,
                    "Write the tar again sorted by name, with one key for each sample",
                )
            seen[key] = member.offset
            builder.start_sample(key, member.offset)
            fields = set()
        if field in fields:
            raise tar_error(
                f"the sample has two members for field {field}",
                name,
                member.offset,
                key,
                "Write the tar again with one key for each sample",
            )
        fields.add(field)
        builder.add_member(field, member.data_offset, member.size)
    return end


def _is_metadata(member_name: str) -> bool:
    first = member_name.partition("/")[0]
    return first.startswith("__") and first.endswith("__") and len(first) >= 4


def _split(member: TarMember, name: str) -> tuple[str, str]:
    """Key and field of a member."""
    match = _NAME.fullmatch(member.name)
    if not match or not match[2]:
        raise tar_error(
            "a member has no file extension, so it belongs to no sample",
            name,
            member.offset,
            ascii(member.name),
            "Name members KEY.FIELD, or remove this one",
        )
    return match[1], match[2].lower()


def _check_end(data: memoryview, name: str, end: int) -> None:
    """The archive must end with an end mark, and nothing but zeros may stand behind it."""
    if len(data) - end < TAR_BLOCK:
        raise tar_error("the tar is truncated: it has no end-of-archive mark", name, len(data))
    for start in range(end, len(data), BLOCK_BYTES):
        chunk = bytes(data[start : start + BLOCK_BYTES])
        if any(chunk):
            first = next(number for number, byte in enumerate(chunk) if byte)
            raise tar_error("something stands behind the end of the tar", name, start + first)
