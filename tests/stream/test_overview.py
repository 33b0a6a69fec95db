"""The look ahead over a stage is true of the stream."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headrace.stream.overview import overview
from headrace.stream.phases import Phase
from headrace.stream.plan import StagePlan

MakePlan = Callable[..., StagePlan]


@given(
    st.lists(
        st.lists(st.integers(0, 9), min_size=1, max_size=30).filter(any), min_size=1, max_size=3
    ),
    st.integers(1, 20),
    st.integers(1, 4),
    st.integers(1, 40),
    st.booleans(),
)
def test_samples_that_are_planned_together_lie_in_so_many_shards_at_most(
    make_plan: MakePlan,
    shard_sizes: list[list[int]],
    block: int,
    window: int,
    together: int,
    phased: bool,
) -> None:
    settings: dict[str, object] = {"temperature": 0.4}
    if phased:
        settings["phases"] = [Phase(9, temperature=1), Phase(31, temperature=0)]
        settings["max_epochs"] = [1.5, *[None] * (len(shard_sizes) - 1)]
    plan = make_plan(shard_sizes, block=block, shard_window=window, **settings)
    positions = 3 * plan.samples_per_epoch
    facts = overview(plan, positions, [], together=together)
    for epoch in range(3):
        length = min(plan.samples_per_epoch, facts.positions - epoch * plan.samples_per_epoch)
        for start in range(0, max(length, 0), together):
            found = plan.locate(epoch, np.arange(start, min(start + together, length)))
            for number, source in enumerate(facts.sources):
                touched = set(found.shard[found.source == number].tolist())
                assert len(touched) <= source.open_shards <= source.shards


def test_large_shards_are_open_in_two_windows_at_most(make_plan: MakePlan) -> None:
    plan = make_plan([[10**6] * 800, [10**6] * 5])
    facts = overview(plan, 10**9, [], together=3200)
    assert [source.open_shards for source in facts.sources] == [16, 5]


def test_cuts_outside_of_the_stage_are_left_out(make_plan: MakePlan) -> None:
    plan = make_plan([[60], [40]], max_epochs=[2, 2])
    facts = overview(plan, 10**6, [100, 0, -5, 200, 150, 900], together=10)
    assert facts.positions == 200
    assert [(stretch.start, stretch.end) for stretch in facts.stretches] == [
        (0, 100), (100, 150), (150, 200)]  # fmt: skip
    assert [sum(stretch.drawn) for stretch in facts.stretches] == [100, 50, 50]
    assert facts.edges[-1].is_end
    assert [source.exhausted_at is not None for source in facts.sources] == [True, True]
