"""Reads an existing tar from end to end and makes its index."""

from __future__ import annotations

import re
import tarfile
from typing import IO

from headrace.errors import Problem, ShardError
from headrace.shards.index import BLOCK_BYTES, TAR_BLOCK, BlockHasher, IndexBuilder, ShardIndex

_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"\x28\xb5": "zstd"}
# The rule of webdataset.tariterators.base_plus_ext; importing it would import torch.
_NAME = re.compile(r"((?:.*/|)[^.]+)[.]([^/]*)")
_FETCH_AGAIN = "Copy the shard again from where it came, or build it again"


def scan_tar(file: IO[bytes], name: str, hasher: BlockHasher | None = None) -> ShardIndex:
    """Index a plain tar (ustar, GNU or PAX names) whose members are grouped by sample.

    Sample keys and fields are those of ``webdataset``: the member's name up to the first dot of
    its last part, and the rest in lower case.  Folders are passed over, and so are members whose
    first name part looks like ``__this__``, as ``webdataset`` does.

    Raises :class:`ShardError` with shard and offset if the tar is compressed, truncated or
    damaged, if a member is a link, a device, sparse or without an extension, if a field comes
    twice in a sample, if the members of samples are interleaved or a key is used twice, or if
    there is no sample.
    """
    hashed = hasher is not None
    hasher = hasher or BlockHasher()
    file.seek(0)
    while not hashed and (chunk := file.read(BLOCK_BYTES)):
        if hasher.bytes == 0 and chunk[:2] in _COMPRESSED:
            raise _error(
                f"the tar is compressed with {_COMPRESSED[chunk[:2]]}",
                name,
                0,
                remedy="Unpack it: shards are plain tars, so that samples can be read by offset",
            )
        hasher.write(chunk)
    file.seek(0)
    builder = IndexBuilder()
    end = _collect_members(file, name, builder)
    _check_end(file, name, end, hasher.bytes)
    if not builder.keys:
        raise _error("the shard is empty: it has no samples", name, 0, remedy="Delete the shard")
    return builder.finish(end, hasher)


def _collect_members(file: IO[bytes], name: str, builder: IndexBuilder) -> int:
    """Fill the builder; returns the byte behind the last member."""
    seen: dict[str, int] = {}
    fields: set[str] = set()
    end = 0
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            while (member := archive.next()) is not None:
                # tarfile keeps every member it has seen; a shard may have millions.
                archive.members = []  # type: ignore[attr-defined]
                end = archive.offset
                if member.isdir() or _is_metadata(member.name):
                    continue
                key, field = _split(member, name)
                if not builder.keys or key != builder.keys[-1]:
                    if key in seen:
                        raise _error(
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
                    raise _error(
                        f"the sample has two members for field {field}",
                        name,
                        member.offset,
                        key,
                        "Write the tar again with one key for each sample",
                    )
                fields.add(field)
                builder.add_member(field, member.offset_data, member.size)
    except tarfile.TarError as error:
        raise _error(
            f"the tar is truncated or damaged: {error}", name, end, None, _FETCH_AGAIN
        ) from error
    return end


def _is_metadata(member_name: str) -> bool:
    first = member_name.partition("/")[0]
    return first.startswith("__") and first.endswith("__") and len(first) >= 4


def _split(member: tarfile.TarInfo, name: str) -> tuple[str, str]:
    """Key and field of a member."""
    if not member.isreg() or member.issparse():
        raise _error(
            "a member is not a plain file (link, device or sparse file)",
            name,
            member.offset,
            member.name,
            "Write the tar again from plain files: tar --dereference --hard-dereference",
        )
    match = _NAME.fullmatch(member.name)
    if not match or not match[2]:
        raise _error(
            "a member has no file extension, so it belongs to no sample",
            name,
            member.offset,
            ascii(member.name),
            "Name members KEY.FIELD, or remove this one",
        )
    key, field = match[1], match[2]
    try:
        member.name.encode("utf-8")
    except UnicodeEncodeError as error:
        raise _error(
            "a member's name is not UTF-8", name, member.offset, ascii(member.name), "Rename it"
        ) from error
    return key, field.lower()


def _check_end(file: IO[bytes], name: str, end: int, size: int) -> None:
    """The archive must end with zero blocks: ``tarfile`` stops silently at a damaged header."""
    file.seek(end)
    position = end
    while chunk := file.read(BLOCK_BYTES):
        if chunk.count(0) != len(chunk):
            first = next(number for number, byte in enumerate(chunk) if byte)
            raise _error("a member header is damaged", name, position + first, None, _FETCH_AGAIN)
        position += len(chunk)
    if size - end < TAR_BLOCK:
        raise _error(
            "the tar is truncated: it has no end-of-archive mark", name, size, None, _FETCH_AGAIN
        )


def _error(
    what: str, name: str, offset: int, value: str | None = None, remedy: str | None = None
) -> ShardError:
    return ShardError(Problem(what, f"shard {name} offset {offset}", value, remedy))
