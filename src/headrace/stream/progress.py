"""What a stream and its copies in DataLoader workers must know of one another.

A DataLoader hands its dataset to worker processes and hears nothing back: a stream would begin
each epoch where the first began.  A few numbers in memory that the processes share (anonymous:
it ends with the last of them) tell the next workers how far the ones before them came, and living
workers where the main process wants the stream to go on.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

MAX_WORKERS = 128
"""Workers of one DataLoader."""


class Progress:
    """Shared by a stream and the copies of it that worker processes get, forked or spawned."""

    def __init__(self) -> None:
        self._attach(_shared_zeros())

    def __getstate__(self) -> dict[str, Any]:
        return {"tensor": self._tensor}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # To a spawned worker the tensor travels by reference; a copy is a stream of its own.
        tensor: torch.Tensor = state["tensor"]
        if not tensor.is_shared():  # type: ignore[no-untyped-call]
            own = _shared_zeros()
            own.numpy()[:] = tensor.numpy()
            tensor = own
        self._attach(tensor)

    def _attach(self, tensor: torch.Tensor) -> None:
        self._tensor = tensor
        numbers = tensor.numpy()
        self._head = numbers[:2]
        self._ends = numbers[2:].reshape(MAX_WORKERS + 1, MAX_WORKERS)

    @property
    def version(self) -> int:
        """Grows with every move."""
        return int(self._head[0])

    @property
    def moved_to(self) -> int:
        """The position that the last move went to."""
        return int(self._head[1])

    def move(self, position: int) -> None:
        """The stream goes on at ``position``, whatever the workers did before."""
        self._ends[:] = 0
        self._head[1] = position
        self._head[0] += 1

    def finish(self, worker: int, workers: int, position: int) -> None:
        """One of some workers has made all that is its own before ``position``."""
        self._ends[workers, worker] = position

    @property
    def finished(self) -> int:
        """The position before which workers have made everything, 0 if there is none."""
        # A row for each number of workers: the rows of several loaders do not mix.
        used = np.flatnonzero(self._ends[:, 0])
        return max((int(self._ends[row, :row].min()) for row in used), default=0)


def _shared_zeros() -> torch.Tensor:
    length = 2 + (MAX_WORKERS + 1) * MAX_WORKERS
    # Not share_memory_(): it copies with threads, for which a forked process waits for ever.
    storage = torch.UntypedStorage._new_shared(8 * length)  # type: ignore[no-untyped-call]
    tensor = torch.empty(0, dtype=torch.int64).set_(storage, 0, (length,), (1,))
    tensor.numpy()[:] = 0
    return tensor
