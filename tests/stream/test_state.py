from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import ConfigError
from headrace.stream.batching import Batches, BatchPlan
from headrace.stream.grouping import PackPlan, TokenBudgetPlan
from headrace.stream.packing import samples_of
from headrace.stream.phases import MAX_PHASES, Phase
from headrace.stream.plan import MAX_STAGE_BYTES, Source, StagePlan
from headrace.stream.state import MAX_QUARANTINED, StreamState

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


NAMES = st.lists(st.text(st.characters(codec="utf-8"), max_size=12), max_size=9, unique=True)


@given(st.integers(0, 10**9), NAMES)
def test_a_state_survives_the_file(step: int, quarantined: list[str]) -> None:
    plan = plan_with()
    state = StreamState.at(plan, step, quarantined)
    assert state.quarantined == tuple(sorted(quarantined))
    loaded = StreamState.from_json(state.to_json(), "checkpoint")
    assert loaded == state
    assert loaded.next_position == plan.position(step)
    loaded.check(plan_with(), "checkpoint")


def test_a_state_is_below_one_kilobyte() -> None:
    name = "\\" * MAX_STAGE_BYTES
    phases = [Phase(start, weights=[1, 2]) for start in range(1, MAX_PHASES)]
    plan = plan_with(stage=name, seed=2**63, batch_size=10**6, phases=phases)
    text = StreamState.at(plan, 10**12).to_json()
    assert len(text.encode()) < 1000


def test_a_state_with_all_quarantined_shards_is_below_one_kilobyte() -> None:
    names = [f"l{number % 3}/train-{number * 7919:06d}.tar" for number in range(MAX_QUARANTINED)]
    text = StreamState.at(plan_with(), 10**9, names).to_json()
    assert len(text.encode()) < 1000
    assert StreamState.from_json(text, "here").quarantined == tuple(sorted(names))


def test_too_many_quarantined_shards_are_refused() -> None:
    names = [f"en/{number}.tar" for number in range(MAX_QUARANTINED + 1)]
    with pytest.raises(ConfigError, match="too many shards are quarantined"):
        StreamState.at(plan_with(), 3, names)
    with pytest.raises(ConfigError, match="too many shards are quarantined"):
        StreamState.at(plan_with(), 3, ["x" * 900]).to_json()


# Batches of 4 in windows of 5: a window is 20 positions of an epoch of 41, as is a block.
PHASED: dict[str, object] = {"block": 20, "window_batches": 5}


@pytest.mark.parametrize(
    ("step", "start", "accepted"),
    [
        (5, 20, True),
        (5, 19, False),  # in a block and a window that are over
        (6, 20, False),  # where the block in progress begins
        (6, 39, False),  # inside the block and the window in progress
        (6, 40, True),
        (10, 40, True),
        (11, 40, False),  # the last batch of the epoch
        (11, 41, True),  # the next epoch
        (12, 60, False),
        (12, 61, True),
    ],
)
def test_a_phase_may_be_edited_until_its_block_has_begun(
    step: int, start: int, accepted: bool
) -> None:
    saved = StreamState.at(plan_with(**PHASED, phases=[Phase(start, temperature=0)]), step)
    for edited in ([], [Phase(start, weights=[1, 9])], [Phase(start + 1, temperature=0)]):
        plan = plan_with(**PHASED, phases=edited)
        if accepted:
            saved.check(plan, "here")
            continue
        with pytest.raises(ConfigError, match="phase 2 of the mixture changed"):
            saved.check(plan, "here")


@pytest.mark.parametrize(("window_batches", "block", "end"), [(10, 20, 40), (5, 41, 41)])
def test_a_phase_inside_the_window_or_the_block_in_progress_is_fixed(
    window_batches: int, block: int, end: int
) -> None:
    """At step 2 only 8 positions are gone, but what is planned with them counts."""
    settings = {"window_batches": window_batches, "block": block}
    state = StreamState.at(plan_with(**settings), 2)
    with pytest.raises(ConfigError, match="phase 2"):
        state.check(plan_with(**settings, phases=[Phase(end - 1, temperature=0)]), "here")
    state.check(plan_with(**settings, phases=[Phase(end, temperature=0)]), "here")


def test_the_phase_that_changed_is_named_and_so_is_the_mixture() -> None:
    second, third = Phase(30, temperature=0), Phase(70, weights=[1, 2])
    state = StreamState.at(plan_with(**PHASED, phases=[second, third]), 40)

    def refused(**change: object) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            state.check(plan_with(**PHASED, **change), "here")
        return [problem.what.partition(" changed")[0] for problem in caught.value.problems]

    assert refused(phases=[second, Phase(70, weights=[2, 1])]) == ["phase 3 of the mixture"]
    assert refused(phases=[second]) == ["phase 3 of the mixture"]
    assert refused(phases=[second, third], temperature=0.5) == ["mixture"]
    assert refused(phases=[Phase(31, temperature=0), third], temperature=0.5) == [
        "mixture",
        "phase 2 of the mixture",
    ]
    assert refused(phases=[second, third], max_epochs=[None, 2]) == ["phase 2 of the mixture"]
    state.check(plan_with(**PHASED, phases=[second, third], max_epochs=[None, 60]), "here")


def test_a_stage_that_ended_cannot_be_made_longer_in_its_last_block() -> None:
    """It ends at position 38, within the block that begins at 20."""
    limited, longer = {"max_epochs": [0.9, 1]}, {"max_epochs": [1, 1]}
    state = StreamState.at(plan_with(**PHASED, **limited), 6)
    with pytest.raises(ConfigError, match="phase 1 of the mixture changed"):
        state.check(plan_with(**PHASED, **longer), "here")
    early = StreamState.at(plan_with(**PHASED, **limited), 5)
    early.check(plan_with(**PHASED, **longer), "here")


def test_a_stage_that_ended_cannot_be_made_longer_in_its_last_window() -> None:
    """It ends at position 38, at the end of a block, but within the window of 0 to 39."""
    window = {"window_batches": 10, "block": 19}
    state = StreamState.at(plan_with(**window, max_epochs=[0.9, 1]), 1)
    with pytest.raises(ConfigError, match="phase 1 of the mixture changed"):
        state.check(plan_with(**window, max_epochs=[1, 1]), "here")


@pytest.mark.parametrize("kind", ["samples", "tokens", "packed"])
def test_a_stage_that_ends_before_what_was_done_is_refused(kind: str) -> None:
    saved = batches_of(kind, [], [None, None])
    state = StreamState.at(saved, saved.steps_before(1) + 2)
    with pytest.raises(ConfigError) as caught:
        state.check(batches_of(kind, [], [1, 1]), "here")
    assert caught.value.problems[0].what.startswith("the stage ends after")
    assert "phase 1 of the mixture changed" in caught.value.problems[1].what


def batches_of(kind: str, phases: list[Phase], max_epochs: list[float | None]) -> Batches:
    """Batches of about four samples in windows of about five batches, over blocks of 16."""
    sources = [Source("en", "a", (30,), "f"), Source("hi", "b", (11,), "g")]
    plan = StagePlan(sources, seed=1, stage="s", phases=phases, max_epochs=max_epochs, block=16)
    random = np.random.default_rng(0)
    lengths = [[random.integers(1, 9, size).astype(np.int32)] for size in (30, 11)]
    if kind == "tokens":
        return TokenBudgetPlan(plan, lengths, tokens_per_batch=20, window_batches=5)
    if kind == "packed":
        return PackPlan(plan, lengths, pack_length=10, batch_size=2, window_batches=5)
    return BatchPlan(plan, lengths, batch_size=4, window_batches=5)


def rows_of(batches: Batches, step: int) -> list[list[int]]:
    samples = samples_of(batches.batch(step))
    return [samples.source.tolist(), samples.sample.tolist()]


EDITS = st.tuples(
    st.lists(st.integers(1, 100), max_size=2, unique=True),
    st.sampled_from([0.0, 0.6]),
    st.sampled_from([None, 1, 1.7]),
    st.sampled_from([None, 1, 2]),
)


@pytest.mark.parametrize("kind", ["samples", "tokens", "packed"])
@given(EDITS, EDITS, st.integers(0, 40))
def test_what_a_state_accepts_has_the_same_batches_behind_it(
    kind: str,
    one: tuple[list[int], float, float | None, float | None],
    other: tuple[list[int], float, float | None, float | None],
    step: int,
) -> None:
    saved, edited = (
        batches_of(kind, [Phase(start, temperature=heat) for start in sorted(starts)], [*limits])
        for starts, heat, *limits in (one, other)
    )
    if saved.total_steps is not None:
        step = min(step, saved.total_steps)
    state = StreamState.at(saved, step)
    try:
        state.check(edited, "here")
    except ConfigError:
        return
    for before in range(step):
        assert rows_of(saved, before) == rows_of(edited, before)


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
    content.update(next_step="3", settings=None, quarantined=["en/0.tar"])
    with pytest.raises(ConfigError) as caught:
        StreamState.from_json(json.dumps(content), "here")
    assert [problem.where for problem in caught.value.problems] == [
        "here: next_step",
        "here: settings",
        "here: quarantined",
    ]
