"""Fetches one shard of a remote source: hashed while it comes in, judged by the manifest."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import IO

from headrace.errors import Problem, ShardError
from headrace.shards import storage
from headrace.shards.filesystems import NO_SUCH_FILE
from headrace.shards.index import BLOCK_BYTES, BlockHasher, ShardIndex, read_index
from headrace.shards.manifest import ShardEntry
from headrace.shards.remote import read_from, version_of
from headrace.shards.retry import RetryPolicy
from headrace.shards.scan import scan_tar
from headrace.shards.shard import check_index
from headrace.shards.tars import FETCH_AGAIN, check_block, size_problem

_ATTEMPTS = 3
"""Downloads of a whole shard, where no index tells which piece of it is wrong, or where the
server knows no pieces."""
_log = logging.getLogger(__name__)


def download_shard(
    url: str,
    entry: ShardEntry,
    file: IO[bytes],
    write: Callable[[bytes], object],
    retry: RetryPolicy,
) -> ShardIndex:
    """Fetch a shard of the source at ``url`` into an empty file, and return its index.

    ``write`` appends to ``file``.  With an index beside the remote tar each block is verified as
    it arrives; without one the index is made of what has arrived.

    Raises :class:`ShardError` if the shard cannot be fetched or is not the one that the manifest
    names.
    """
    tar_url = storage.join(url, entry.name)
    index = _index_beside(tar_url, entry, retry)
    for attempt in range(1, _ATTEMPTS + 1):
        file.seek(0)
        hasher = BlockHasher(write)
        _copy(tar_url, entry, index, hasher, retry)
        if hasher.digest() == entry.hash:
            break
        problem = _another_shard(tar_url, entry, hasher.digest(), retry)
        if attempt == _ATTEMPTS:
            raise ShardError(problem)
        _log.warning("%s; it is fetched again", problem)
    if index is None:
        index = scan_tar(file, entry.name, hasher)
        check_index(index, entry, tar_url)
    return index


def _copy(
    tar_url: str,
    entry: ShardEntry,
    index: ShardIndex | None,
    hasher: BlockHasher,
    retry: RetryPolicy,
) -> None:
    while (position := hasher.bytes) < entry.bytes:
        length = min(storage.PIECE_BYTES, entry.bytes - position)

        def check(data: bytes, start: int = position, length: int = length) -> None:
            if len(data) < length:
                raise ShardError(size_problem(start + len(data), entry))
            if index is None:
                return
            for offset in range(0, len(data), BLOCK_BYTES):
                number = (start + offset) // BLOCK_BYTES
                block = data[offset : offset + BLOCK_BYTES]
                check_block(block, number, int(index.block_hashes[number]), entry)

        data = read_from(tar_url, position, length, retry, check)
        if len(data) > length:
            # A server that knows no ranges sends all of the file each time: take it at once.
            if len(data) != entry.bytes:
                raise ShardError(size_problem(len(data), entry))
            data = data[position:]
        hasher.write(data)


def _index_beside(tar_url: str, entry: ShardEntry, retry: RetryPolicy) -> ShardIndex | None:
    """The index that lies beside the remote tar, if it is there and fits the manifest."""
    try:
        index = read_index(tar_url, retry)
        check_index(index, entry, tar_url)
    except ShardError as error:
        problem = error.problems[0]
        if problem.what == NO_SUCH_FILE:
            return None
        if "index" not in problem.what:
            raise
        _log.warning("%s; the index is made from the tar", problem)
        return None
    return index


def _another_shard(tar_url: str, entry: ShardEntry, found: str, retry: RetryPolicy) -> Problem:
    version = None
    with suppress(ShardError):
        version = version_of(tar_url, retry)
    return Problem(
        "the tar is not the one that the manifest names",
        f"shard {entry.name}",
        f"{tar_url}, version {version or 'unknown'}: xxh3 {found}, the manifest says {entry.hash}",
        FETCH_AGAIN,
    )
