"""Make the next batches in a background thread while the current one is trained on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Prefetcher(Generic[Item]):
    """Iterates over ``make(start), make(start + 1), ... make(stop - 1)``, a few steps ahead.

    A context manager: leaving it stops the thread.  At most ``depth`` items are made ahead.  An
    exception of ``make`` is raised where its item would have come, and ends the iteration.
    """

    def __init__(self, make: Callable[[int], Item], start: int, stop: int, depth: int = 2) -> None:
        """``depth`` is at least 1.  Making starts at once, in one thread, in the order of steps."""
        if depth < 1:
            raise ValueError(f"the depth of a prefetcher is at least 1, not {depth}")
        self._make = make
        self._next_step = start
        self._stop = stop
        self._pending: deque[Future[Item]] = deque()
        # A single worker, so that make needs no locks and items are made in order.
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="headrace-prefetch")
        for _ in range(depth):
            self._submit()

    def __iter__(self) -> Prefetcher[Item]:
        return self

    def __next__(self) -> Item:
        if not self._pending:
            self.close()
            raise StopIteration
        try:
            item = self._pending.popleft().result()
        except BaseException:
            self.close()
            raise
        self._submit()
        return item

    def __enter__(self) -> Prefetcher[Item]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Drop what was made ahead and end the thread, after the item that it is making."""
        self._next_step = self._stop
        self._pending.clear()
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _submit(self) -> None:
        if self._next_step < self._stop:
            self._pending.append(self._executor.submit(self._make, self._next_step))
            self._next_step += 1
