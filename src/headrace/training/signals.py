"""Signals that ask a run to stop: SIGTERM, and SIGUSR1 as schedulers send before a time limit.

The handler only sets a flag.  The loop adds the flags of all ranks in the collective that it makes
at every step anyway, so that all ranks stop at the same step boundary.
"""

from __future__ import annotations

import signal
from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class StopFlag:
    """Whether a stop signal has arrived in this process; a context manager that listens."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._previous: dict[signal.Signals, object] = {}

    def __enter__(self) -> StopFlag:
        for number in STOP_SIGNALS:
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
