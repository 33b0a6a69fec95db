"""Trying again: when attempts begin, with a clock that only waiting moves."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.shards.retry import RetryPolicy, with_retries


class Clock:
    """Stands still but for waits, and for what is done."""

    def __init__(self) -> None:
        self.now = 100.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("time.monotonic", lambda: clock.now)
    monkeypatch.setattr("time.sleep", clock.sleep)
    return clock


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(deadline=st.floats(0.5, 100), first_wait=st.floats(0.1, 60), duration=st.floats(0, 20))
def test_no_attempt_begins_after_the_deadline(
    clock: Clock, deadline: float, first_wait: float, duration: float
) -> None:
    policy = RetryPolicy(
        attempts=1000, deadline=deadline, first_wait=first_wait, longest_wait=60, request_timeout=9
    )
    start = clock.now
    begun: list[float] = []

    def fail(seconds: float) -> None:
        assert 0 < seconds <= min(9, deadline)
        begun.append(clock.now - start)
        clock.now += duration
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        with_retries(fail, "https://host/file", policy)
    assert begun[0] == 0
    assert max(begun) < deadline


def test_attempts_are_counted(clock: Clock) -> None:
    begun: list[float] = []

    def fail(_: float) -> None:
        begun.append(clock.now)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        with_retries(fail, "https://host/file", RetryPolicy(attempts=7, deadline=10_000))
    assert len(begun) == 7
