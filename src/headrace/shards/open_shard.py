"""One shard while it is written: its tar, and the index beside it."""

from __future__ import annotations

import tarfile
from contextlib import ExitStack, suppress
from io import BytesIO
from typing import IO, cast

from headrace.errors import Problem, ShardError, UserError
from headrace.shards import storage
from headrace.shards.filesystems import translated
from headrace.shards.index import TAR_BLOCK, BlockHasher, IndexBuilder, write_index
from headrace.shards.manifest import ShardEntry
from headrace.shards.sample import Sample


def shard_name(name: str, number: int) -> str:
    """File name of a shard: ``NAME-000000.tar``."""
    return f"{name}-{number:06d}.tar"


class OpenShard:
    """The shard in flight: a tar that grows in a temporary file, and its index in memory.

    The same samples give the same bytes.  Samples must have been checked: plain keys, each once,
    and the same fields.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._stack = ExitStack()
        file = self._stack.enter_context(storage.open_atomically(url))
        self._hasher = BlockHasher(file.write)
        self._builder = IndexBuilder()
        self._offset = 0
        # a tar that grows at its end needs no more of a file than this
        self._tar = self._stack.enter_context(
            tarfile.open(fileobj=cast("IO[bytes]", self._hasher), mode="w|")  # noqa: SIM115
        )

    def add(self, sample: Sample) -> None:
        """Write one sample."""
        self._builder.start_sample(sample.key, self._offset)
        with translated(self._url, "write it"):
            for field, data in sorted(sample.fields.items()):
                self._builder.add_member(field, self._offset + TAR_BLOCK, len(data))
                self._offset += TAR_BLOCK + len(data) + -len(data) % TAR_BLOCK
                self._tar.addfile(_member(sample.key, field, data), BytesIO(data))
        assert self._tar.offset == self._offset, "a member header is not one block"

    def commit(self) -> ShardEntry:
        """Put the tar and then its index in their places; what a manifest says of it."""
        with translated(self._url, "write it"):
            self._tar.close()
        index = self._builder.finish(self._offset, self._hasher)
        self._stack.close()
        write_index(self._url, index)
        return ShardEntry(storage.name_of(self._url), len(index), index.tar_bytes, index.tar_hash)

    def discard(self) -> None:
        """Leave nothing behind; what is not written yet need not be, on a full disk say."""
        stop = ShardError(Problem("the shard is dropped", self._url))
        with suppress(OSError, UserError):
            self._stack.__exit__(type(stop), stop, None)


def _member(key: str, field: str, data: bytes) -> tarfile.TarInfo:
    """What webdataset's ``TarWriter`` puts ahead of a field, with a fixed owner, mode and time."""
    member = tarfile.TarInfo(f"{key}.{field}")
    member.size = len(data)
    member.uname = member.gname = "headrace"
    member.mode = 0o444
    return member
