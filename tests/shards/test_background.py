"""Threads that fetch ahead: the order of calls, their errors, and what is left of them."""

from __future__ import annotations

import gc
import os
import threading
import weakref
from concurrent.futures import wait

import pytest

from headrace.shards.background import Background


class Outcome:
    """Something whose end can be seen."""


def threads_of_fetching() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "shard-fetch"]


def end_all(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def test_calls_run_in_their_order_and_errors_are_those_of_their_futures() -> None:
    done: list[int] = []
    background = Background(1)

    def call(number: int) -> int:
        done.append(number)
        return 12 // number

    futures = [background.submit(lambda number=number: call(number)) for number in (3, 0, 4)]
    wait(futures, 10)
    assert done == [3, 0, 4]
    assert (futures[0].result(), futures[2].result()) == (4, 3)
    with pytest.raises(ZeroDivisionError):
        futures[1].result()


def test_no_more_threads_than_asked_for_and_none_when_all_is_done() -> None:
    before = set(threads_of_fetching())
    background = Background(3)
    go = threading.Event()
    futures = [background.submit(lambda: go.wait(10)) for _ in range(20)]
    mine = [thread for thread in threads_of_fetching() if thread not in before]
    assert len(mine) == 3
    go.set()
    assert all(future.result(10) for future in futures)
    end_all(mine)
    # And it can be used again.
    assert background.submit(os.getpid).result(10) == os.getpid()


def test_nothing_is_kept_of_what_was_done() -> None:
    before = set(threads_of_fetching())
    background = Background(2)
    future = background.submit(Outcome)
    outcome = weakref.ref(future.result(10))
    end_all([thread for thread in threads_of_fetching() if thread not in before])
    assert outcome() is not None
    del future
    gc.collect()
    assert outcome() is None


def test_a_forked_child_has_threads_of_its_own() -> None:
    background = Background(1)
    go = threading.Event()
    held = background.submit(lambda: go.wait(10))
    pid = os.fork()
    if pid == 0:  # pragma: no cover - in another process
        code = 1
        try:
            code = 0 if background.submit(lambda: 7).result(10) == 7 else 1
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    go.set()
    assert held.result(10)
