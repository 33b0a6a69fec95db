"""Ranks that are slower than the others, from the times of their own part of the steps.

A rank's own part is what it does without waiting for other ranks: it waits for its data, and
computes the forward pass.  From the backward pass on all ranks take the time of the slowest.  With
ZeRO-3 the forward pass gathers weights from all ranks, so that only the data is a rank's own.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from statistics import median

import torch

from headrace.config.watch import WatchConfig
from headrace.training.stopwatch import Item, Stopwatch

logger = logging.getLogger(__name__)

_WORTH_SAYING = 0.05
"""Share of a step by which a rank holds the others up before it is warned of."""


class Pace:
    """Takes the times of this rank's own part of the steps."""

    def __init__(self, device: torch.device | None = None, *, shares_forward: bool = False) -> None:
        """``shares_forward``: the forward pass waits for other ranks, and is left out."""
        self._shares_forward = shares_forward
        self._own = Stopwatch(device)

    def each(self, batches: Iterable[Item]) -> Iterator[Item]:
        """Iterate over batches, and take the time for which this rank waits for them."""
        return self._own.waiting(batches)

    def forward(self) -> AbstractContextManager[None]:
        """Take the time of the forward pass in the block, on the device."""
        return nullcontext() if self._shares_forward else self._own.running()

    def take(self) -> float:
        """Seconds since the last call; what the GPU has not finished is in the next."""
        return self._own.take()


class Stragglers:
    """Compares the ranks' own times."""

    def __init__(self, hosts: Sequence[str] = (), settings: WatchConfig | None = None) -> None:
        """``hosts`` are those of all ranks, for the warning."""
        settings = settings or WatchConfig()
        self._hosts = hosts
        self._factor = settings.straggler_factor
        self._enough = settings.straggler_steps
        self._own: list[float] = []
        self._seconds = 0.0
        self._steps = 0
        self._slow: int | None = None
        self._slow_for = 0
        self._warned: int | None = None

    def add(self, own: Sequence[float], seconds: float) -> None:
        """Add a step: each rank's own seconds, and those of the step."""
        self._own = [sum(pair) for pair in zip(self._own or [0.0] * len(own), own, strict=True)]
        self._seconds += seconds
        self._steps += 1

    def take_window(self) -> dict[str, int | float | None]:
        """Return the slowest rank since the last call, and begin anew; None with a single rank.

        Warns of a rank that was the slowest by more than the factor, and by a twentieth of the
        step, in all windows of the last steps.
        """
        own, steps, seconds = self._own, self._steps, self._seconds
        self._own, self._steps, self._seconds = [], 0, 0.0
        if len(own) < 2:
            return {"slowest_rank": None, "slowest_ratio": None}
        slowest = max(range(len(own)), key=own.__getitem__)
        usual = median(own[:slowest] + own[slowest + 1 :])
        ratio = own[slowest] / max(usual, 1e-9)
        slow = (
            self._factor is not None
            and ratio > self._factor
            and own[slowest] - usual > _WORTH_SAYING * seconds
        )
        if not slow:
            self._slow, self._slow_for, self._warned = None, 0, None
        else:
            self._slow_for = steps + (self._slow_for if slowest == self._slow else 0)
            self._slow = slowest
            if self._slow_for >= self._enough and self._warned != slowest:
                self._warn(slowest, ratio, own[slowest] - usual, steps)
        return {"slowest_rank": slowest, "slowest_ratio": ratio}

    def _warn(self, rank: int, ratio: float, excess: float, steps: int) -> None:
        self._warned = rank
        logger.warning(
            "rank %d on %s is slow: for %d steps it has taken %.1f times as long as the others for "
            "its data and forward pass, and holds each step up by %.3f s",
            rank,
            self._hosts[rank] if self._hosts else "its node",
            self._slow_for,
            ratio,
            excess / max(1, steps),
        )
