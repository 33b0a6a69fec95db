"""The same choice on 1, 2, 3 and 4 ranks, to the last bit."""

from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
WORKER = Path(__file__).parent / "workers" / "select_on_ranks.py"
CASES = [
    {"limits": {"rows": 150}},
    {"limits": {"rows": 150}, "method": "exact_greedy"},
    {"limits": {"rows": 150}, "method": "random", "seed": 3},
    {"limits": {"rows": 150}, "method": "top_similarity"},
    {"limits": {"rows": 400}, "method": "exact_greedy"},
    {"limits": {"fraction": 0.1, "minimum": {"a": 40}, "maximum": {"b": 200}}, "require": True},
    {"limits": {"rows": 100, "proportional": True}, "method": "exact_greedy"},
    {"limits": {"budget": 3000}, "require": True, "max_passes": 15},
    {"limits": {"budget": 3000}, "method": "random"},
    {"limits": {"budget": 3000, "maximum": {"a": 700}}, "require": True, "max_passes": 15},
    {"limits": {"budget": 3000, "proportional": True}, "max_passes": 15},
    {"limits": {"rows": 150}, "trade_off": "balanced"},
    {"limits": {"rows": 150}, "method": "one_pass", "sample_rows": 1000},
    {
        "limits": {"fraction": 0.1, "minimum": {"a": 240}, "maximum": {"b": 150}}, "require": True,
        "method": "one_pass", "sample_rows": 700, "warm_passes": 2, "seed": 5,
    },
    {"limits": {"rows": 100, "proportional": True}, "method": "one_pass", "sample_rows": 300},
    {"limits": {"rows": 1200}, "trade_off": "balanced"},  # more than the pool of the order holds
]  # fmt: skip
BROKEN = [
    {"limits": {"rows": 10}, "broken": True},
    {"limits": {"rows": 10}, "broken": True, "method": "one_pass"},
]


@pytest.fixture(scope="module")
def folder(rank_folder):
    return rank_folder([*CASES, *BROKEN])


@pytest.fixture(scope="module")
def alone(folder, run_ranks):
    return run_ranks(WORKER, folder, 1)


@pytest.mark.parametrize(
    "ranks",
    [pytest.param(2, marks=pytest.mark.extended), 3, pytest.param(4, marks=pytest.mark.extended)],
)
def test_the_choice_is_the_same_on_any_number_of_ranks(folder, alone, run_ranks, ranks):
    together = run_ranks(WORKER, folder, ranks)
    for case, one, many in zip(CASES, alone, together, strict=False):
        assert one["rows"] == many["rows"], case
        for name in ("gains", "scores", "objective", "bound", "knee", "suggested"):
            assert one[name] == many[name], (case, name)
    # what is wrong on one rank is raised on all, instead of a wait without end
    for one, many in zip(alone[-2:], together[-2:], strict=True):
        assert one == many
        assert "row 3" in one[0]
