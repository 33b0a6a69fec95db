"""Which steps are anomalies, and what is done about them."""

import math
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.config.anomalies import AnomaliesConfig, SpikeConfig
from headrace.training.anomalies import Anomalies

LOSSES = st.floats(0.01, 100)


def spikes(**settings):
    return Anomalies(AnomaliesConfig(spike=SpikeConfig(**settings)))


def test_by_default_a_step_that_is_not_finite_ends_the_run():
    anomalies = Anomalies()
    assert anomalies.judge(1, 2.0, None).applied
    for loss in (math.nan, math.inf):
        verdict = anomalies.judge(2, loss, None)
        assert verdict.action == "stop"
        assert verdict.reason == f"the loss is {loss}"
    assert anomalies.judge(3, 1e30, None).applied
    assert not anomalies.needs_gradient_norm


def test_a_gradient_that_is_not_finite_is_as_bad_as_a_loss():
    anomalies = Anomalies(AnomaliesConfig(not_finite="skip"))
    assert anomalies.needs_gradient_norm
    assert anomalies.judge(1, 2.0, math.nan).action == "skip"
    assert anomalies.judge(2, 2.0, 3.0).applied


def test_the_loss_scaler_of_fp16_is_left_alone():
    anomalies = Anomalies(AnomaliesConfig(not_finite="skip"), scaled=True)
    assert anomalies.judge(1, math.inf, math.inf).applied
    assert not anomalies.needs_gradient_norm


@given(losses=st.lists(LOSSES, min_size=4, max_size=30), loss=LOSSES)
def test_a_spike_is_what_the_docs_say_it_is(losses, loss):
    """Above the median by so many spreads, of the last steps that were applied."""
    window, deviations = 6, 5.0
    anomalies = spikes(window=window, deviations=deviations)
    applied = []
    for step, value in enumerate([*losses, loss], 1):
        last = applied[-window:]
        verdict = anomalies.judge(step, value, None)
        if len(last) < window:
            assert verdict.applied
        else:
            middle = median(last)
            spread = 1.4826 * median([abs(each - middle) for each in last])
            limit = middle + deviations * max(spread, 0.01 * middle)
            assert verdict.applied == (value <= limit)
        if verdict.applied:
            applied.append(value)


def test_a_gradient_norm_is_compared_with_the_median():
    anomalies = spikes(window=4, deviations=None, gradient_ratio=3)
    assert anomalies.needs_gradient_norm
    for step, norm in enumerate((1.0, 2.0, 2.0, 9.0), 1):
        assert anomalies.judge(step, 1.0, norm).applied
    assert anomalies.judge(5, 1.0, 6.0).applied
    verdict = anomalies.judge(6, 1.0, 12.5)
    assert verdict.action == "skip"
    assert "more than 3 times 4" in verdict.reason


def test_too_many_skips_in_a_row_end_the_run():
    anomalies = Anomalies(AnomaliesConfig(not_finite="skip", skips_in_a_row=2))
    actions = [anomalies.judge(n, loss, None).action
               for n, loss in enumerate([math.nan, math.nan, 1.0, *[math.nan] * 3], 1)]  # fmt: skip
    assert actions == ["skip", "skip", "apply", "skip", "skip", "stop"]


def test_a_branch_goes_back_only_so_often():
    anomalies = Anomalies(AnomaliesConfig(not_finite="rollback", rollbacks=2))
    assert anomalies.judge(1, math.nan, None).action == "rollback"
    anomalies.rollbacks = 2
    verdict = anomalies.judge(1, math.nan, None)
    assert verdict.action == "stop"
    assert "after going back 2 times" in verdict.reason


def test_a_step_that_is_left_out_is_skipped_without_being_looked_at():
    anomalies = Anomalies(AnomaliesConfig(not_finite="rollback"))
    anomalies.left_out = frozenset({3})
    verdict = anomalies.judge(3, 1.0, None)
    assert (verdict.action, verdict.known) == ("skip", True)


@given(losses=st.lists(LOSSES | st.just(math.nan), max_size=40), cut=st.integers(0, 40))
@pytest.mark.parametrize("action", ["skip", "stop"])
def test_a_judge_that_is_resumed_says_the_same(losses, cut, action):
    def judge():
        spike = SpikeConfig(window=5, deviations=2, gradient_ratio=2)
        return Anomalies(AnomaliesConfig(not_finite=action, skips_in_a_row=3, spike=spike))

    whole, first, second = judge(), judge(), judge()
    expected = [whole.judge(n, loss, loss) for n, loss in enumerate(losses, 1)]
    found = [first.judge(n, loss, loss) for n, loss in enumerate(losses[:cut], 1)]
    second.load(first.state())
    found += [second.judge(n, loss, loss) for n, loss in enumerate(losses[cut:], cut + 1)]
    assert found == expected
