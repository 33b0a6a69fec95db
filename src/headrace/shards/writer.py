"""Writes a source: tars with their indexes, one shard committed at a time, the manifest last."""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import xxhash
from filelock import FileLock, Timeout

from headrace.errors import Problem, ShardError
from headrace.shards import storage
from headrace.shards.index import INDEX_SUFFIX, index_url
from headrace.shards.ledger import (
    LEDGER_NAME,
    BuildIdentity,
    FinishedShard,
    read_ledger,
    write_ledger,
)
from headrace.shards.manifest import (
    FORMAT_VERSION,
    MANIFEST_NAME,
    TAKEDOWN,
    Manifest,
    write_manifest,
)
from headrace.shards.open_shard import OpenShard, shard_name
from headrace.shards.sample import Sample, is_field, is_key

_LOCK_NAME = ".build.lock"
_OVERWRITE = "Choose another folder, or give --overwrite to replace it"


class ShardWriter:
    """Writes samples into ``NAME-000000.tar``, ``NAME-000001.tar``, ... and a manifest.

    The same samples give the same bytes.  Each shard is committed on its own (temporary file,
    fsync, rename; then its index; then a line in the ledger), so a process that is killed and
    started again with the same samples redoes at most the shard in flight: samples of finished
    shards are compared with what was written, by digest, and passed over.

    Use it as a context manager: leaving it normally closes it, leaving it by an exception keeps
    the finished shards for the next start and writes no manifest.

    Args:
        url: Folder of the source, made where it is missing.
        name: First part of the file names.
        samples_per_shard: Samples in every shard but the last.
        fields: The fields each sample must have.
        fingerprint: Hash of the input and the options; a build with another one is never mixed
            into an interrupted one.
        parent: Fingerprint of the manifest this source is made from.
        overwrite: Delete a source or an interrupted build that is in the folder.

    Raises :class:`ShardError` if the folder holds another source or build, or is being written.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str = "shard",
        samples_per_shard: int = 10_000,
        fields: Sequence[str] = ("txt", "json"),
        fingerprint: str = "",
        parent: str | None = None,
        overwrite: bool = False,
    ) -> None:
        _check_options(name, samples_per_shard, fields)
        self.url = url
        self.metadata: dict[str, Any] = {}
        """Goes into the manifest when the writer is closed."""
        self._parent = parent
        self._fields = frozenset(fields)
        self._identity = BuildIdentity(
            fingerprint, name, samples_per_shard, tuple(sorted(self._fields))
        )
        self._positions: dict[str, int] = {}
        self._finished: list[FinishedShard] = []
        self._number = 0
        self._samples = 0
        self._content = xxhash.xxh3_128()
        self._open_shard: OpenShard | None = None
        self._manifest: Manifest | None = None
        self._resumed = 0
        self._lock = self._acquire_lock()
        try:
            self._finished = self._prepare_folder(overwrite)
        except BaseException:
            self._release_lock()
            raise

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def write(self, sample: Sample) -> None:
        """Add one sample.

        Raises :class:`ShardError` if the key is not a plain WebDataset key or was used before, if
        the fields are not those of the source, or if, after an interruption, the samples are not
        those that were written before it.
        """
        self._check(sample)
        self._positions[sample.key] = len(self._positions)
        if not self._replaying:
            if self._open_shard is None:
                self._open_shard = OpenShard(storage.join(self.url, self._shard_name()))
            self._open_shard.add(sample)
        self._samples += 1
        for part in (
            sample.key.encode(),
            *(sample.fields[field] for field in self._identity.fields),
        ):
            self._content.update(len(part).to_bytes(8, "little"))
            self._content.update(part)
        if self._samples == self._identity.samples_per_shard:
            self._finish_shard()

    def close(self) -> Manifest:
        """Finish the last shard, write the manifest, delete the ledger.

        Raises :class:`ShardError` if there was no sample, or fewer than before an interruption.
        """
        if self._manifest is not None:
            return self._manifest
        try:
            if self._samples:
                self._finish_shard()
            if not self._finished:
                raise ShardError(Problem("no samples to write", self.url, remedy="Check the input"))
            if self._number < len(self._finished):
                raise self._changed()
            manifest = Manifest(
                FORMAT_VERSION,
                tuple(shard.entry for shard in self._finished),
                self._parent,
                # What was removed from another source is not removed from this one.
                {key: value for key, value in self.metadata.items() if key != TAKEDOWN},
            )
            write_manifest(self.url, manifest)
            storage.delete(storage.join(self.url, LEDGER_NAME))
        finally:
            self.abort()
        self._manifest = manifest
        return manifest

    def abort(self) -> None:
        """Drop the shard in flight and let go of the folder; finished shards stay."""
        if self._open_shard is not None:
            self._open_shard.discard()
            self._open_shard = None
        self._release_lock()

    @property
    def resumed_samples(self) -> int:
        """Samples in shards that an earlier, interrupted build had finished."""
        return self._resumed

    @property
    def _replaying(self) -> bool:
        return self._number < len(self._finished)

    def _shard_name(self, number: int | None = None) -> str:
        position = self._number if number is None else number
        return shard_name(self._identity.name, position)

    def _check(self, sample: Sample) -> None:
        where = sample.origin or f"sample {len(self._positions)}"
        if not is_key(sample.key):
            raise ShardError(
                Problem(
                    "not a key: letters, digits, _ and -, at most 80",
                    where,
                    repr(sample.key)[:120],
                    "Make keys with headrace.shards.sample.key_of",
                )
            )
        first = self._positions.get(sample.key)
        if first is not None:
            shard, offset = divmod(first, self._identity.samples_per_shard)
            raise ShardError(
                Problem(
                    "the key is used twice (first by sample "
                    f"{offset} of shard {self._shard_name(shard)})",
                    where,
                    sample.key,
                    "Give each sample an identifier of its own",
                )
            )
        if sample.fields.keys() != self._fields:
            raise ShardError(
                Problem(
                    f"the fields of sample {sample.key} are not {', '.join(sorted(self._fields))}",
                    where,
                    ", ".join(sample.fields),
                    "Give every sample the same fields",
                )
            )

    def _finish_shard(self) -> None:
        content = self._content.hexdigest()
        if self._replaying:
            done = self._finished[self._number]
            if (done.entry.samples, done.content) != (self._samples, content):
                raise self._changed()
        else:
            assert self._open_shard is not None
            entry = self._open_shard.commit()
            self._open_shard = None
            self._finished.append(FinishedShard(entry, content))
            write_ledger(self.url, self._identity, self._finished)
        self._number += 1
        self._samples = 0
        self._content.reset()

    def _changed(self) -> ShardError:
        return ShardError(
            Problem(
                "the samples are not those of the interrupted build",
                f"shard {self._shard_name()} offset 0",
                storage.join(self.url, LEDGER_NAME),
                "Run it with the old input, or give --overwrite to start again",
            )
        )

    def _prepare_folder(self, overwrite: bool) -> list[FinishedShard]:
        storage.delete_leftovers(self.url)
        if overwrite:
            delete_source(self.url)
        names = storage.list_files(self.url)
        if MANIFEST_NAME in names:
            raise ShardError(
                Problem("a finished source is in this folder", self.url, remedy=_OVERWRITE)
            )
        finished = read_ledger(self.url, self._identity)
        pattern = re.compile(re.escape(self._identity.name) + r"-\d{6}\.(tar|idx)")
        present = [name for name in names if pattern.fullmatch(name)]
        if finished is None:
            if present:
                raise ShardError(
                    Problem(
                        "shards that no build of Headrace left are in this folder",
                        self.url,
                        ", ".join(present[:3]),
                        "Choose another folder, or move them away",
                    )
                )
            finished = []
        intact: list[FinishedShard] = []
        for shard in finished:
            if names.get(shard.entry.name) != shard.entry.bytes:
                break
            if index_url(shard.entry.name) not in names:
                break
            intact.append(shard)
        # What lies behind the last intact shard is of this build: the ledger was written first.
        kept = {shard.entry.name for shard in intact}
        for name in present:
            if name.removesuffix(INDEX_SUFFIX).removesuffix(".tar") + ".tar" not in kept:
                storage.delete(storage.join(self.url, name))
        write_ledger(self.url, self._identity, intact)
        self._resumed = sum(shard.entry.samples for shard in intact)
        return intact

    def _acquire_lock(self) -> FileLock | None:
        """Two builds must not write one folder; the system frees the lock of a killed process."""
        if not storage.is_local(self.url):
            return None
        path = storage.local_path(self.url)
        storage.make_folder(self.url)
        lock = FileLock(path / _LOCK_NAME)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise ShardError(
                Problem(
                    "another process is writing this source",
                    self.url,
                    remedy="Wait for it to end, or choose another folder",
                )
            ) from error
        return lock

    def _release_lock(self) -> None:
        if self._lock is not None and self._lock.is_locked:
            storage.delete(storage.join(self.url, _LOCK_NAME))
            self._lock.release()


def delete_source(url: str) -> None:
    """Delete manifest, ledger, and the shards and indexes these two name; no other file.

    The manifest goes first, so that the folder is never taken for a finished source; the ledger
    goes last, with a copy of the manifest in it, so that a kill in between leaves no shard that
    nothing accounts for.
    """
    names = storage.list_files(url)
    records = [name for name in (MANIFEST_NAME, LEDGER_NAME) if name in names]
    if not records:
        return
    data = b"\n".join(storage.read_bytes(storage.join(url, name)) for name in records)
    storage.write_atomically(storage.join(url, LEDGER_NAME), data)
    storage.delete(storage.join(url, MANIFEST_NAME))
    shards = {match.decode() for match in re.findall(rb'"name": "([^"/\\]+\.tar)"', data)}
    for build in re.findall(rb'"name": "([\w-]+)", "samples_per_shard"', data):
        pattern = re.compile(re.escape(build.decode()) + r"-\d{6}\.(tar|idx)")
        shards |= {
            name.removesuffix(INDEX_SUFFIX).removesuffix(".tar") + ".tar"
            for name in names
            if pattern.fullmatch(name)
        }
    for shard in sorted(shards):
        storage.delete(storage.join(url, shard))
        storage.delete(storage.join(url, index_url(shard)))
    storage.delete(storage.join(url, LEDGER_NAME))


def _check_options(name: str, samples_per_shard: int, fields: Sequence[str]) -> None:
    problems = []
    if not is_key(name):
        problems.append(
            Problem("not a shard name: letters, digits, _ and -", "name", repr(name), "Rename it")
        )
    if samples_per_shard < 1:
        problems.append(
            Problem("must be at least 1", "samples_per_shard", str(samples_per_shard), "Raise it")
        )
    wrong = [field for field in fields if not is_field(field)]
    if wrong or not fields or len(set(fields)) != len(fields):
        problems.append(
            Problem("not a list of field names", "fields", repr(list(fields)), "Use txt and json")
        )
    if problems:
        raise ShardError(problems)
