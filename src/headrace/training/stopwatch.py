"""Time of parts of a step, on the device that works on them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

Item = TypeVar("Item")


class Stopwatch:
    """Adds up the times of the parts it is held against, until they are taken.

    On a GPU they are those between two events in the stream, so nothing waits for the device.
    """

    def __init__(self, device: torch.device | None = None) -> None:
        """``device``: where the parts are computed; default: the CPU."""
        self._on_gpu = device is not None and device.type == "cuda"
        self._seconds = 0.0
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    def waiting(self, items: Iterable[Item]) -> Iterator[Item]:
        """Iterate over items, and take the time for which the host waits for each."""
        iterator = iter(items)
        while True:
            began = time.perf_counter()
            try:
                item = next(iterator)
            except StopIteration:
                return
            self._seconds += time.perf_counter() - began
            yield item

    @contextmanager
    def running(self) -> Iterator[None]:
        """Take the time of what is computed in the ``with`` block, on the device."""
        if self._on_gpu:
            begin, end = _event(), _event()
            begin.record()
            yield
            end.record()
            self._events.append((begin, end))
        else:
            began = time.perf_counter()
            yield
            self._seconds += time.perf_counter() - began

    def take(self) -> float:
        """Seconds since the last call; what the GPU has not finished is in the next."""
        seconds, self._seconds = self._seconds, 0.0
        while self._events and self._events[0][1].query():  # type: ignore[no-untyped-call]
            begin, end = self._events.pop(0)
            seconds += float(begin.elapsed_time(end)) / 1000
        return seconds


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
