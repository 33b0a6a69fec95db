"""Encoded sidecars: each shard of a source as memory-mapped arrays, made once and shared.

The sidecar of a shard is the folder ``CACHE/SPEC/SOURCE/SHARD/``: the fingerprint of the
:class:`EncodingSpec`, a hash of the source's URL, and the shard's name without ``.tar``.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xxhash
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from tqdm import tqdm

from headrace.encoding import store
from headrace.encoding.encoded_shard import EncodedShard, LeftOutShard
from headrace.encoding.planned import (
    LengthsOfRemoved,
    hashes_of,
    read_planned,
    write_planned,
)
from headrace.encoding.report import EncodingReport
from headrace.encoding.substituted import (
    RemovedShard,
    SubstitutedShard,
    removed_shard,
    substituted_shard,
)
from headrace.encoding.task_encoder import FORMAT_VERSION, EncodingSpec
from headrace.errors import LabelError, Problem, ShardError

if TYPE_CHECKING:
    from headrace.encoding.task_encoder import TaskEncoder
    from headrace.shards.manifest import ShardEntry
    from headrace.shards.reader import ShardReader

_log = logging.getLogger(__name__)

_POLL_SECONDS = 1.0
"""For the lock of a shard that another process encodes."""


@dataclass(frozen=True)
class EncodedSource:
    """The sidecars of all shards of a source, in the order of its manifest."""

    url: str
    language: str
    spec: EncodingSpec
    fingerprint: str
    """32 hexadecimal digits over the spec and the source's manifest."""
    shards: tuple[EncodedShard, ...]

    @property
    def samples(self) -> int:
        """Encoded samples in all shards."""
        return sum(len(shard) for shard in self.shards)

    @cached_property
    def report(self) -> EncodingReport:
        """Counts over all shards but those that are left out."""
        return reduce(
            add,
            (
                shard.report
                for shard in self.shards
                if not isinstance(shard, LeftOutShard | RemovedShard)
            ),
        )

    @property
    def longest(self) -> int:
        """What a sample of the greatest length costs in a batch: tokens, with padding."""
        choices = max((shard.choices for shard in self.shards), default=1)
        return self.spec.max_length * choices

    @property
    def left_out(self) -> frozenset[int]:
        """Numbers of the shards that a run goes on without."""
        return frozenset(
            number for number, shard in enumerate(self.shards) if isinstance(shard, LeftOutShard)
        )

    @cached_property
    def absent(self) -> dict[int, NDArray[np.bool_]]:
        """By number of a shard, the encoded samples that batches are planned with and go without.

        They are of removed samples, and nothing stands in for them.
        """
        return {
            number: shard.absent
            for number, shard in enumerate(self.shards)
            if isinstance(shard, SubstitutedShard | RemovedShard) and shard.absent.any()
        }

    @cached_property
    def without_samples(self) -> frozenset[int]:
        """Numbers of the shards of which nothing can be read: left out, or removed as a whole."""
        gone = (n for n, shard in enumerate(self.shards) if isinstance(shard, RemovedShard))
        return self.left_out.union(gone)

    @property
    def substituted(self) -> int:
        """Encoded samples of removed ones that others stand in for."""
        return sum(
            shard.substituted for shard in self.shards if isinstance(shard, SubstitutedShard)
        )

    def living(self) -> EncodedSource:
        """The source without its removed samples: what scores are taken of."""
        return replace(self, shards=tuple(shard.living() for shard in self.shards))

    def leaving_out(self, numbers: Iterable[int]) -> EncodedSource:
        """The source without some shards, besides those that are left out already.

        It depends on nothing but the source and which shards are left out in all.  Raises
        :class:`ShardError` if none is left.
        """
        out = self.left_out.union(numbers)
        if not out:
            return self
        intact = [
            shard for number, shard in enumerate(self.shards) if number not in out and len(shard)
        ]
        if not intact:
            raise ShardError(
                Problem(
                    "no shard is intact",
                    self.url,
                    f"{len(out)} left out",
                    "Check it with: headrace verify URL",
                )
            )
        lengths = np.concatenate([shard.lengths for shard in intact])
        # Where texts are cut: as many sequences as its texts would have on average.
        texts = sum(shard.texts for number, shard in enumerate(self.shards) if number not in out)
        sequences = sum(map(len, intact))

        def stand_in(shard: EncodedShard) -> LeftOutShard:
            size = -(-shard.texts * sequences // texts)
            meta = {"samples": shard.texts, "sequences": size, "subsets": []}
            return LeftOutShard(shard.name, shard.folder, meta, np.resize(lengths, size))

        shards = tuple(
            stand_in(shard) if number in out else shard for number, shard in enumerate(self.shards)
        )
        return replace(self, shards=shards)

    def choosing(self, numbers: Sequence[NDArray[np.int64]], fingerprint: str) -> EncodedSource:
        """The source with some samples of each shard alone; those left out stay left out.

        ``numbers`` are those of the samples of each shard, ascending; ``fingerprint`` is that of
        the source with this choice.  Raises :class:`ShardError` if all of them are in shards that
        are left out.
        """
        shards = tuple(
            replace(shard, meta={**shard.meta, "samples": len(some)})
            if isinstance(shard, LeftOutShard)
            else shard.choose(some)
            for shard, some in zip(self.shards, numbers, strict=True)
        )
        # Lengths for those that are left out come from the chosen samples of the others.
        return replace(self, shards=shards, fingerprint=fingerprint).leaving_out(())


def encode_source(
    reader: ShardReader,
    encoder: TaskEncoder,
    *,
    cache_dir: Path | str,
    language: str,
    verify: bool = True,
    bad_shards: Literal["refuse", "quarantine"] = "refuse",
    left_out: Collection[int] = (),
    on_progress: Callable[[int], object] | None = None,
) -> EncodedSource:
    """Open the sidecars of a source for a task, and make those that are missing.

    The encoder is for this source alone: it gathers what is wrong with its samples.

    Any number of processes and nodes may call this at once on one cache: they share out the
    shards, each shard is made by one process, and the others wait for it.  A process that is
    killed loses at most the shard in hand.  A sidecar whose shard has changed, or whose bytes are
    not those that were written (checked with `verify`), is made again with a warning; so is one,
    without a warning, that has samples that were removed since.  These keep their numbers and the
    lengths that batches are planned with, see :mod:`headrace.encoding.substituted`.

    Shards numbered in `left_out` are not touched: see :meth:`EncodedSource.leaving_out`.  With
    `bad_shards` ``"quarantine"`` damaged ones join them, with a warning each.

    `on_progress` is called again and again with the number of samples encoded since the last call,
    0 while sidecars are opened and others waited for; what it raises breaks the work off.

    Raises :class:`LabelError` with all unknown tags and malformed samples of all shards that had
    to be encoded, :class:`ShardError` if a shard is damaged (with ``"quarantine"``: if all are),
    and :class:`EncodingError` if the cache cannot be written.
    """
    if not reader.living:
        raise ShardError(
            Problem(
                "all samples of the source were removed",
                reader.url,
                remedy="Leave it out, in a new run",
            )
        )
    spec = encoder.spec
    folder = Path(cache_dir).expanduser() / spec.fingerprint / store.source_id(reader.url)
    with store.writing_problems(folder):
        folder.mkdir(parents=True, exist_ok=True)
        quarantine = bad_shards == "quarantine"
        work = _Work(reader, encoder, spec, folder, verify, quarantine, on_progress)
        shards, out = work.open_or_make_all(language, left_out)
    parts = [spec.fingerprint, reader.manifest.identity, *work.lengths.forgotten()]
    fingerprint = xxhash.xxh3_128_hexdigest(json.dumps(parts).encode())
    return EncodedSource(reader.url, language, spec, fingerprint, shards).leaving_out(out)


@dataclass
class _Work:
    """One call of :func:`encode_source`."""

    reader: ShardReader
    encoder: TaskEncoder
    spec: EncodingSpec
    folder: Path
    verify: bool
    quarantine: bool
    on_progress: Callable[[int], object] | None

    @cached_property
    def lengths(self) -> LengthsOfRemoved:
        """Those of the samples that were removed."""
        return LengthsOfRemoved(self.reader, self.encoder, self._path)

    def open_or_make_all(
        self, language: str, left_out: Collection[int]
    ) -> tuple[tuple[EncodedShard, ...], set[int]]:
        """The sidecars of all shards, and the numbers of those that are not to be used."""
        entries = self.reader.manifest.shards
        out = set(left_out)
        done = {
            number: self._stand_in(entry) if number in out else self._open(number)
            for number, entry in enumerate(entries)
        }
        missing = deque(number for number, shard in done.items() if shard is None)
        samples = sum(entries[number].samples for number in missing)
        damaged: list[Problem] = []
        busy = 0
        with tqdm(
            total=samples,
            desc=f"encoding {language}",
            unit=" samples",
            disable=None if missing else True,
        ) as progress:
            while missing:
                number = missing.popleft()
                # Shards that other processes are at come last; only then is there a wait.
                wait = _POLL_SECONDS if busy > len(missing) else 0
                lock = FileLock(f"{self._path(entries[number])}.lock")
                try:
                    with lock.acquire(timeout=wait):
                        done[number] = self._open(number) or self._make(number, progress)
                except Timeout:
                    self._look(0)
                    missing.append(number)
                    busy += 1
                    continue
                except ShardError as error:
                    if self.quarantine:
                        _log.warning("%s %s is left out: %s", language, entries[number].name, error)
                        done[number] = self._stand_in(entries[number])
                        out.add(number)
                    else:
                        damaged += error.problems
                busy = 0
        if self.encoder.problems:
            # Shards of two sources often have one name.
            named = [
                replace(problem, where=f"{self.reader.url}, {problem.where}")
                for problem in self.encoder.problems
            ]
            raise LabelError([*named, *damaged])
        if damaged:
            raise ShardError(damaged)
        return tuple(shard for shard in done.values() if shard is not None), out

    def _stand_in(self, entry: ShardEntry) -> EncodedShard:
        """A shard without arrays, for one that is left out."""
        return EncodedShard(entry.name, self._path(entry), {"samples": entry.samples})

    def _look(self, count: int) -> None:
        if self.on_progress is not None:
            self.on_progress(count)

    def _path(self, entry: ShardEntry) -> Path:
        return self.folder / entry.name.removesuffix(".tar")

    def _expected(self, number: int) -> dict[str, Any]:
        entry, removed = self.reader.manifest.shards[number], self.reader.removed(number)
        lacks = {"lacks": removed.numbers.tolist()} if len(removed) else {}
        return {
            "version": FORMAT_VERSION,
            "fingerprint": self.spec.fingerprint,
            "shard_hash": entry.hash,
            "samples": entry.samples - len(removed),
            **lacks,
        }

    def _open(self, number: int) -> EncodedShard | None:
        """The sidecar of a shard, with substitutes for what was removed; None: it is to be made."""
        self._look(0)
        entry, removed = self.reader.manifest.shards[number], self.reader.removed(number)
        path = self._path(entry)
        if not len(removed):
            return self._sidecar(number)
        planned = read_planned(path)
        if not planned.keys() >= set(removed.numbers.tolist()):
            return None
        if len(removed) == entry.samples:
            return removed_shard(entry.name, path, removed, planned)
        own = self._sidecar(number)
        return own and substituted_shard(own, entry.samples, removed, planned)

    def _sidecar(self, number: int) -> EncodedShard | None:
        """The sidecar of the living samples of a shard, as it was written."""
        entry = self.reader.manifest.shards[number]
        path, expected = self._path(entry), self._expected(number)
        try:
            meta = store.read_meta(path, {}, self.encoder.array_types, verify=self.verify)
            if meta is not None:
                if "lacks" in expected and meta.get("lacks") != expected["lacks"]:
                    return None  # it has samples that were removed since
                # What was overwritten in a shard had left the sidecar before.
                if meta.get("shard_hash") in hashes_of(self.reader.manifest, entry):
                    expected["shard_hash"] = meta["shard_hash"]
                store.check_meta(meta, expected)
        except store.DamagedFolderError as error:
            _log.warning("%s is encoded again: %s (%s)", entry.name, error, path)
            return None
        return None if meta is None else EncodedShard(entry.name, path, meta)

    def _make(self, number: int, progress: tqdm[Any]) -> EncodedShard | None:
        entry = self.reader.manifest.shards[number]
        removed = self.reader.removed(number)
        if len(removed):
            planned = self.lengths.find(number)
            if planned is None:
                return None
            write_planned(self._path(entry), planned)
            if len(removed) == entry.samples:
                store.remove_folder(self._path(entry))
                return self._open(number)
        shard = self.reader.shard(number)

        def on_samples(count: int) -> None:
            progress.update(count)
            self._look(count)

        encoded = self.encoder.encode(shard, entry.name, on_samples)
        if encoded is None:
            return None
        meta = {
            **self._expected(number),
            "source": self.reader.url,
            "shard": entry.name,
            "spec": {name: getattr(self.spec, name) for name in self.spec.__dataclass_fields__},
            "report": encoded.report.as_dict(),
            "subsets": list(encoded.subsets),
            **encoded.facts,
        }
        store.write_folder(self._path(entry), encoded.arrays, meta)
        return self._open(number)
