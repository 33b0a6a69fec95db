"""A few threads that fetch ahead: they never keep a process from ending, nor survive a fork."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class Background:
    """Runs calls in at most ``threads`` daemon threads, in the order in which they came.

    The threads of :class:`concurrent.futures.ThreadPoolExecutor` would hold up the end of the
    process for as long as a download takes.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._start_anew()

    def _start_anew(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = queue.SimpleQueue()
        self._running = 0

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Run the call soon; the future has its outcome."""
        if self._pid != os.getpid():
            # The threads stayed with the parent, and whatever they held.
            self._start_anew()
        future: Future[T] = Future()
        self._calls.put((future, call))
        with self._lock:
            if self._running < self._threads:
                self._running += 1
                threading.Thread(target=self._work, name="shard-fetch", daemon=True).start()
        return future

    def _work(self) -> None:
        while True:
            future, call = self._calls.get()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(call())
            except BaseException as error:
                future.set_exception(error)
