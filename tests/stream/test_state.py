from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import ConfigError
from headrace.stream.batching import BatchPlan
from headrace.stream.plan import MAX_STAGE_BYTES, Source, StagePlan
from headrace.stream.state import StreamState

BASE: dict[str, object] = {
    "seed": 1,
    "stage": "s",
    "temperature": 1.0,
    "block": 1024,
    "shard_window": 8,
    "batch_size": 4,
    "window_batches": 50,
    "sort_by_length": True,
    "fingerprint": "f",
}


def plan_with(**change: object) -> BatchPlan:
    chosen = {**BASE, **change}
    batching = {
        name: chosen.pop(name) for name in ("batch_size", "window_batches", "sort_by_length")
    }
    fingerprint = chosen.pop("fingerprint")
    sources = [Source("en", "a", (30,), str(fingerprint)), Source("hi", "b", (11,), "g")]
    plan = StagePlan(sources, **chosen)  # type: ignore[arg-type]
    lengths = [[np.ones(30, np.int32)], [np.ones(11, np.int32)]]
    return BatchPlan(plan, lengths, **batching)  # type: ignore[arg-type]


@given(st.integers(0, 10**9))
def test_a_state_survives_the_file(step: int) -> None:
    plan = plan_with()
    state = StreamState.at(plan, step)
    loaded = StreamState.from_json(state.to_json(), "checkpoint")
    assert loaded == state
    assert loaded.next_position == plan.position(step)
    loaded.check(plan_with(), "checkpoint")


def test_a_state_is_below_one_kilobyte() -> None:
    name = "\\" * MAX_STAGE_BYTES
    text = StreamState.at(plan_with(stage=name, seed=2**63, batch_size=10**6), 10**12).to_json()
    assert len(text.encode()) < 1000


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 2}, "seed"),
        ({"temperature": 0.5}, "mixture"),
        ({"block": 512}, "mixture block"),
        ({"shard_window": 4}, "shard window"),
        ({"batch_size": 8}, "batch size"),
        ({"window_batches": 10}, "window batches"),
        ({"sort_by_length": False}, "sort by length"),
        ({"fingerprint": "other"}, "sources"),
        ({"stage": "t"}, "another stage"),
    ],
)
def test_what_changed_is_named(change: dict[str, object], named: str) -> None:
    state = StreamState.at(plan_with(), 3)
    with pytest.raises(ConfigError) as caught:
        state.check(plan_with(**change), "step-000003")
    (problem,) = caught.value.problems
    assert named in problem.what
    assert problem.where == "step-000003"
    assert problem.remedy


def test_all_changes_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        StreamState.at(plan_with(), 3).check(plan_with(seed=2, batch_size=8), "here")
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize("field", ["next_step", "next_position", "fingerprint"])
def test_a_state_that_contradicts_itself_is_refused(field: str) -> None:
    content = json.loads(StreamState.at(plan_with(), 3).to_json())
    content[field] = "0" * 16 if field == "fingerprint" else 5
    state = StreamState.from_json(json.dumps(content), "here")
    with pytest.raises(ConfigError, match="contradicts"):
        state.check(plan_with(), "here")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"version":2}', '{"version":1}', '{"version":true}']
)
def test_what_is_not_a_state_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="here"):
        StreamState.from_json(text, "here")


def test_all_damaged_fields_are_listed() -> None:
    content = json.loads(StreamState.at(plan_with(), 3).to_json())
    content.update(next_step="3", settings=None)
    with pytest.raises(ConfigError) as caught:
        StreamState.from_json(json.dumps(content), "here")
    assert [problem.where for problem in caught.value.problems] == [
        "here: next_step",
        "here: settings",
    ]
