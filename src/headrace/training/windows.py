"""Many inputs in their order, computed with others that cost about the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_WINDOW = 1024
"""Inputs that are sorted together; so many are in memory at a time."""

Input = TypeVar("Input")
Output = TypeVar("Output")


def in_windows(
    inputs: Iterable[Input], work: Callable[[list[Input]], Sequence[Output]]
) -> Iterator[Output]:
    """Yield what ``work`` makes of each input, in their order."""
    remaining = iter(inputs)
    while window := list(islice(remaining, _WINDOW)):
        yield from work(window)


def batches_by_cost(costs: NDArray[np.integer], batch_size: int) -> Iterator[NDArray[np.int64]]:
    """Yield the numbers of inputs that are computed at once, the dearest ones first."""
    order = np.argsort(-costs, kind="stable")
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
