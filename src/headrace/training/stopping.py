"""A stop signal where ranks work for minutes without a step: while samples are chosen.

Where ranks work together, each collective carries the signal, so that all leave at the same one.
Where each works by itself, a signal raises at once on the rank that gets it, and a file that all
ranks see tells the others.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.errors import Problem, UserError
from headrace.selection.ranks import Ranks
from headrace.training.distributed import World, gather_json
from headrace.training.signals import StopFlag

_POLL_SECONDS = 0.5
_AGAIN_SECONDS = 5.0


class StoppableRanks(Ranks):
    """Ranks whose collectives raise on all of them once a stop signal has reached any."""

    def __init__(self, ranks: Ranks, stop_flag: StopFlag) -> None:
        self.rank, self.size = ranks.rank, ranks.size
        self._ranks = ranks
        self._stop_flag = stop_flag

    def sum(self, values: NDArray[Any]) -> NDArray[Any]:
        """The element-wise sum over all ranks; integers are exact."""
        self._look()
        return self._ranks.sum(values)

    def max(self, values: NDArray[Any]) -> NDArray[Any]:
        """The element-wise maximum over all ranks."""
        self._look()
        return self._ranks.max(values)

    def gather(self, values: NDArray[Any]) -> NDArray[Any]:
        """The arrays of all ranks one after the other; their lengths may differ."""
        self._look()
        return self._ranks.gather(values)

    def _look(self) -> None:
        mine = np.array([self._stop_flag.received is not None], dtype=np.int64)
        if self._ranks.max(mine)[0]:
            raise _error()


@contextmanager
def stopping_alone(stop_flag: StopFlag, marker: Path, world: World) -> Iterator[None]:
    """Raise ``UserError`` at once when a stop signal reaches this rank, or soon if another one.

    ``marker`` is the path of a file that does not exist and that all ranks see; the caller
    deletes it.
    """
    over = threading.Event()

    def watch() -> None:
        pause = _POLL_SECONDS
        while not over.wait(pause):
            stopped = stop_flag.received is not None or marker.exists()
            if stopped and callable(signal.getsignal(signal.SIGUSR1)):  # else it would kill
                # again and again: what is raised while an object is finalised gets lost
                os.kill(os.getpid(), signal.SIGUSR1)
                pause = _AGAIN_SECONDS

    watcher = threading.Thread(target=watch, daemon=True)
    try:
        with stop_flag.raising(_error):
            watcher.start()
            yield
    finally:
        over.set()
        if world.size > 1 and stop_flag.received is not None:
            marker.touch()


def stopped_on_any_rank(stop_flag: StopFlag, world: World) -> bool:
    """Whether a stop signal has reached any rank; one answer for all."""
    return any(gather_json(stop_flag.received is not None, world))


def _error() -> UserError:
    return UserError(Problem("stopped by a signal", "headrace.selection"))
