"""Loggers that may have to wait for a server, in a thread of their own."""

from __future__ import annotations

import logging
import queue
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable

from headrace.training.callbacks import Record

logger = logging.getLogger(__name__)


class Destination(ABC):
    """What records are sent to; all methods are called in one thread, in this order."""

    name: str
    """For warnings."""

    @abstractmethod
    def open(self, record: Record) -> None:
        """Begin, or go on, with the facts of a branch.  It may be called again if it fails."""

    @abstractmethod
    def send(self, record: Record) -> None:
        """Send a record of kind ``train`` or ``validation``, once for each step and kind.

        It is called again with the same record if it fails.
        """

    @abstractmethod
    def close(self, *, complete: bool) -> None:
        """End; ``complete`` says whether the branch came to its last step."""


class Background:
    """Sends records to a destination while training goes on.

    What fails is tried again, with one warning; training neither waits nor ends.  At the end there
    is a limited time for what has not been sent.
    """

    def __init__(
        self, destination: Destination, *, pause: float = 20.0, patience: float = 30.0
    ) -> None:
        """Start nothing yet.

        Args:
            destination: where to.
            pause: seconds between two attempts.
            patience: seconds that :meth:`close` waits.
        """
        self.destination = destination
        self.pause = pause
        self.patience = patience
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._failing = False
        self._steps = self._last_step = 0
        self._thread: threading.Thread | None = None

    def on_start(self, record: Record, first_step: int) -> None:
        """Begin to send, or go on after :meth:`close`."""
        self._steps, self._last_step = record["steps"], first_step
        self._jobs, self._closing = queue.SimpleQueue(), threading.Event()
        self._jobs.put(lambda: self.destination.open(record))
        # a daemon: a server that does not answer must not keep the process
        self._thread = threading.Thread(
            target=self._work, name=f"headrace-{self.destination.name}", daemon=True
        )
        self._thread.start()

    def on_step(self, record: Record, *, logged: bool) -> None:
        """Send a logged step, later."""
        self._last_step = record["step"]
        if logged:
            self._jobs.put(lambda: self.destination.send(record))

    def on_validation(self, record: Record) -> None:
        """Send a validation, later."""
        self._jobs.put(lambda: self.destination.send(record))

    def close(self) -> None:
        """Send what is left, and end; give up after the time for it."""
        if self._thread is None:
            return
        complete = self._last_step == self._steps
        self._jobs.put(lambda: self.destination.close(complete=complete))
        self._jobs.put(None)
        self._closing.set()
        self._thread.join(self.patience)
        if self._thread.is_alive():
            logger.warning(
                "%s does not answer: not all of the records were sent; they are in metrics.jsonl",
                self.destination.name,
            )

    def _work(self) -> None:
        end: float | None = None
        while (job := self._jobs.get()) is not None:
            while not self._done(job):
                if self._closing.is_set():
                    end = end or time.monotonic() + self.patience
                    if time.monotonic() > end:
                        return
                    time.sleep(min(1.0, self.pause))
                else:
                    self._closing.wait(self.pause)

    def _done(self, job: Callable[[], None]) -> bool:
        try:
            job()
        except Exception as error:
            if not self._failing:
                logger.warning(
                    "%s: %s; training goes on, and so do the attempts to send",
                    self.destination.name,
                    " ".join(str(error).split())[:300] or type(error).__name__,
                )
            self._failing = True
            return False
        if self._failing:
            logger.warning("%s answers again", self.destination.name)
        self._failing = False
        return True
