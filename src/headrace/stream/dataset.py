"""The stream as a dataset for any training loop: ``torch.utils.data.IterableDataset``.

Everything is decided by the plan; this class reads what the plan names, and counts what it has
handed out.  See ``docs/dataset.md``.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from os import PathLike, fspath
from typing import Any, Literal

import numpy as np
import torch.distributed
from numpy.typing import NDArray
from torch.utils.data import IterableDataset

from headrace.errors import ConfigError, Problem
from headrace.shards.cache import ShardCache
from headrace.shards.reader import ShardReader
from headrace.stream.batching import BatchPlan
from headrace.stream.cursor import Cursor, Run
from headrace.stream.fetch import Chunk, Fetcher
from headrace.stream.lookahead import LookAhead
from headrace.stream.opening import check_settings, find_ranks, open_sources
from headrace.stream.plan import StagePlan
from headrace.stream.selected import Chosen, read_chosen
from headrace.stream.sources import stream_source
from headrace.stream.state import StreamState

STAGE = "stream"
"""The name of the one stage of a ``ShardStream``; it seeds the order."""

FIRST_CHUNK = 32
"""Samples that are read together at first, so that the first batch comes at once."""
CHUNK = 8192
"""Samples that are read together in the long run."""
CHUNK_BYTES = 16 << 20
"""Bytes that are read together, about, where samples are large."""

_STATE = "the stream's state"
_WORKER = "worker"

logger = logging.getLogger(__name__)


class ShardStream(IterableDataset[Any]):
    """Samples of one or more sources, shuffled and mixed, in one global order for any world size.

    One iteration is the rest of the epoch that the stream is in; the next iteration goes on with
    the next epoch.  An epoch has as many positions as the sources have samples.

    Without ``batch_size`` it yields this rank's samples, positions ``rank``, ``rank + world_size``
    and so on.  With it, it yields lists: this rank's part ``[rank::world_size]`` of each global
    batch of ``batch_size`` samples.  Parts differ by one sample at most, nothing is padded or left
    out, and every rank yields as many lists as the others (where a batch has fewer samples than
    there are ranks, the list may be empty).

    Args:
        sources: By name, usually the language: URL or path of a folder of shards, or a reader.
        seed: Of the order.
        temperature: Of the mixture: 1 draws in proportion to size, 0 from all sources alike.
        weights: One a source by name, in place of ``temperature``.
        batch_size: Samples of a global batch.
        fields: None for whole samples (:class:`headrace.shards.Sample`); a name such as ``"txt"``
            for the bytes of that field; a sequence of names for a tuple of bytes.
        rank: By default that of ``torch.distributed`` if it is initialised, else the environment
            variable RANK, else 0.
        world_size: Likewise, with WORLD_SIZE, else 1.
        cache: Where copies of remote shards are kept and how large it may get; by default the
            folder ``.headrace/shards``, without a limit.
        bad_shards: ``"refuse"`` raises ``ShardError`` when a shard is not intact; ``"quarantine"``
            goes on without it, warns once and records it in the state.
        shard_window: How many shards of a source are shuffled together.
        selection: Folder that ``headrace select`` wrote: only the samples chosen in it are read,
            and an epoch has as many positions as these are.

    Raises ``ShardError`` with all that is wrong with the sources, ``SelectionError`` with all that
    is wrong with the selection, ``ConfigError`` with all that is wrong with the settings.
    """

    def __init__(
        self,
        sources: Mapping[str, str | PathLike[str] | ShardReader],
        *,
        seed: int = 0,
        temperature: float = 1.0,
        weights: Mapping[str, float] | None = None,
        batch_size: int | None = None,
        fields: str | Sequence[str] | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        cache: ShardCache | None = None,
        bad_shards: Literal["refuse", "quarantine"] = "refuse",
        shard_window: int = 8,
        selection: str | PathLike[str] | None = None,
    ) -> None:
        self._arguments: dict[str, Any] = {
            "seed": seed,
            "temperature": temperature,
            "weights": weights,
            "batch_size": batch_size,
            "fields": fields,
            "bad_shards": bad_shards,
            "shard_window": shard_window,
            "cache": cache,
            "selection": selection,
        }
        self._rank, self._world_size = rank, world_size
        self._quarantined: set[str] = set()
        if not (rank is None or world_size is None):
            find_ranks(rank, world_size)  # others may be set until the stream is read
        self._open(sources, **self._arguments)
        self._cursor = Cursor(self.plan.samples_per_epoch)

    def _open(
        self,
        sources: Mapping[str, str | PathLike[str] | ShardReader],
        *,
        seed: int,
        temperature: float,
        weights: Mapping[str, float] | None,
        batch_size: int | None,
        fields: str | Sequence[str] | None,
        bad_shards: str,
        shard_window: int,
        cache: ShardCache | None,
        selection: str | PathLike[str] | None,
        chosen: Mapping[str, Chosen] | None = None,
    ) -> None:
        check_settings(
            sources,
            weights,
            fields,
            bad_shards,
            batch_size=batch_size,
            seed=seed,
            shard_window=shard_window,
        )
        readers = open_sources(sources, cache, require_all=bad_shards == "refuse")
        if selection is not None and chosen is None:
            chosen = read_chosen(
                fspath(selection), readers, readers, where="selection", sources="sources"
            )
        self._chosen = chosen or {}
        self.plan = StagePlan(
            [
                stream_source(name, reader, chosen=self._chosen.get(name))
                for name, reader in readers.items()
            ],
            seed=int(seed),
            stage=STAGE,
            temperature=temperature,
            weights=None if weights is None else [weights[name] for name in readers],
            shard_window=shard_window,
        )
        """The order, to look at."""
        self.batch_size = batch_size
        # One position a step: a state does not depend on the size of the batches.
        self._steps = BatchPlan(self.plan, [], batch_size=1, sort_by_length=False)
        self._start = StreamState.at(self._steps, 0)
        self._fetcher = Fetcher(
            list(readers),
            list(readers.values()),
            fields,
            shard_window=shard_window,
            quarantine=bad_shards == "quarantine",
            chosen=self._chosen,
        )
        self._look_ahead = LookAhead(self.plan, self._fetcher)
        mean_bytes = sum(
            entry.bytes for reader in readers.values() for entry in reader.manifest.shards
        ) / sum(len(reader) for reader in readers.values())
        self._chunk = min(CHUNK, max(1, int(CHUNK_BYTES / mean_bytes)))

    def __getstate__(self) -> dict[str, Any]:
        # A spawned worker opens the sources for itself, as the rank of this process.
        readers = dict(zip(self._fetcher.names, self._fetcher.readers, strict=True))
        return {
            "sources": readers,
            "chosen": self._chosen,
            "arguments": self._arguments,
            "topology": self._topology(),
            "quarantined": self._quarantined,
            "cursor": self._cursor,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._arguments = state["arguments"]
        self._rank, self._world_size = state["topology"]
        self._quarantined = state["quarantined"]
        self._cursor = state["cursor"]
        self._open(state["sources"], chosen=state["chosen"], **self._arguments)

    # Ranks

    @property
    def rank(self) -> int:
        """This process among those that share the stream."""
        return self._topology()[0]

    @property
    def world_size(self) -> int:
        """How many processes share the stream."""
        return self._topology()[1]

    def _topology(self) -> tuple[int, int]:
        rank, world = find_ranks(self._rank, self._world_size)
        if self._arguments["bad_shards"] == "quarantine" and world > 1 and not self.batch_size:
            raise ConfigError(
                Problem(
                    "ranks that leave out single samples would drift apart",
                    "bad_shards",
                    "quarantine, without a batch_size",
                    "Give batch_size: batches get smaller instead",
                )
            )
        return rank, world

    def __len__(self) -> int:
        """What this rank yields in a whole epoch: batches, or samples without ``batch_size``."""
        rank, world = self._topology()
        if self.batch_size:
            return -(-self.plan.samples_per_epoch // self.batch_size)
        return -(-(self.plan.samples_per_epoch - rank) // world)

    # Where the stream is

    @property
    def epoch(self) -> int:
        """The epoch of the next sample, counted from 0."""
        return self._cursor.position // self.plan.samples_per_epoch

    def set_epoch(self, epoch: int) -> None:
        """Go on at the beginning of ``epoch``, unless the stream is in that epoch already.

        Takes effect with the next iteration, in DataLoader workers that live on as well.
        """
        if epoch < 0:
            raise ValueError(f"epochs count from 0, not {epoch}")
        position = self._cursor.position
        if position // self.plan.samples_per_epoch != epoch:
            position = epoch * self.plan.samples_per_epoch
        self._cursor.move(position)

    # State

    def state_dict(self) -> dict[str, Any]:
        """Where to go on, as JSON of less than 1 KB: what has been yielded counts as consumed.

        It is the same on every rank after the same number of items, and valid for any world size
        and batch size.  In a DataLoader worker it holds for that worker alone.
        """
        mark = self._cursor.worker_mark()
        if mark is None:
            return self._state(self._cursor.position, self._quarantined)
        return {**self._state(self._cursor.run.next, self._quarantined), _WORKER: mark}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state_dict`` was taken.

        Raises ``ConfigError`` that lists all that differs from the settings under which it was:
        seed, sources, mixture, windows.
        """
        saved = self._parse(state)
        saved.check(self._steps, _STATE)
        if _WORKER in state:
            self._cursor.load_worker(saved.next_position, state[_WORKER])
        else:
            self._cursor.move(saved.next_position)
        self._quarantined = set(saved.quarantined)

    def state_at(self, items: int, start: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The state after ``items`` batches (samples, without ``batch_size``) of this rank.

        They are counted from the state ``start``, by default from the beginning.  A plain
        DataLoader with workers cannot tell its state: count what it yields, and ask here.
        """
        if items < 0:
            raise ValueError(f"items count from 0, not {items}")
        saved = self._start if start is None else self._parse(start)
        unit, lag = self._unit()
        position = saved.next_position
        end = self._cursor.end_of(position)
        rest = max(0, -(-(end - position - lag) // unit))
        if items > rest:
            epochs, items = divmod(items - rest - 1, len(self))
            position, items = end + epochs * self.plan.samples_per_epoch, items + 1
            end = position + self.plan.samples_per_epoch
        return self._state(min(position + items * unit, end), saved.quarantined)

    def _parse(self, state: Mapping[str, Any]) -> StreamState:
        content = {name: value for name, value in dict(state or {}).items() if name != _WORKER}
        return StreamState.from_json(json.dumps(content), _STATE)

    def _state(self, position: int, quarantined: Iterable[str]) -> dict[str, Any]:
        state = replace(
            self._start,
            next_step=position,
            next_position=position,
            quarantined=tuple(sorted(quarantined)),
        )
        content: dict[str, Any] = json.loads(state.to_json())
        return content

    @property
    def quarantined(self) -> tuple[str, ...]:
        """The shards that this process goes on without, as ``SOURCE NAME/SHARD NAME``."""
        return tuple(sorted(self._quarantined))

    @property
    def substituted(self) -> int:
        """Samples that this process has read in place of removed ones."""
        return self._fetcher.substituted

    def agree(self) -> None:
        """Let every rank leave out the shards that any rank has found to be bad.

        To be called by all ranks of ``torch.distributed`` after the same number of items, at
        least before a state is saved: from then on their states are equal again.

        Raises ``ConfigError`` when there are too many bad shards to go on.
        """
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return
        found: list[list[str]] = [[] for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather_object(found, sorted(self._quarantined))
        union = self._quarantined.union(*found)
        StreamState.at(self._steps, 0, union).to_json()
        if union != self._quarantined:
            self._quarantined = union
            self._fetcher.leave_out(union)
            self._cursor.run.stale = True

    # Iteration

    def __iter__(self) -> Iterator[Any]:
        # Not a generator: the iteration begins here, not when its first item is asked for, so
        # that a state that is taken in between holds for it.
        unit, _ = self._unit()
        run = self._cursor.begin(unit)
        self._fetcher.leave_out(self._quarantined)
        self._look_ahead.restart()
        return self._items(run)

    def _unit(self) -> tuple[int, int]:
        """Positions that all ranks take together for one item each, and where this rank's begin."""
        rank, world = self._topology()
        return (self.batch_size, 0) if self.batch_size else (world, rank)

    def _items(self, run: Run) -> Iterator[Any]:
        if run.broken_off:
            raise ConfigError(
                Problem(
                    "the last iteration was broken off, and its workers had read on",
                    "DataLoader(persistent_workers=True)",
                    remedy="Say where to go on: stream.load_state_dict(stream.state_at(batches))",
                )
            )
        rank, world = self._topology()
        unit, lag = self._unit()
        offsets = np.arange(rank, unit, world)
        size = FIRST_CHUNK
        while True:
            if run.stale:
                self._check_latest(run)
                run.stale, size = False, FIRST_CHUNK
            left = -(-(run.end - run.next - lag) // run.stride)
            if left <= 0:
                break
            count = min(left, max(1, size // max(1, len(offsets))))
            size = min(4 * size, self._chunk)
            self._look_ahead.see(run.next, min(run.next + count * run.stride, run.end))
            starts = run.next + run.stride * np.arange(count, dtype=np.int64)
            positions = (starts[:, None] + offsets).ravel()
            chunk = self._read(run.end, positions[positions < run.end])
            following = np.minimum(starts + run.stride, run.end).tolist()
            if not self.batch_size and chunk.kept is None:
                for position, item in zip(following, chunk.items(), strict=True):
                    run.next = position
                    yield item
                    if run.stale:
                        break
                continue
            found = deque(chunk.found)
            for number, position in enumerate(following):
                begin, end = number * len(offsets), (number + 1) * len(offsets)
                while found and found[0][0] < end:
                    self._quarantine(found.popleft()[1])
                run.next = position
                if self.batch_size:
                    yield list(chunk.items(begin, end))
                else:
                    yield from chunk.items(begin, end)
                if run.stale:
                    break
        self._cursor.finish(run)

    def _read(self, end: int, positions: NDArray[np.int64]) -> Chunk:
        """The samples at some positions of the epoch that ends at ``end``."""
        start = end - self.plan.samples_per_epoch
        return self._fetcher.fetch(
            self.plan.locate(start // self.plan.samples_per_epoch, positions - start)
        )

    def _quarantine(self, shard: str) -> None:
        logger.warning("%s is not intact: the stream goes on without it", shard)
        self._quarantined.add(shard)
        StreamState.at(self._steps, 0, self._quarantined).to_json()  # raises if it is too much

    def _check_latest(self, run: Run) -> None:
        if run is not self._cursor.run:
            raise RuntimeError("this iteration is over: the stream was moved, or begun anew")
