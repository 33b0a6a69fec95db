from __future__ import annotations

import threading

import pytest

from headrace.stream.loader import Prefetcher


def test_items_come_in_order() -> None:
    with Prefetcher(lambda step: step * step, 3, 200, depth=4) as items:
        assert list(items) == [step * step for step in range(3, 200)]


def test_nothing_to_make() -> None:
    with Prefetcher(lambda step: step, 5, 5) as items:
        assert list(items) == []


def test_an_exception_comes_where_its_item_would_have_come() -> None:
    def make(step: int) -> int:
        if step == 3:
            raise KeyError("broken sample")
        return step

    with Prefetcher(make, 0, 10, depth=5) as items:
        assert [next(items) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(KeyError, match="broken sample"):
            next(items)
        assert list(items) == []


def test_items_are_made_ahead_and_no_further_than_the_depth() -> None:
    made = []
    third = threading.Event()

    def make(step: int) -> int:
        made.append(step)
        if step == 2:
            third.set()
        return step

    with Prefetcher(make, 0, 100, depth=3):
        assert third.wait(10), "nothing is made before it is asked for"
    assert made == [0, 1, 2]


def test_closing_early_ends_the_thread() -> None:
    before = threading.active_count()
    with Prefetcher(lambda step: step, 0, 10**9, depth=8) as items:
        next(items)
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
    assert list(items) == []


def test_making_happens_in_one_thread_that_is_not_the_callers() -> None:
    with Prefetcher(lambda _: threading.get_ident(), 0, 50) as items:
        makers = set(items)
    assert len(makers) == 1
    assert threading.get_ident() not in makers


def test_a_depth_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="depth"):
        Prefetcher(lambda step: step, 0, 1, depth=0)
