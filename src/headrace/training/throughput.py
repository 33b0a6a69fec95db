"""How fast a branch trains, and where the time of its steps goes.

The clock is the host's.  In every step the host waits on the device for the sums over the ranks;
no measure makes it wait a second time.  On a GPU the time of the forward and backward passes and
the optimizer is taken by events in the stream.  They are read when they have passed: what the
optimizer does behind the sums of a step may count with the next one.
"""

from __future__ import annotations

import math
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed

from headrace.training.flops import NetworkFlops
from headrace.training.stopwatch import Item, Stopwatch

_FINENESS = math.log(1.01)
"""Times of steps are counted in classes of this width, so a percentile is right within 0.5 %."""


class Meter:
    """Takes the times of the steps of a branch; every rank has one."""

    def __init__(
        self,
        device: torch.device | None = None,
        ranks: int = 1,
        *,
        flops: NetworkFlops | None = None,
        peak_flops: float | None = None,
    ) -> None:
        """Start with no steps.

        Args:
            device: where this rank computes; default: the CPU.
            ranks: in the process group.
            flops: what the network costs, if that is known.
            peak_flops: of one rank's device, a second, if that is known.
        """
        self.device = device or torch.device("cpu")
        self.ranks = ranks
        self.flops = flops
        self.peak_flops = peak_flops
        self.whole = _Account()
        """Since the first step of the branch, over all starts."""
        self._window = _Account()
        """Since the last log."""
        self._seconds: list[float] = []
        """Of each step since the last log."""
        self._waiting = Stopwatch()
        self._computing = Stopwatch(self.device)
        self._mark = time.perf_counter()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def each(self, batches: Iterable[Item]) -> Iterator[Item]:
        """Iterate over batches, and take the time for which the loop waits for them."""
        self._mark = time.perf_counter()
        yield from self._waiting.waiting(batches)

    def computing(self) -> AbstractContextManager[None]:
        """Take the time of what is computed in the ``with`` block, on the device."""
        return self._computing.running()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the time of the ``with`` block out: validation and saving are no part of a step."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._mark += time.perf_counter() - began

    def end_step(self, *, samples: int, tokens: int, labels: int, pairs: int) -> float:
        """Take the time of a step whose sums have come from the device.

        The arguments are those of the whole batch, over all ranks, without padding.

        Returns:
            Seconds since the step before ended: waiting for data, the step itself, and the logs of
            the step before.
        """
        now = time.perf_counter()
        seconds, self._mark = now - self._mark, now
        waited = self._waiting.take()
        # the optimizer's kernels may still be running: what they take counts with the next step
        computed = self._computing.take()
        flops = self.flops.of(tokens=tokens, labels=labels, pairs=pairs) if self.flops else 0.0
        for account in (self.whole, self._window):
            account.add(
                seconds,
                waited=waited,
                computed=computed,
                samples=samples,
                tokens=tokens,
                flops=flops,
            )
        self._seconds.append(seconds)
        return seconds

    def take_window(self) -> dict[str, float | None]:
        """Return the measures of the steps since the last call, and begin anew.

        A collective of all ranks.  The data wait and the memory are those of the rank that has
        most of it; times are those of this rank, which ends its steps together with the others.
        """
        window, self._window = self._window, _Account()
        here = _memory(self.device)
        most = torch.tensor(
            [window.waited, self.whole.waited, *here.values()],
            dtype=torch.float64,
            device=self.device,
        )
        if self.ranks > 1:
            torch.distributed.all_reduce(most, torch.distributed.ReduceOp.MAX)
        window_wait, whole_wait, *memory = most.tolist()
        self.whole.longest_wait = max(self.whole.longest_wait, whole_wait)
        for name, amount in zip(here, memory, strict=True):
            self.whole.memory[name] = max(self.whole.memory.get(name, 0), int(amount))
        p50, p95, longest = (
            np.percentile(self._seconds, [50, 95, 100]).tolist() if self._seconds else [None] * 3
        )
        self._seconds = []
        return {
            **self._rates(window, window_wait),
            "step_seconds_p50": p50,
            "step_seconds_p95": p95,
            "step_seconds_max": longest,
            **self._memory(),
        }

    def summary(self) -> dict[str, float | None]:
        """Return the measures of the whole branch, as of the last call of :meth:`take_window`."""
        return {
            **self._rates(self.whole, self.whole.longest_wait),
            "step_seconds_p50": self.whole.percentile(0.5),
            "step_seconds_p95": self.whole.percentile(0.95),
            "step_seconds_max": self.whole.longest,
            **self._memory(),
        }

    def _rates(self, account: _Account, wait: float) -> dict[str, float | None]:
        total = max(account.total, 1e-9)
        a_rank = account.flops / total / self.ranks
        return {
            "tokens_per_s": account.tokens / total,
            "samples_per_s": account.samples / total,
            "data_wait": wait,
            "data_wait_share": wait / total,
            "overhead_share": max(0.0, 1 - (account.waited + account.computed) / total),
            "flops_per_token": account.flops / max(1, account.tokens) if self.flops else None,
            "mfu": a_rank / self.peak_flops if self.flops and self.peak_flops else None,
        }

    def _memory(self) -> dict[str, float | None]:
        names = ("memory_allocated", "memory_reserved", "memory_resident")
        return {name: self.whole.memory.get(name) for name in names}

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint has to keep, JSON-able; it is the main rank's that is kept."""
        return self.whole.to_json()

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state`."""
        self.whole = _Account.from_json(state)


class _Account:
    """Sums over some steps."""

    def __init__(self) -> None:
        self.classes: Counter[int] = Counter()
        """How many steps took about ``exp(class * _FINENESS)`` seconds."""
        self.total = 0.0
        self.longest = 0.0
        self.waited = 0.0
        self.longest_wait = 0.0
        """``waited`` of the rank that waited longest."""
        self.computed = 0.0
        self.samples = 0
        self.tokens = 0
        self.flops = 0.0
        self.memory: dict[str, int] = {}
        """Peaks in bytes."""

    def add(
        self,
        seconds: float,
        *,
        waited: float,
        computed: float,
        samples: int,
        tokens: int,
        flops: float,
    ) -> None:
        """Add a step."""
        self.classes[round(math.log(max(seconds, 1e-9)) / _FINENESS)] += 1
        self.total += seconds
        self.longest = max(self.longest, seconds)
        self.waited += waited
        self.computed += computed
        self.samples += samples
        self.tokens += tokens
        self.flops += flops

    def percentile(self, share: float) -> float | None:
        """Return the time that this share of the steps did not take longer than."""
        rank = math.ceil(share * sum(self.classes.values()))
        for number in sorted(self.classes):
            rank -= self.classes[number]
            if rank <= 0:
                return min(self.longest, math.exp(number * _FINENESS))
        return None

    def to_json(self) -> dict[str, Any]:
        """Return all sums as a JSON-able object."""
        return {**vars(self), "classes": {str(number): n for number, n in self.classes.items()}}

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> _Account:
        """Go on from :meth:`to_json`."""
        account = cls()
        vars(account).update(state)
        account.classes = Counter({int(number): n for number, n in state["classes"].items()})
        return account


def _memory(device: torch.device) -> dict[str, int]:
    """Peaks of this process in bytes: resident since it started, on its GPU in this branch."""
    if device.type != "cuda":
        return {"memory_resident": peak_resident()}
    return {
        "memory_allocated": torch.cuda.max_memory_allocated(device),
        "memory_reserved": torch.cuda.max_memory_reserved(device),
        "memory_resident": peak_resident(),
    }


def peak_resident() -> int:
    """Return the largest resident size of this process since it started, in bytes.

    ``getrusage`` would do, but on Linux it begins with the size of the process that started this
    one.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
