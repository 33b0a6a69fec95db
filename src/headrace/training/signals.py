"""Signals that ask a run to stop: SIGTERM, and SIGUSR1 as schedulers send before a time limit.

The handler sets a flag.  The loop adds the flags of all ranks in the collective that it makes at
every step anyway, so that all ranks stop at the same step boundary.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class StopFlag:
    """Whether a stop signal has arrived in this process; a context manager that listens."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._previous: dict[signal.Signals, object] = {}
        self._error: Callable[[], Exception] | None = None

    def __enter__(self) -> StopFlag:
        for number in STOP_SIGNALS:
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    @contextmanager
    def raising(self, error: Callable[[], Exception]) -> Iterator[None]:
        """Raise in the block as soon as a signal arrives, or at once if one has arrived before.

        Only for work that can be broken off anywhere, as by a kill.
        """
        if self.received is not None:
            raise error()
        self._error = error
        try:
            yield
        finally:
            self._error = None

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        if self._error is not None:
            raise self._error()
