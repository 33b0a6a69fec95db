"""Learning-rate schedules against values computed by hand."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.config.learning_rates import ScheduleConfig
from headrace.training.schedules import learning_rate_factor


def factors(total, **settings):
    schedule = ScheduleConfig(**settings)
    return [learning_rate_factor(schedule, step, total) for step in range(total)]


def test_cosine_with_warmup():
    values = factors(12, type="cosine", warmup_steps=2)
    assert values[:3] == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert values[7] == pytest.approx(0.5)  # half of the ten steps behind the warm-up
    assert values[11] == pytest.approx(0.5 * (1 + math.cos(0.9 * math.pi)))


def test_linear_falls_to_its_final_ratio():
    values = factors(10, type="linear", final_ratio=0.5)
    assert values == pytest.approx([1.0 - 0.05 * step for step in range(10)])


def test_constant_stays():
    assert factors(5, type="constant") == [1.0] * 5


def test_the_ratio_is_a_share_of_all_steps():
    by_ratio = factors(40, type="cosine", warmup_ratio=0.1)
    assert by_ratio == factors(40, type="cosine", warmup_steps=4)


@given(
    st.sampled_from(["cosine", "linear", "constant"]),
    st.integers(1, 200),
    st.floats(0, 0.9),
    st.floats(0, 1),
)
def test_factors_stay_between_zero_and_one_and_never_rise_behind_the_warmup(
    kind, total, warmup, final
):
    values = factors(total, type=kind, warmup_ratio=warmup, final_ratio=final)
    assert all(0 <= value <= 1 for value in values)
    behind = values[round(warmup * total) :]
    assert all(later <= earlier + 1e-12 for earlier, later in itertools.pairwise(behind))
