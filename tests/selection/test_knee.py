"""What a warning of the knee says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.selection.knee import knee_warning


def report(**other):
    return {
        "first_negative_gain": 30, "method": "exact_greedy", "maximised": "graph_cut",
        "trade_off": 10.0, "rows": 400, "chosen": 100, "suggested_trade_off": None, "knee": 26.7,
        **other,
    }  # fmt: skip


def test_controls_and_selections_before_the_knee_have_none():
    assert knee_warning(report(first_negative_gain=None), "x") is None
    assert knee_warning(report(method="random"), "x") is None


@given(st.one_of(st.just(0.0), st.floats(1e-6, 1e6)))
def test_the_trade_off_that_it_names_is_not_above_the_one_that_is_harmless(largest):
    text = knee_warning(report(suggested_trade_off=largest), "lambda")
    named = float(text.rpartition("take lambda ")[2].split(",")[0])
    assert named <= largest
    assert named == pytest.approx(largest, rel=0.011)
    assert "rows (its knee is at about 27). To mend it, choose at most 29, or" in text
    assert "take lambda balanced, which is n/k - 2 = 2, or" in text


def test_what_would_not_help_is_not_advised():
    text = knee_warning(report(chosen=300, trade_off=0.0, knee=None), "lambda")
    assert text.endswith("300 of 400 rows. To mend it, choose at most 29")
    assert "balanced" not in text
