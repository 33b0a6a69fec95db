from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import ConfigError, EncodingError
from headrace.stream.batching import BatchPlan
from headrace.stream.plan import Locations, StagePlan

MakePlan = Callable[..., StagePlan]
MakeBatches = Callable[..., BatchPlan]
Triples = Callable[[Locations], list[tuple[int, int, int]]]

SIZES = [[30, 17, 25], [9], [40, 3]]
"""124 samples in 3 sources."""


@given(st.integers(1, 140), st.integers(1, 9), st.booleans(), st.sampled_from([0.5, 1.0]))
def test_batches_of_an_epoch_are_its_samples(
    make_plan: MakePlan,
    make_batches: MakeBatches,
    triples: Triples,
    batch_size: int,
    window: int,
    sort: bool,
    temperature: float,
) -> None:
    plan = make_plan(SIZES, block=16, temperature=temperature)
    batches = make_batches(plan, batch_size=batch_size, window_batches=window, sort_by_length=sort)
    for epoch in (0, 1):
        first = epoch * batches.steps_per_epoch
        steps = [batches.batch(first + step) for step in range(batches.steps_per_epoch)]
        assert [len(step) for step in steps[:-1]] == [batch_size] * (len(steps) - 1)
        assert len(steps[-1]) == (124 - 1) % batch_size + 1
        expected = triples(plan.locate(epoch, np.arange(124)))
        assert Counter(key for step in steps for key in triples(step)) == Counter(expected)


@given(st.integers(0, 60), st.booleans())
def test_a_batch_is_a_pure_function_of_its_step(
    make_plan: MakePlan, make_batches: MakeBatches, triples: Triples, step: int, sort: bool
) -> None:
    walked = make_batches(make_plan(SIZES), batch_size=7, window_batches=3, sort_by_length=sort)
    for earlier in range(step):
        walked.batch(earlier)
    resumed = make_batches(make_plan(SIZES), batch_size=7, window_batches=3, sort_by_length=sort)
    assert triples(resumed.batch(step)) == triples(walked.batch(step))


@given(st.integers(1, 40), st.integers(1, 8), st.integers(1, 6), st.integers(0, 40), st.booleans())
def test_ranks_and_micro_batches_together_are_the_batch_in_any_world(
    make_plan: MakePlan,
    make_batches: MakeBatches,
    triples: Triples,
    batch_size: int,
    world: int,
    accumulation: int,
    step: int,
    sort: bool,
) -> None:
    batches = make_batches(make_plan(SIZES), batch_size=batch_size, sort_by_length=sort)
    batch = batches.batch(step)
    micro = -(-batch_size // (world * accumulation))
    parts = [batches.split(batch, rank, world, micro, accumulation) for rank in range(world)]
    assert all(len(part) == accumulation for part in parts)
    assert all(len(piece) <= micro for part in parts for piece in part)
    together = Counter(key for part in parts for piece in part for key in triples(piece))
    assert together == Counter(triples(batch))


@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 12)), min_size=1, max_size=6))
def test_a_run_that_is_killed_and_restarted_in_other_worlds_consumes_the_same(
    make_plan: MakePlan,
    make_batches: MakeBatches,
    triples: Triples,
    lives: list[tuple[int, int]],
) -> None:
    def consume(world: int, start: int, stop: int) -> list[Counter[tuple[int, int, int]]]:
        batches = make_batches(make_plan(SIZES, temperature=0.5), batch_size=12, window_batches=4)
        return [
            Counter(
                key
                for rank in range(world)
                for piece in batches.split(batches.batch(step), rank, world, 12, 1)
                for key in triples(piece)
            )
            for step in range(start, stop)
        ]

    consumed = []
    for world, steps in lives:
        consumed += consume(world, len(consumed), len(consumed) + steps)
    assert consumed == consume(1, 0, len(consumed))


def test_ranks_get_about_the_same_lengths(make_plan: MakePlan, make_batches: MakeBatches) -> None:
    batches = make_batches(make_plan([[5000]]), batch_size=64)
    for step in range(10):
        batch = batches.batch(step)
        lengths = batches.lengths_of(batch)
        assert np.all(np.diff(lengths) >= 0)
        sums = [
            sum(
                int(batches.lengths_of(piece).sum())
                for piece in batches.split(batch, rank, 4, 8, 2)
            )
            for rank in range(4)
        ]
        # Dealing sorted samples in turn: no two ranks differ by more than the spread of lengths.
        assert max(sums) - min(sums) <= lengths[-1] - lengths[0]


def test_sorting_saves_padding_and_hides_no_length(
    make_plan: MakePlan, make_batches: MakeBatches
) -> None:
    plan = make_plan([[3000], [2000]])

    def padding_and_means(sort: bool) -> tuple[float, np.ndarray]:
        batches = make_batches(plan, batch_size=32, sort_by_length=sort)
        lengths = [batches.lengths_of(batches.batch(step)) for step in range(150)]
        padded = sum(int(each.max()) * len(each) for each in lengths)
        means = np.array([each.mean() for each in lengths])
        return 1 - sum(int(each.sum()) for each in lengths) / padded, means

    unsorted_padding, _ = padding_and_means(False)
    sorted_padding, means = padding_and_means(True)
    assert sorted_padding < 0.05 < 0.4 < unsorted_padding
    # Batches of a window are shuffled: length does not grow from step to step.
    assert abs(np.corrcoef(np.arange(50), means[:50])[0, 1]) < 0.4


def test_the_smaller_batch_is_not_always_the_longest(
    make_plan: MakePlan, make_batches: MakeBatches
) -> None:
    batches = make_batches(make_plan([[205]]), batch_size=10)
    means = []
    for epoch in range(30):
        last = batches.batch((epoch + 1) * batches.steps_per_epoch - 1)
        assert len(last) == 5
        means.append(batches.lengths_of(last).mean())
    assert np.std(means) > 15
    assert 30 < np.mean(means) < 65


def test_lengths_are_those_of_the_samples(make_plan: MakePlan) -> None:
    plan = make_plan(SIZES)
    lengths = [
        [
            np.arange(size, dtype=np.int32) + 1000 * shard + 10000 * source
            for shard, size in enumerate(sizes)
        ]
        for source, sizes in enumerate(SIZES)
    ]
    batches = BatchPlan(plan, lengths, batch_size=50)
    batch = batches.batch(1)
    expected = batch.sample + 1000 * batch.shard + 10000 * batch.source
    assert np.array_equal(batches.lengths_of(batch), expected)
    assert batches.lengths_of(batch.take(slice(0, 0))).size == 0


def test_position_counts_consumed_samples(make_plan: MakePlan, make_batches: MakeBatches) -> None:
    batches = make_batches(make_plan(SIZES), batch_size=50)
    assert [batches.position(step) for step in range(7)] == [0, 50, 100, 124, 174, 224, 248]


def test_a_window_is_planned_once(make_plan: MakePlan, make_batches: MakeBatches) -> None:
    plan = make_plan(SIZES)
    located = []
    locate = plan.locate
    plan.locate = lambda *a: located.append(a) or locate(*a)  # type: ignore[method-assign]
    batches = make_batches(plan, batch_size=4, window_batches=10)
    for step in range(30):
        batches.batch(step)
    assert len(located) == 3


def test_settings_and_lengths_that_do_not_fit_are_refused(make_plan: MakePlan) -> None:
    plan = make_plan([[3, 2], [4]])
    ones = [[np.ones(3, np.int32), np.ones(2, np.int32)], [np.ones(4, np.int32)]]
    with pytest.raises(ConfigError) as caught:
        BatchPlan(plan, ones, batch_size=0, window_batches=0)
    assert len(caught.value.problems) == 2
    with pytest.raises(EncodingError) as uneven:
        BatchPlan(plan, [ones[0][:1], [np.ones(5, np.int32)]], batch_size=2)
    assert [problem.where for problem in uneven.value.problems] == [
        "memory://source-0 shard 1",
        "memory://source-1 shard 0",
    ]
    batches = BatchPlan(plan, ones, batch_size=9)
    with pytest.raises(ConfigError, match="at least 5"):
        batches.split(batches.batch(0), 0, 2, 2, 2)
    with pytest.raises(ValueError, match="rank"):
        batches.split(batches.batch(0), 2, 2, 8, 1)
    with pytest.raises(IndexError):
        batches.batch(-1)


def test_order_is_pinned(make_plan: MakePlan, triples: Triples) -> None:
    plan = make_plan([[5, 4], [3]])
    lengths = [
        [np.arange(5, 0, -1, np.int32), np.arange(4, dtype=np.int32)],
        [np.full(3, 2, np.int32)],
    ]
    batches = BatchPlan(plan, lengths, batch_size=5)
    assert [triples(batches.batch(step)) for step in (0, 1, 2, 3)] == [
        [(1, 0, 0), (0, 1, 3), (0, 0, 2), (0, 0, 1), (0, 0, 0)],
        [(0, 0, 4), (0, 1, 2), (1, 0, 2), (0, 0, 3), (1, 0, 1)],
        [(0, 1, 0), (0, 1, 1)],
        [(0, 0, 4), (1, 0, 1), (0, 1, 2), (0, 0, 3), (1, 0, 0)],
    ]
