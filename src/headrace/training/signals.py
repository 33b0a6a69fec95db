"""Signals that ask a run to stop: SIGTERM, and SIGUSR1 as schedulers send before a time limit.

The handler sets a flag.  The loop adds the flags of all ranks in the collective that it makes at
every step anyway, so that all ranks stop at the same step boundary.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
_SHIELDED = {signal.SIGUSR1}
"""Signals that processes started by this one do not get.  SIGTERM is not among them: it is by it
that such processes are ended."""


class StopFlag:
    """Whether a stop signal has arrived in this process; a context manager that listens.

    Schedulers send SIGUSR1 to every process of a job, and it kills those that do not know it.
    While this listens, the signal is blocked in the main thread and so in all processes and threads
    that are started from it; one thread takes it for all.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._previous: dict[signal.Signals, object] = {}
        self._error: Callable[[], Exception] | None = None
        self._mask: set[int] = set()
        self._over = threading.Event()
        self._taker = threading.Thread(target=self._take, name="headrace-signals", daemon=True)

    def __enter__(self) -> StopFlag:
        for number in STOP_SIGNALS:
            self._previous[number] = signal.signal(number, self._handle)
        self._taker.start()  # with the mask as it is
        self._mask = set(signal.pthread_sigmask(signal.SIG_BLOCK, _SHIELDED))
        return self

    def __exit__(self, *_: object) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        self._over.set()
        self._taker.join()
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    @property
    def asked(self) -> bool:
        """Whether the run is to stop, for work that is broken off between steps."""
        return self.received is not None

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

    def _take(self) -> None:
        """Be the thread that a signal interrupts; its handler runs in the main one."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SHIELDED)
        self._over.wait()

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        again, self.received = self.received, signal.Signals(number)
        if self._error is not None:
            raise self._error()
        _say(self.received, again)


def _say(received: signal.Signals, again: signal.Signals | None) -> None:
    """Say that the signal has been heard; one process of each node does."""
    if os.environ.get("LOCAL_RANK", "0") != "0":
        return
    text = "a checkpoint is saved as soon as the step, the batch or the shard in hand is finished"
    if again is not None:
        text = f"already stopping since {again.name}: {text}; SIGKILL ends the run at once"
    # not print: a signal may interrupt one
    os.write(2, f"\nheadrace: {received.name}: {text}\n".encode())
