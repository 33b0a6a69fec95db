"""The same graph, and the same choice on it, on 1, 2, 3 and 4 ranks; and after one was killed."""

import shutil
import signal
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
WORKER = Path(__file__).parent / "workers" / "graph_on_ranks.py"
FACILITY = {"objective": "facility_location"}
HINGE = {"objective": "graph_cut_hinge", "trade_off": 4.0}
CASES = [
    {**FACILITY, "limits": {"rows": 150}},
    {**FACILITY, "limits": {"rows": 60, "minimum": {"a": 40}}, "require": True},
    {**FACILITY, "limits": {"budget": 3000}, "require": True},
    {**FACILITY, "limits": {"rows": 150}, "method": "random"},
    {**FACILITY, "limits": {"rows": 150}, "method": "greedi", "parts": 5},
    {**HINGE, "limits": {"rows": 150}, "require": True},
    {**HINGE, "limits": {"rows": 100, "maximum": {"a": 30}}, "method": "greedi", "parts": 7},
]


@pytest.fixture(scope="module")
def folder(rank_folder):
    return rank_folder(CASES)


@pytest.fixture(scope="module")
def alone(folder, run_ranks):
    return run_ranks(WORKER, folder, 1)


@pytest.mark.parametrize("ranks", [3, pytest.param(4, marks=pytest.mark.extended)])
def test_graph_and_choice_are_the_same_on_any_number_of_ranks(folder, alone, run_ranks, ranks):
    assert run_ranks(WORKER, folder, ranks) == alone
    assert "cannot be written" in alone[-1][0]


def test_ranks_that_were_killed_go_on_where_they_were(folder, alone, start_ranks, run_ranks):
    shutil.rmtree(folder / "cache-2", ignore_errors=True)
    started = start_ranks(WORKER, 2, str(folder), "kill", "2")
    for process in started:
        process.communicate(timeout=300)
    assert -signal.SIGKILL in [process.returncode for process in started]
    assert list((folder / "cache-2").glob("*/parts/*"))
    assert run_ranks(WORKER, folder, 2) == alone
