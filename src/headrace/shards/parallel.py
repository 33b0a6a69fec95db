"""The same work on many shards in several processes, its outcomes in the order of the shards."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import TypeVar

from headrace.errors import ConfigError, HeadraceError, Problem

T = TypeVar("T")

_WORTH_A_PROCESS = 64 << 20
"""Bytes of tars below which another process takes longer to start than to work."""


def check_workers(workers: int | None) -> None:
    """Raise :class:`ConfigError` if the option ``--workers`` is out of range."""
    if workers is not None and workers < 1:
        raise ConfigError(Problem("out of range", "--workers", str(workers), "Give 1 or more"))


def workers_for(total_bytes: int) -> int:
    """How many processes to read so many bytes with: at most the cores of this process."""
    cores = len(os.sched_getaffinity(0))
    return max(1, min(cores, total_bytes // _WORTH_A_PROCESS))


def in_processes(
    calls: Sequence[Callable[[], T]], workers: int, on_done: Callable[[int], object]
) -> list[T]:
    """The outcomes of picklable calls, in their order; ``on_done`` gets the number of each.

    Raises what the first call that fails raises, and :class:`HeadraceError` if a process was
    killed.
    """
    if workers <= 1 or len(calls) <= 1:
        outcomes = []
        for number, call in enumerate(calls):
            outcomes.append(call())
            on_done(number)
        return outcomes
    # Not by fork: the clients of remote stores run threads.
    context = multiprocessing.get_context("forkserver")
    ignore = partial(signal.signal, signal.SIGINT, signal.SIG_IGN)
    with ProcessPoolExecutor(min(workers, len(calls)), context, ignore) as pool:
        futures = {pool.submit(call): number for number, call in enumerate(calls)}
        try:
            for future in as_completed(futures):
                on_done(futures[future])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        try:
            return [future.result() for future in futures]
        except BrokenProcessPool as error:
            raise HeadraceError(
                "a process that read shards was killed, perhaps for lack of memory: start again "
                "with a smaller number of --workers"
            ) from error
