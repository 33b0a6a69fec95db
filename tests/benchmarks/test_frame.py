"""Rounds, medians and the JSON file, on contestants that measure nothing."""

import json

from hypothesis import given
from hypothesis import strategies as st

from headrace.benchmarks.frame import Measured, Row, environment, interleave, render, report


@given(names=st.lists(st.text(min_size=1), min_size=1, max_size=5, unique=True),
       rounds=st.integers(1, 6))  # fmt: skip
def test_every_contestant_runs_once_a_round_and_the_first_turns(names, rounds):
    calls = []
    found = interleave(
        {name: lambda name=name: calls.append(name) or name for name in names}, rounds
    )
    assert found == {name: [name] * rounds for name in names}
    for number in range(rounds):
        turn = calls[number * len(names) : (number + 1) * len(names)]
        assert sorted(turn) == sorted(names)
        assert turn[0] == names[number % len(names)]


def test_the_file_and_the_table_have_the_medians_and_the_spread():
    slow = Row("slow", "ms a step", (9.0, 3.0, 5.0), {"tokens_per_s": 1500.0})
    fast = Row("fast", "ms a step", (1.0, 2.0, 4.0), {"tokens_per_s": 6000.0, "padding": 0.25})
    found = Measured({"network": "tiny"}, (slow, fast), {"ratio": 2.5}, ("torch",))
    facts = {"cpu": "some"}
    written = json.loads(json.dumps(report("x", "headrace benchmark x", found, facts, 3)))
    assert written["rows"][0] == {
        "name": "slow", "unit": "ms a step", "median": 5.0, "lowest": 3.0, "highest": 9.0,
        "values": [9.0, 3.0, 5.0], "tokens_per_s": 1500.0,
    }  # fmt: skip
    assert written["figures"] == {"ratio": 2.5}
    assert (written["rounds"], written["environment"]) == (3, facts)
    table = render("x", found, facts, 3)
    assert "5.00 [3.00 9.00]" in table
    assert "6,000" in table
    assert "environment: cpu some" in table
    padding_of_slow = next(line for line in table.splitlines() if line.startswith("slow"))
    assert padding_of_slow.endswith("-")


def test_the_environment_names_what_is_absent():
    facts = environment(["torch", "no-such-package"])
    assert facts["torch"][0].isdigit()
    assert facts["no-such-package"] == "absent"
    assert {"cpu", "cores", "threads", "python", "headrace"} <= facts.keys()
