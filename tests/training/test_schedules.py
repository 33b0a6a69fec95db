"""Learning-rate schedules against values computed by hand, and against other implementations."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import get_scheduler

from headrace.config.learning_rate_checks import check_schedule
from headrace.config.learning_rates import ScheduleConfig
from headrace.training.schedules import describe_schedule, learning_rate_factor


def factors(total, **settings):
    schedule = ScheduleConfig(**settings)
    return [learning_rate_factor(schedule, step, total) for step in range(total)]


def of_transformers(name, total, warmup=0, **settings):
    """What a scheduler of transformers gives; its warm-up is s / w, not (s + 1) / (w + 1)."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = get_scheduler(
        name, optimizer, num_warmup_steps=warmup, num_training_steps=total,
        scheduler_specific_kwargs=settings,
    )  # fmt: skip
    values = []
    for _ in range(total):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return values


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


def test_inverse_sqrt_goes_on_from_the_warmup():
    values = factors(100, type="inverse_sqrt", warmup_steps=3)
    assert values[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    # Vaswani et al.: min(n ** -0.5, n * w ** -1.5), over its maximum, with n = step + 1
    assert values == pytest.approx([min(n**-0.5, n * 4**-1.5) / 4**-0.5 for n in range(1, 101)])
    assert min(factors(100, type="inverse_sqrt", final_ratio=0.3)) == 0.3


def test_wsd_is_stable_between_warmup_and_decay():
    values = factors(20, type="wsd", warmup_steps=4, decay_ratio=0.25, final_ratio=0.1)
    assert values[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert values[4:16] == [1.0] * 12
    assert values[15:] == pytest.approx([1.0, 0.82, 0.64, 0.46, 0.28])
    assert factors(20, type="wsd") == factors(20, type="wsd", decay_steps=4)
    # a decay that is longer than what the warm-up leaves begins right behind it
    late = factors(10, type="wsd", warmup_steps=6, decay_steps=9)
    assert late[6:] == pytest.approx([1.0, 0.75, 0.5, 0.25])


def test_restarts_begin_each_cycle_at_the_full_rate():
    values = factors(30, type="restarts", cycles=3, final_ratio=0.2)
    one = factors(10, type="cosine", final_ratio=0.2)
    assert values == pytest.approx(one * 3)


@pytest.mark.parametrize(
    ("ours", "theirs", "settings"),
    [
        ({"type": "cosine"}, "cosine", {}),
        ({"type": "linear"}, "linear", {}),
        ({"type": "restarts", "cycles": 4}, "cosine_with_restarts", {"num_cycles": 4}),
        (
            {"type": "wsd", "decay_ratio": 0.3}, "warmup_stable_decay",
            {"num_decay_steps": 12, "decay_type": "linear"},
        ),
        ({"type": "inverse_sqrt"}, "inverse_sqrt", {"timescale": 1}),
    ],
)  # fmt: skip
def test_shapes_agree_with_transformers(ours, theirs, settings):
    expected = of_transformers(theirs, 40, **settings)
    assert factors(40, **ours) == pytest.approx(expected, abs=1e-12)


def test_the_ratio_is_a_share_of_all_steps():
    by_ratio = factors(40, type="cosine", warmup_ratio=0.1)
    assert by_ratio == factors(40, type="cosine", warmup_steps=4)


@given(
    st.sampled_from(["cosine", "linear", "constant", "wsd", "inverse_sqrt"]),
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


@given(st.integers(1, 200), st.floats(0, 0.9), st.floats(0, 1), st.integers(1, 12))
def test_factors_of_restarts_stay_between_the_final_ratio_and_one(total, warmup, final, cycles):
    settings = {"warmup_ratio": warmup, "final_ratio": final, "cycles": cycles}
    values = factors(total, type="restarts", **settings)[round(warmup * total) :]
    assert all(final - 1e-12 <= value <= 1 for value in values)
    assert not values or values[0] == 1.0


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"type": "restarts"}, "cycles"),
        ({"type": "cosine", "cycles": 2}, "cycles"),
        ({"type": "linear", "decay_ratio": 0.1}, "decay_ratio"),
        ({"type": "cosine", "decay_steps": 10}, "decay_steps"),
        ({"type": "wsd", "warmup_ratio": 0.6, "decay_ratio": 0.5}, "decay_ratio"),
    ],
)
def test_keys_that_do_not_belong_to_the_type_are_refused(settings, where):
    (problem,) = check_schedule(ScheduleConfig(**settings), "headrace.schedule")
    assert problem.where == f"headrace.schedule.{where}"


def test_a_schedule_in_a_few_words():
    shown = describe_schedule(ScheduleConfig(type="wsd", warmup_ratio=0.1, final_ratio=0.05))
    assert shown == "wsd, warm-up 0.1, decay 0.2, to 0.05"
    assert describe_schedule(ScheduleConfig(type="restarts", cycles=3)) == "restarts x 3"
