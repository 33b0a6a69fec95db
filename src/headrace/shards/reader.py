"""Reads a source: samples by shard and number, with every block verified on its first read."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any

from headrace.errors import Problem, ShardError, UserError
from headrace.shards import storage
from headrace.shards.index import index_url
from headrace.shards.manifest import Manifest, read_manifest
from headrace.shards.sample import Sample
from headrace.shards.shard import Shard
from headrace.shards.tars import FETCH_AGAIN, size_problem

_OPEN_SHARDS = 64
"""Open shards of a reader at one time: each local one holds a file descriptor."""


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

    def close_shard(self, number: int) -> None:
        """Close shard ``number`` if it is open: its samples will not be needed for a while."""
        shard = self._open.pop(number, None)
        if shard is not None:
            shard.close()

    def close(self) -> None:
        """Close all open shards."""
        for shard in self._open.values():
            shard.close()
        self._open.clear()


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
            problems.append(size_problem(size, entry))
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
