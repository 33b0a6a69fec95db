"""Which rank is slow, from the times of each rank's own part of the steps."""

import logging
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.config.watch import WatchConfig
from headrace.training.watch.stragglers import Pace, Stragglers

SETTINGS = WatchConfig(straggler_factor=1.5, straggler_steps=30)
HOSTS = ("a", "b", "c", "d")


def window(stragglers, own, steps=10, seconds=1.0):
    for _ in range(steps):
        stragglers.add(own, seconds)
    return stragglers.take_window()


@given(st.lists(st.floats(0.01, 10), min_size=2, max_size=8))
def test_the_slowest_rank_and_its_ratio_to_the_median_of_the_others(own):
    found = window(Stragglers(settings=SETTINGS), own)
    slowest = found["slowest_rank"]
    assert own[slowest] == max(own)
    others = sorted(own[:slowest] + own[slowest + 1 :])
    middle = (others[(len(others) - 1) // 2] + others[len(others) // 2]) / 2
    assert found["slowest_ratio"] == pytest.approx(max(own) / middle)


def test_a_single_rank_is_not_compared():
    assert window(Stragglers(), []) == {"slowest_rank": None, "slowest_ratio": None}


def test_a_rank_that_stays_slow_is_warned_of_once_with_its_node(caplog):
    stragglers = Stragglers(HOSTS, SETTINGS)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            window(stragglers, [0.3, 0.3, 0.6, 0.3])
        assert not caplog.records
        for _ in range(5):
            window(stragglers, [0.3, 0.3, 0.6, 0.3])
    (record,) = caplog.records
    assert "rank 2 on c is slow: for 30 steps it has taken 2.0 times" in record.getMessage()
    assert "0.300 s" in record.getMessage()


@pytest.mark.parametrize(
    ("windows", "why"),
    [
        ([[0.3, 0.6], [0.6, 0.3]] * 10, "it is now this one, now that one"),
        ([[0.3, 0.4]] * 20, "it is not slower by the factor"),
        ([[0.003, 0.006]] * 20, "it does not matter beside the rest of the step"),
        ([[0.3, 0.6], [0.3, 0.6], [0.3, 0.3]] * 10, "it recovers"),
    ],
)
def test_no_warning(windows, why, caplog):
    stragglers = Stragglers(HOSTS[:2], SETTINGS)
    with caplog.at_level(logging.WARNING):
        for own in windows:
            window(stragglers, own)
    assert not caplog.records, why


def test_who_recovers_and_gets_slow_again_is_warned_of_again(caplog):
    stragglers = Stragglers(HOSTS, SETTINGS)
    with caplog.at_level(logging.WARNING):
        for own in ([0.3, 0.6, 0.3], [0.3, 0.3, 0.3], [0.3, 0.6, 0.3]):
            for _ in range(3):
                window(stragglers, own)
    assert len(caplog.records) == 2


def test_the_pace_takes_the_wait_for_data_and_the_forward_pass():
    def batches():
        time.sleep(0.02)
        yield 1

    pace = Pace()
    for _ in pace.each(batches()):
        with pace.forward():
            time.sleep(0.02)
        time.sleep(0.05)  # what is left out: it may be a wait for other ranks
    assert pace.take() >= 0.04
    assert pace.take() == 0


def test_where_the_forward_pass_waits_for_others_the_data_alone_counts():
    pace = Pace(shares_forward=True)
    with pace.forward():
        time.sleep(0.02)
    assert pace.take() == 0
