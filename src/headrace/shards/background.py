"""A few threads that fetch ahead: they never keep a process from ending, nor survive a fork."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class Background:
    """Runs calls in at most ``threads`` daemon threads, in the order in which they came.

    The threads of :class:`concurrent.futures.ThreadPoolExecutor` would hold up the end of the
    process for as long as a download takes, and last as long as the process.  These end when
    there is nothing left to do, and keep nothing of what they did: an outcome that nobody has a
    future of is gone, with the lease that it may be.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._start_anew()

    def _start_anew(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._calls: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._running = 0

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Run the call soon; the future has its outcome."""
        if self._pid != os.getpid():
            # The threads stayed with the parent, and whatever they held.
            self._start_anew()
        future: Future[T] = Future()
        with self._lock:
            self._calls.append((future, call))
            if self._running < self._threads:
                self._running += 1
                threading.Thread(target=self._work, name="shard-fetch", daemon=True).start()
        return future

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._calls:
                    self._running -= 1
                    return
                future, call = self._calls.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(call())
            except BaseException as error:
                future.set_exception(error)
