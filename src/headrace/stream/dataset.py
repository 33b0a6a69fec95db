"""The stream as a dataset for any training loop: ``torch.utils.data.IterableDataset``.

Everything is decided by the plan; this class reads what the plan names, and counts what it has
handed out.  See ``docs/dataset.md``.
"""

from __future__ import annotations

import json
import logging
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch.distributed
from numpy.typing import NDArray
from torch.utils.data import IterableDataset, get_worker_info

from headrace.errors import ConfigError, Problem, ShardError, UserError
from headrace.shards.reader import ShardReader
from headrace.stream.batching import BatchPlan
from headrace.stream.fetch import Chunk, Fetcher
from headrace.stream.plan import Source, StagePlan
from headrace.stream.progress import MAX_WORKERS, Progress
from headrace.stream.state import StreamState

STAGE = "stream"
"""The name of the one stage of a ``ShardStream``; it seeds the order."""

FIRST_CHUNK = 32
"""Samples that are read together at first, so that the first batch comes at once."""
CHUNK = 4096
"""Samples that are read together in the long run."""
CHUNK_BYTES = 16 << 20
"""Bytes that are read together, about, where samples are large."""

_STATE = "the stream's state"
_WORKER = "worker"

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Run:
    """One iteration, in one process."""

    next: int
    """Position of what is handed out next, counted over the whole stage; at most ``end``."""
    end: int
    """Of the epoch."""
    begun: bool = False
    stale: bool = False
    """What was read ahead is of no use: the stream moved, or left out another shard."""


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
        sources: By name, usually the language: the URL of a folder of shards, or an open reader.
        seed: Of the order.
        temperature: Of the mixture: 1 draws in proportion to size, 0 from all sources alike.
        weights: One a source by name, in place of ``temperature``.
        batch_size: Samples of a global batch.
        fields: None for whole samples (:class:`headrace.shards.Sample`); a name such as ``"txt"``
            for the bytes of that field; a sequence of names for a tuple of bytes.
        rank: By default that of ``torch.distributed`` if it is initialised, else the environment
            variable RANK, else 0.
        world_size: Likewise, with WORLD_SIZE, else 1.
        bad_shards: ``"refuse"`` raises ``ShardError`` when a shard is not intact; ``"quarantine"``
            goes on without it, warns once and records it in the state.
        shard_window: How many shards of a source are shuffled together.

    Raises ``ShardError`` with all that is wrong with the sources, ``ConfigError`` with all that is
    wrong with the settings.
    """

    def __init__(
        self,
        sources: Mapping[str, str | ShardReader],
        *,
        seed: int = 0,
        temperature: float = 1.0,
        weights: Mapping[str, float] | None = None,
        batch_size: int | None = None,
        fields: str | Sequence[str] | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        bad_shards: Literal["refuse", "quarantine"] = "refuse",
        shard_window: int = 8,
    ) -> None:
        self._arguments: dict[str, Any] = {
            "seed": seed,
            "temperature": temperature,
            "weights": weights,
            "batch_size": batch_size,
            "fields": fields,
            "bad_shards": bad_shards,
            "shard_window": shard_window,
        }
        self._rank, self._world_size = rank, world_size
        self._progress = Progress()
        self._quarantined: set[str] = set()
        self._open(sources, **self._arguments)
        self._run = _Run(0, self._epoch_samples)
        self._seen: int | None = None

    def _open(
        self,
        sources: Mapping[str, str | ShardReader],
        *,
        seed: int,
        temperature: float,
        weights: Mapping[str, float] | None,
        batch_size: int | None,
        fields: str | Sequence[str] | None,
        bad_shards: str,
        shard_window: int,
    ) -> None:
        _check(sources, weights, batch_size, bad_shards)
        readers = _open_readers(sources)
        self.plan = StagePlan(
            [
                Source(
                    name=name,
                    url=reader.url,
                    shard_sizes=tuple(entry.samples for entry in reader.manifest.shards),
                    fingerprint=reader.manifest.fingerprint,
                )
                for name, reader in readers.items()
            ],
            seed=seed,
            stage=STAGE,
            temperature=temperature,
            weights=None if weights is None else [weights[name] for name in readers],
            shard_window=shard_window,
        )
        """The order, to look at."""
        self.batch_size = batch_size
        self._epoch_samples = self.plan.samples_per_epoch
        # One position a step: a state does not depend on the size of the batches.
        self._steps = BatchPlan(self.plan, [], batch_size=1, sort_by_length=False)
        self._start = StreamState.at(self._steps, 0)
        self._fetcher = Fetcher(
            list(readers),
            list(readers.values()),
            fields,
            shard_window=shard_window,
            quarantine=bad_shards == "quarantine",
        )
        mean_bytes = sum(
            entry.bytes for reader in readers.values() for entry in reader.manifest.shards
        ) / sum(len(reader) for reader in readers.values())
        self._chunk = min(CHUNK, max(1, int(CHUNK_BYTES / mean_bytes)))

    def __getstate__(self) -> dict[str, Any]:
        # A spawned worker opens the sources for itself, as the rank of this process.
        readers = dict(zip(self._fetcher.names, self._fetcher.readers, strict=True))
        return {
            "sources": readers,
            "arguments": self._arguments,
            "topology": self._topology(),
            "progress": self._progress,
            "quarantined": self._quarantined,
            "run": replace(self._run),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._arguments = state["arguments"]
        self._rank, self._world_size = state["topology"]
        self._progress = state["progress"]
        self._quarantined = state["quarantined"]
        self._open(state["sources"], **self._arguments)
        self._run = state["run"]
        self._seen = None

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
        joined = torch.distributed.is_available() and torch.distributed.is_initialized()
        rank, world = self._rank, self._world_size
        if rank is None:
            rank = torch.distributed.get_rank() if joined else int(os.environ.get("RANK", 0))
        if world is None:
            world = (
                torch.distributed.get_world_size()
                if joined
                else int(os.environ.get("WORLD_SIZE", 1))
            )
        problem = None
        if not 0 <= rank < world:
            problem = Problem(
                "a rank counts from 0 and is below the world size",
                "rank, world_size",
                f"{rank}, {world}",
                "Give both, or neither",
            )
        elif self._arguments["bad_shards"] == "quarantine" and world > 1 and not self.batch_size:
            problem = Problem(
                "ranks that leave out single samples would drift apart",
                "bad_shards",
                "quarantine, without a batch_size",
                "Give batch_size: batches get smaller instead",
            )
        if problem:
            raise ConfigError(problem)
        return rank, world

    def __len__(self) -> int:
        """What this rank yields in a whole epoch: batches, or samples without ``batch_size``."""
        rank, world = self._topology()
        if self.batch_size:
            return -(-self._epoch_samples // self.batch_size)
        return -(-(self._epoch_samples - rank) // world)

    # Where the stream is

    @property
    def epoch(self) -> int:
        """The epoch of the next sample, counted from 0."""
        return self._position() // self._epoch_samples

    def set_epoch(self, epoch: int) -> None:
        """Go on at the beginning of ``epoch``, unless the stream is in that epoch already.

        Takes effect with the next iteration, in DataLoader workers that live on as well.
        """
        if epoch < 0:
            raise ValueError(f"epochs count from 0, not {epoch}")
        position = self._position()
        if position // self._epoch_samples != epoch:
            position = epoch * self._epoch_samples
        self._move(position)

    def _position(self) -> int:
        """Where an iteration that began now would go on."""
        return max(self._run.next, self._progress.finished)

    def _move(self, position: int) -> None:
        self._go_on(position, self._end_of(position))
        self._progress.move(position)

    def _go_on(self, position: int, end: int) -> None:
        self._run.stale = True
        self._run = _Run(min(position, end), end)

    def _end_of(self, position: int) -> int:
        """The end of the epoch that a position lies in."""
        return (position // self._epoch_samples + 1) * self._epoch_samples

    # State

    def state_dict(self) -> dict[str, Any]:
        """Where to go on, as JSON of less than 1 KB: what has been yielded counts as consumed.

        It is the same on every rank after the same number of items, and valid for any world size
        and batch size.  In a DataLoader worker it holds for that worker alone.
        """
        info = get_worker_info()
        if info is None:
            return self._state(self._position(), self._quarantined)
        epoch = self._run.end // self._epoch_samples - 1
        state = self._state(self._run.next, self._quarantined)
        return {**state, _WORKER: [info.id, info.num_workers, epoch]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state_dict`` was taken.

        Raises ``ConfigError`` that lists all that differs from the settings under which it was:
        seed, sources, mixture, windows.
        """
        worker = state.get(_WORKER)
        saved = self._parse(state)
        saved.check(self._steps, _STATE)
        info = get_worker_info()
        if worker is None:
            self._quarantined = set(saved.quarantined)
            self._move(saved.next_position)
            return
        if info is None or worker[:2] != [info.id, info.num_workers]:
            raise ConfigError(
                Problem(
                    "the state is that of one DataLoader worker",
                    _STATE,
                    f"worker {worker[0]} of {worker[1]}",
                    "Load it through StatefulDataLoader with as many workers; state_at gives a "
                    "state for any number of them",
                )
            )
        self._quarantined = set(saved.quarantined)
        self._go_on(saved.next_position, (worker[2] + 1) * self._epoch_samples)
        self._seen = self._progress.version
        if self._run.next == self._run.end:
            self._progress.finish(info.id, info.num_workers, self._run.end)

    def state_at(self, items: int, start: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The state after ``items`` batches (samples, without ``batch_size``) of this rank.

        They are counted from the state ``start``, by default from the beginning.  A plain
        DataLoader with workers cannot tell its state: count what it yields, and ask here.
        """
        saved = self._start if start is None else self._parse(start)
        unit, lag = self._unit()
        position = saved.next_position
        end = self._end_of(position)
        rest = max(0, -(-(end - position - lag) // unit))
        if items > rest:
            epochs, items = divmod(items - rest - 1, len(self))
            position, items = end + epochs * self._epoch_samples, items + 1
            end = position + self._epoch_samples
        return self._state(min(position + items * unit, end), saved.quarantined)

    def _parse(self, state: Mapping[str, Any]) -> StreamState:
        content = {name: value for name, value in state.items() if name != _WORKER}
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

    # Iteration

    def __iter__(self) -> Iterator[Any]:
        # Not a generator: the iteration begins here, not when its first item is asked for, so
        # that a state that is taken in between holds for it.
        unit, _ = self._unit()
        info = get_worker_info()
        if info is None:
            position = self._position()
            self._go_on(position, self._end_of(position))
        else:
            self._begin_in_worker(info.id, info.num_workers, unit)
        self._run.begun = True
        self._fetcher.leave_out(self._quarantined)
        return self._items(self._run)

    def _begin_in_worker(self, worker: int, workers: int, unit: int) -> None:
        if workers > MAX_WORKERS:
            raise ConfigError(
                Problem(f"at most {MAX_WORKERS} workers", "num_workers", str(workers), "Use fewer")
            )
        run, version = self._run, self._progress.version
        if self._seen is None:
            position = self._position()
        elif self._seen != version:
            position = self._progress.moved_to
        elif not run.begun:  # it was loaded into this worker
            return
        elif run.next == run.end:
            position = run.end
        else:
            # Workers read ahead, each as far as it comes: only the loop knows where it stopped.
            raise ConfigError(
                Problem(
                    "the last iteration was broken off",
                    "DataLoader(persistent_workers=True)",
                    f"worker {worker} of {workers}",
                    "Say where to go on: stream.load_state_dict(stream.state_at(batches))",
                )
            )
        self._seen = version
        end = self._end_of(position)
        self._go_on(position + worker * unit, end)

    def _unit(self) -> tuple[int, int]:
        """Positions that all ranks take together for one item each, and where this rank's begin."""
        rank, world = self._topology()
        return (self.batch_size, 0) if self.batch_size else (world, rank)

    def _items(self, run: _Run) -> Iterator[Any]:
        rank, world = self._topology()
        unit, lag = self._unit()
        info = get_worker_info()
        stride = unit if info is None else unit * info.num_workers
        offsets = np.arange(rank, unit, world)
        size = FIRST_CHUNK
        while True:
            if run.stale:
                self._check_latest(run)
                run.stale, size = False, FIRST_CHUNK
            left = -(-(run.end - run.next - lag) // stride)
            if left <= 0:
                break
            count = min(left, max(1, size // max(1, len(offsets))))
            size = min(4 * size, self._chunk)
            starts = run.next + stride * np.arange(count, dtype=np.int64)
            positions = (starts[:, None] + offsets).ravel()
            chunk = self._read(run.end, positions[positions < run.end])
            following = np.minimum(starts + stride, run.end).tolist()
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
        run.next = run.end
        if info is not None:
            self._progress.finish(info.id, info.num_workers, run.end)

    def _read(self, end: int, positions: NDArray[np.int64]) -> Chunk:
        """The samples at some positions of the epoch that ends at ``end``."""
        start = end - self._epoch_samples
        return self._fetcher.fetch(
            self.plan.locate(start // self._epoch_samples, positions - start)
        )

    def _quarantine(self, shard: str) -> None:
        self._quarantined.add(shard)
        self._state(0, self._quarantined)  # raises when there are too many
        logger.warning("%s is not intact: the stream goes on without it", shard)

    def _check_latest(self, run: _Run) -> None:
        if run is not self._run:
            raise RuntimeError("this iteration is over: the stream was moved, or begun anew")


def _check(
    sources: Mapping[str, Any],
    weights: Mapping[str, float] | None,
    batch_size: int | None,
    bad_shards: str,
) -> None:
    problems = []
    if batch_size is not None and batch_size < 1:
        problems.append(Problem("must be at least 1", "batch_size", str(batch_size), "Raise it"))
    if bad_shards not in ("refuse", "quarantine"):
        problems.append(Problem("not a rule", "bad_shards", bad_shards, "Use refuse or quarantine"))
    differing = set() if weights is None else set(weights) ^ set(sources)
    if differing:
        problems.append(
            Problem(
                "weights and sources have different names",
                "weights",
                ", ".join(sorted(differing)),
                "Give one weight for each source",
            )
        )
    if problems:
        raise ConfigError(problems)


def _open_readers(sources: Mapping[str, str | ShardReader]) -> dict[str, ShardReader]:
    readers: dict[str, ShardReader] = {}
    problems: list[Problem] = []
    for name, source in sources.items():
        try:
            readers[name] = source if isinstance(source, ShardReader) else ShardReader(source)
        except UserError as error:
            problems += error.problems
    if problems:
        raise ShardError(problems)
    return readers
