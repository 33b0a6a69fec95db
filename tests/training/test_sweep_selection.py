from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from headrace.training.sweep_selection import (
    FinishedRun,
    difference,
    select,
    selection_sentences,
    selection_table,
)


def run(method: str, seed: int, loss: float | None, score: float | None = 0.5) -> FinishedRun:
    return FinishedRun(f"{method}-{seed}", method, seed, loss, score, 2.0 * seed)


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=2, max_size=45))
def test_intervals_are_those_of_a_paired_t_test(pairs: list[tuple[float, float]]) -> None:
    mine = {seed: one for seed, (one, _) in enumerate(pairs)}
    other = {seed: two for seed, (_, two) in enumerate(pairs)}
    found = difference({**mine, 99: 1.0}, {**other, 98: 1.0})
    assert found is not None
    values = [one - two for one, two in pairs]
    assert found["seeds"] == len(pairs)
    assert found["mean"] == pytest.approx(statistics.fmean(values))
    deviation = statistics.stdev(values)
    half = stats.t.ppf(0.975, len(values) - 1) * deviation / len(values) ** 0.5
    assert (found["high"] - found["low"]) / 2 == pytest.approx(half, rel=2e-3, abs=1e-9)


def test_what_is_noise_and_what_is_not() -> None:
    runs = [run("good", seed, 0.30 + 0.01 * seed, 0.60) for seed in (1, 2, 3)]
    runs += [run("near", seed, 0.31 + 0.01 * (4 - seed), 0.62) for seed in (1, 2, 3)]
    runs += [run("bad", seed, 0.50 + 0.011 * seed, 0.40) for seed in (1, 2, 3)]
    runs += [run("unfinished", 1, 0.10)]
    selection = select(runs, ["bad", "good", "near"])
    assert selection is not None
    assert (selection["method"], selection["run"]) == ("good", "good-1")
    assert selection["by_score"] == "near"
    assert [other["method"] for other in selection["others"]] == ["near", "bad"]
    assert [other["verdict"] for other in selection["others"]] == ["within noise", "worse"]
    assert selection["methods"]["good"]["rank_hours"] == pytest.approx(4.0)
    said = " ".join(selection_sentences(selection))
    assert "Not to be told from it with these seeds: `near`." in said
    assert "By mean score it would be `near`." in said
    assert "the best of 3" in said
    table = selection_table(selection, "Micro F1")
    assert [row[0] for row in table.rows] == ["good", "near", "bad"]
    assert table.rows[0][5] == "best"
    assert table.rows[1][3].startswith("+0.0100 [−")
    assert table.rows[2][4].startswith("−20.00 [−20.00")


def test_scores_of_which_less_is_better() -> None:
    runs = [run("low", 1, 0.3, 8.123), run("high", 1, 0.4, 12.5)]
    selection = select(runs, ["low", "high"], less_is_better=True)
    assert selection is not None
    assert selection["by_score"] == "low"
    rows = selection_table(selection, "Perplexity", is_number=True).rows
    assert (rows[0][2], rows[1][2], rows[1][4]) == ("8.123", "12.5", "+4.38")


def test_one_seed_tells_nothing_of_noise() -> None:
    selection = select([run("a", 1, 0.3), run("b", 1, 0.9), run("c", 1, None)], ["a", "b", "c"])
    assert selection is not None
    assert [other["verdict"] for other in selection["others"]] == ["one seed: not known"]
    assert "With a single seed nothing can be said about noise." in selection_sentences(selection)
    assert select([run("a", 1, None)], ["a"]) is None
    assert select([], []) is None
    alone = select([run("a", 1, 0.3, None)], ["a"])
    assert alone is not None
    assert alone["others"] == []
    assert alone["by_score"] is None
    assert selection_table(alone, "F1").rows[0][2] == "–"
