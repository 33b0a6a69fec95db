"""Reads a source: samples by shard and number, with every block verified on its first read."""

from __future__ import annotations

import logging
import os
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

from headrace.errors import Problem, ShardError, StorageError, UserError
from headrace.shards import storage
from headrace.shards.index import index_url, read_index
from headrace.shards.manifest import MANIFEST_NAME, Manifest, ShardEntry, read_manifest
from headrace.shards.retry import DEFAULT_RETRY, RetryPolicy
from headrace.shards.sample import Sample
from headrace.shards.shard import Shard, check_index
from headrace.shards.tars import FETCH_AGAIN, CachedCopy, size_problem
from headrace.shards.tombstones import RemovedSamples, Tombstones, broken_off, read_tombstones

if TYPE_CHECKING:
    from headrace.shards.cache import Lease, ShardCache

_log = logging.getLogger(__name__)
_OPEN_SHARDS = 64
"""Open shards of a reader at one time: each local one holds a file descriptor."""
_LEASED_SHARDS = 32
"""The same for copies in a cache; also the shards that are fetched ahead."""
_LOOK_SECONDS = 30.0
"""How often a remote manifest is read again."""
_OVERWRITING_SECONDS = 10.0
"""How long a shard is waited for whose removed samples are being overwritten."""
_LOOKED_UP = 1000
"""Shards on a web server that are looked up when the source is opened."""


class ShardReader:
    """A source that is open for reading.

    Opening reads the manifest and lists the folder, and nothing else.  Local tars are mapped into
    memory, so they must not be changed in place while they are read (Headrace only ever replaces
    files by renaming).  Remote tars are copied into the cache and mapped there, or, without a
    cache, read in blocks.

    A reader may be pickled, and used after a fork; it is not to be shared by threads.

    Args:
        url: Folder of the source.
        verify: Check the hash of each block of a tar when it is read for the first time.
        cache: Where copies of remote shards are kept; of no effect on local ones.
        retry: How reads from a store are tried again.
        require_all: Refuse a source that lacks a shard; without it, that shows when the shard is
            read.

    Raises :class:`ShardError` with all problems: no manifest, an empty one, shards or indexes
    that are missing or whose size is not what the manifest says.  With a cache a remote source
    needs no indexes.  On a web server only the first 1,000 shards are looked up, all at once;
    others show when they are read.
    """

    def __init__(
        self,
        url: str,
        *,
        verify: bool = True,
        cache: ShardCache | None = None,
        retry: RetryPolicy = DEFAULT_RETRY,
        require_all: bool = True,
    ) -> None:
        self.url = url
        self.manifest: Manifest = read_manifest(url, retry)
        self.tombstones: Tombstones = read_tombstones(url, self.manifest, retry)
        """What was removed from the source: it is passed over, or substituted."""
        self._verify = verify
        self._cache = None if storage.is_local(url) else cache
        self._retry = retry
        self._require_all = require_all
        self._open: OrderedDict[int, Shard] = OrderedDict()
        self._coming: dict[int, Future[Lease]] = {}
        self._pid = os.getpid()
        self._looked = self._look()
        if not require_all:
            return
        looked_up = len(self.manifest.shards) if storage.can_list(url) else _LOOKED_UP
        problems = missing_files(
            url,
            self.manifest.shards[:looked_up],
            with_indexes=self._cache is None,
            retry=retry,
        )
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
        settings = (self._verify, self._cache, self._retry, self._require_all)
        return _reopen, (self.url, *settings)

    def __len__(self) -> int:
        return self.manifest.samples

    def __iter__(self) -> Iterator[Sample]:
        for number in range(len(self.manifest.shards)):
            yield from self.shard(number)

    @property
    def living(self) -> int:
        """Samples that are not removed: what an iteration hands out."""
        return len(self) - self.tombstones.samples

    def removed(self, number: int) -> RemovedSamples:
        """The removed samples of shard ``number``."""
        return self.tombstones.of(self.manifest.shards[number].name)

    def refresh(self, *, at_once: bool = False) -> bool:
        """Look for samples that were removed since; whether there are any, or a shard was changed.

        A local manifest is read again when its file has changed; another one when it has not been
        looked at for half a minute, or with ``at_once``, where it can be reached.

        Raises :class:`ShardError` if the source is another one now, or what it says of removed
        samples cannot be read.
        """
        now = self._look()
        if now == self._looked and not at_once:
            return False
        try:
            manifest = read_manifest(self.url, self._retry)
            tombstones = read_tombstones(self.url, manifest, self._retry)
        except StorageError as error:
            _log.warning("cannot look for removed documents in %s: %s", self.url, error)
            self._looked = now
            return False
        self._looked = now
        if manifest == self.manifest:
            return False
        if manifest.identity != self.manifest.identity:
            raise ShardError(
                Problem(
                    "the source was replaced while it was read",
                    self.url,
                    f"{manifest.fingerprint}, {self.manifest.fingerprint} before",
                    "Start again",
                )
            )
        before, self.manifest = self.manifest, manifest
        old, self.tombstones = self.tombstones, tombstones
        for number, (was, entry) in enumerate(zip(before.shards, manifest.shards, strict=True)):
            if was != entry or len(old.of(was.name)) != len(tombstones.of(entry.name)):
                self.close_shard(number)
        return True

    def _look(self) -> tuple[int, ...]:
        """Changes when the manifest may have changed."""
        if not storage.is_local(self.url):
            return (int(time.monotonic() / _LOOK_SECONDS),)
        try:
            found = storage.local_path(storage.join(self.url, MANIFEST_NAME)).stat()
        except OSError:
            return ()
        return (found.st_mtime_ns, found.st_ino, found.st_size)

    def shard(self, number: int) -> Shard:
        """Shard ``number`` of the manifest, opened and checked against it; kept open a while.

        Raises :class:`ShardError` if its index is damaged or belongs to another tar, or if it
        cannot be fetched, and ``IndexError`` if there is no such shard.
        """
        if not 0 <= number < len(self.manifest.shards):
            raise IndexError(f"shard {number} of {len(self.manifest.shards)}")
        shard = self._open.get(number)
        if shard is None:
            shard = self._open_steadily(number)
            self._open[number] = shard
            # Shards of the cache that are open cannot be evicted.
            if len(self._open) > (_OPEN_SHARDS if self._cache is None else _LEASED_SHARDS):
                self._open.popitem(last=False)
        else:
            self._open.move_to_end(number)
        return shard

    def keys(self, number: int) -> list[str]:
        """The keys of the samples of shard ``number`` in order.

        A remote shard is not fetched for them where it has an index.  Raises as :meth:`shard`.
        """
        entry = self.manifest.shards[number]
        tar_url = storage.join(self.url, entry.name)
        if self._cache is not None and not storage.exists(index_url(tar_url), self._retry):
            return self.shard(number).keys
        with self._unless_broken_off():
            index = read_index(tar_url, self._retry)
            check_index(index, entry, index_url(tar_url))
        return index.keys

    @contextmanager
    def _unless_broken_off(self) -> Iterator[None]:
        """Say so first where shards are as they are since an overwriting was broken off."""
        try:
            yield
        except ShardError as error:
            if interrupted := broken_off(self.url):
                raise ShardError([*interrupted, *error.problems]) from error
            raise

    def prefetch(self, numbers: Iterable[int]) -> None:
        """Start fetching these shards in the background; an error shows when the shard is used.

        Only a hint: what waits longest without being used makes way for it, and where too many
        are still under way it is passed over.  Nothing happens for a local source and without a
        cache.
        """
        if self._cache is None:
            return
        self._drop_after_fork()
        for number in numbers:
            if number in self._open or number in self._coming:
                continue
            if len(self._coming) >= _LEASED_SHARDS:
                idle = next((n for n, coming in self._coming.items() if coming.done()), None)
                if idle is None:
                    break
                _let_go(self._coming.pop(idle))
            entry = self.manifest.shards[number]
            self._coming[number] = self._cache.acquire_later(self.url, entry, self._retry)

    def _open_steadily(self, number: int) -> Shard:
        """Open a shard, also while removed samples are overwritten: its files change in turn."""
        end = time.monotonic() + _OVERWRITING_SECONDS
        while True:
            try:
                with self._unless_broken_off():
                    return self._open_shard(number)
            except StorageError:
                raise
            except ShardError:
                known = self.tombstones.epoch
                changed = self.refresh(at_once=True)
                if self.tombstones.epoch != known:
                    raise  # whoever reads has to know first
                if not changed and (time.monotonic() > end or not broken_off(self.url)):
                    raise
            time.sleep(0.05)

    def _open_shard(self, number: int) -> Shard:
        entry = self.manifest.shards[number]
        if self._cache is None:
            return Shard(
                self.url,
                entry,
                verify=self._verify,
                retry=self._retry,
                removed=self.removed(number),
            )
        cache = self._cache

        def fetch_again(damaged: Lease) -> Lease:
            return cache.acquire(self.url, entry, self._retry, damaged)

        lease = self._lease(number)
        try:
            copy = CachedCopy(lease, fetch_again)
            return self._cached(number, copy)
        except StorageError:
            raise  # nothing is wrong with the copy
        except ShardError as error:
            _log.warning("%s; the cached copy is dropped", error.problems[0])
        copy = CachedCopy(fetch_again(lease), fetch_again)
        lease.release()
        return self._cached(number, copy)

    def _cached(self, number: int, copy: CachedCopy) -> Shard:
        entry = self.manifest.shards[number]
        return Shard(
            self.url, entry, verify=self._verify, cached=copy, removed=self.removed(number)
        )

    def _lease(self, number: int) -> Lease:
        assert self._cache is not None
        self._drop_after_fork()
        coming = self._coming.pop(number, None)
        # One that waits behind others is not waited for, and a store that failed when it was asked
        # ahead may be well again.
        if (
            coming is not None
            and not coming.cancel()
            and not isinstance(coming.exception(), StorageError)
        ):
            return coming.result()
        return self._cache.acquire(self.url, self.manifest.shards[number], self._retry)

    def _drop_after_fork(self) -> None:
        if self._pid != os.getpid():
            # What fetched them stayed with the parent.
            self._pid = os.getpid()
            self._coming.clear()

    def close_shard(self, number: int) -> None:
        """Close shard ``number`` if it is open: its samples will not be needed for a while."""
        shard = self._open.pop(number, None)
        if shard is not None:
            shard.close()
        coming = self._coming.pop(number, None)
        if coming is not None:
            _let_go(coming)

    def close(self) -> None:
        """Close all open shards, and let go of those that are being fetched."""
        for shard in self._open.values():
            shard.close()
        self._open.clear()
        for coming in self._coming.values():
            _let_go(coming)
        self._coming.clear()


def _let_go(coming: Future[Lease]) -> None:
    """Nobody will use what is being fetched."""
    if not coming.cancel():
        coming.add_done_callback(_release)


def _release(done: Future[Lease]) -> None:
    if done.exception() is None:
        done.result().release()


def missing_files(
    url: str,
    shards: Sequence[ShardEntry],
    *,
    with_indexes: bool = True,
    retry: RetryPolicy = DEFAULT_RETRY,
) -> list[Problem]:
    """Shards and indexes of a manifest that are not there, and tars of another size."""
    wanted = [entry.name for entry in shards]
    if with_indexes:
        wanted += [index_url(name) for name in wanted]
    sizes = storage.sizes(url, wanted, retry)
    problems: list[Problem] = []
    for entry in shards:
        where = f"shard {entry.name}"
        size = sizes.get(entry.name)
        if size not in (None, entry.bytes) and not storage.can_list(url):
            # A server may say something wrong once.
            size = storage.size_of(storage.join(url, entry.name), retry)
        if size is None:
            problems.append(
                Problem("the shard is missing", where, storage.join(url, entry.name), FETCH_AGAIN)
            )
        elif size != entry.bytes:
            problems.append(size_problem(size, entry))
        if with_indexes and index_url(entry.name) not in sizes:
            problems.append(
                Problem(
                    "its index is missing",
                    where,
                    storage.join(url, index_url(entry.name)),
                    f"Make it with: headrace index {url}",
                )
            )
    return problems


def open_readers(
    urls: Iterable[str], problems: list[Problem], cache: ShardCache | None = None
) -> dict[str, ShardReader]:
    """Open sources, each URL once, by URL; the problems of those that fail go to ``problems``."""
    readers = {}
    for url in dict.fromkeys(urls):
        try:
            readers[url] = ShardReader(url, cache=cache)
        except UserError as error:
            problems += error.problems
    return readers


def _reopen(
    url: str, verify: bool, cache: ShardCache | None, retry: RetryPolicy, require_all: bool
) -> ShardReader:
    return ShardReader(url, verify=verify, cache=cache, retry=retry, require_all=require_all)
