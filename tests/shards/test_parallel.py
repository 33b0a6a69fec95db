"""Work on shards in several processes."""

from __future__ import annotations

import os
import signal
from functools import partial
from operator import floordiv

import pytest

from headrace.errors import HeadraceError
from headrace.shards.parallel import in_processes


@pytest.mark.parametrize("workers", [1, 2])
def test_outcomes_are_in_the_order_of_the_calls(workers: int) -> None:
    done: list[int] = []
    calls = [partial(floordiv, 60, number) for number in range(1, 7)]
    assert in_processes(calls, workers, done.append) == [60, 30, 20, 15, 12, 10]
    assert sorted(done) == [0, 1, 2, 3, 4, 5]
    with pytest.raises(ZeroDivisionError):
        in_processes([*calls, partial(floordiv, 60, 0)], workers, done.append)


def kill_oneself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_is_killed_is_named_as_the_reason() -> None:
    with pytest.raises(HeadraceError, match="killed, perhaps for lack of memory"):
        in_processes([kill_oneself, kill_oneself], 2, lambda _: None)
