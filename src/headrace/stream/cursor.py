"""Where a stream is: in a process of its own, or in the workers of a DataLoader.

A position counts samples over the whole stage.  An item is what all ranks take together: a batch,
or a sample each.  Without workers the items of an iteration follow one another; worker ``w`` of
``W`` makes the items ``w``, ``w + W`` and so on, which a DataLoader puts back in order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch.utils.data import get_worker_info

from headrace.errors import ConfigError, Problem
from headrace.stream.progress import MAX_WORKERS, Progress


@dataclass(slots=True)
class Run:
    """One iteration, in one process."""

    next: int
    """Position of the item that comes next here; at most ``end``."""
    end: int
    """Of the epoch."""
    stride: int = 0
    """Positions from one item of this process to its next; 0: not begun."""
    stale: bool = False
    """What was read ahead is of no use: the stream moved, or leaves out another shard."""
    broken_off: bool = False
    """It should go on in a worker, but how far the loop came only the main process knows."""


class Cursor:
    """Moves through the epochs of a stage."""

    def __init__(self, epoch_samples: int) -> None:
        """Begin at the first of the ``epoch_samples`` positions of the first epoch."""
        self.run = Run(0, epoch_samples)
        """The latest iteration, or the one that is to begin."""
        self._epoch_samples = epoch_samples
        self._progress = Progress()
        self._seen: int | None = None
        """The last move that this worker process has followed."""

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "run": replace(self.run, stride=0), "_seen": None}

    @property
    def position(self) -> int:
        """Where an iteration that began now would go on."""
        return max(self.run.next, self._progress.finished)

    def end_of(self, position: int) -> int:
        """The end of the epoch that a position lies in."""
        return (position // self._epoch_samples + 1) * self._epoch_samples

    def move(self, position: int) -> None:
        """The next iteration, here and in workers that live on, begins at ``position``."""
        self._enter(position, self.end_of(position))
        self._progress.move(position)

    def begin(self, unit: int) -> Run:
        """Begin an iteration over items of ``unit`` positions."""
        info = get_worker_info()
        if info is None:
            self._enter(self.position, self.end_of(self.position))
            self.run.stride = unit
        else:
            self._begin_in_worker(info.id, info.num_workers, unit)
        return self.run

    def finish(self, run: Run) -> None:
        """The items of this process are out; the next iteration is the next epoch."""
        run.next = run.end
        info = get_worker_info()
        if info is not None:
            self._progress.finish(info.id, info.num_workers, run.end)

    def worker_mark(self) -> list[int] | None:
        """What tells the state of this worker from others: worker, workers, epoch."""
        info = get_worker_info()
        epoch = self.run.end // self._epoch_samples - 1
        return None if info is None else [info.id, info.num_workers, epoch]

    def load_worker(self, position: int, mark: list[int]) -> None:
        """Go on where this very worker was; ``ConfigError`` in any other process."""
        info = get_worker_info()
        worker, workers, epoch = mark
        if info is None or (worker, workers) != (info.id, info.num_workers):
            raise ConfigError(
                Problem(
                    "the state is that of one DataLoader worker",
                    "the stream's state",
                    f"worker {worker} of {workers}",
                    "Load it through StatefulDataLoader with as many workers; state_at gives a "
                    "state for any number of them",
                )
            )
        self._enter(position, (epoch + 1) * self._epoch_samples)
        self._seen = self._progress.version
        if self.run.next == self.run.end:
            self._progress.finish(worker, workers, self.run.end)

    def _begin_in_worker(self, worker: int, workers: int, unit: int) -> None:
        if workers > MAX_WORKERS:
            raise ConfigError(
                Problem(f"at most {MAX_WORKERS} workers", "num_workers", str(workers), "Use fewer")
            )
        run, version = self.run, self._progress.version
        if self._seen is None:  # the process is new
            position = self.position
        elif self._seen != version:
            position = self._progress.moved_to
        elif not run.stride:  # the state of this worker was loaded
            run.stride = unit * workers
            return
        elif run.next == run.end:
            position = run.end
        else:
            # Raised when its first item is asked for: here it would end the process.
            run.broken_off = True
            return
        self._seen = version
        self._enter(position + worker * unit, self.end_of(position))
        self.run.stride = unit * workers

    def _enter(self, position: int, end: int) -> None:
        self.run.stale = True
        self.run = Run(min(position, end), end)
