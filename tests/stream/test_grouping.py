"""Batches filled by length: token budgets and packs."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import ConfigError, EncodingError
from headrace.stream.batching import BatchPlan
from headrace.stream.grouping import GroupedBatches, PackPlan, TokenBudgetPlan, fill_from_longest
from headrace.stream.packing import Packs, samples_of
from headrace.stream.phases import Phase
from headrace.stream.plan import Locations, Source, StagePlan
from headrace.stream.state import StreamState

MakePlan = Callable[..., StagePlan]
Triples = Callable[[Locations], list[tuple[int, int, int]]]

SIZES = [[30, 17, 25], [9], [40, 3]]
"""124 samples in 3 sources."""
SAMPLES = 124
LONGEST = 40


def lengths_for(plan: StagePlan, seed: int = 0) -> list[list[np.ndarray]]:
    random = np.random.default_rng(seed)
    return [
        [random.integers(1, LONGEST + 1, size).astype(np.int32) for size in source.shard_sizes]
        for source in plan.sources
    ]


def grouped(plan: StagePlan, kind: str, size: int = 90, **changes: Any) -> GroupedBatches:
    options: dict[str, Any] = {"batch_size": 4, "window_batches": 5, **changes}
    lengths = options.pop("lengths", None) or lengths_for(plan)
    if kind == "tokens":
        del options["batch_size"]
        return TokenBudgetPlan(plan, lengths, tokens_per_batch=size, **options)
    return PackPlan(plan, lengths, pack_length=size, **options)


both_kinds = pytest.mark.parametrize("kind", ["tokens", "packed"])


@both_kinds
def test_samples_of_no_tokens_count_as_one_token(make_plan: MakePlan, kind: str) -> None:
    plan = make_plan(SIZES)
    lengths = [[array * (array % 3 > 0) for array in source] for source in lengths_for(plan)]
    for each in (lengths, [[array * 0 for array in source] for source in lengths]):
        batches = grouped(plan, kind, lengths=each)
        seen = 0
        for step in range(batches.steps_before(1)):
            batch = batches.batch(step)
            parts = [batches.split(batch, rank, 2, 60, 3) for rank in (0, 1)]
            assert [len(part) for part in parts] == [3, 3]
            seen += sum(len(samples_of(rows)) for part in parts for rows in part)
        assert seen == SAMPLES


@both_kinds
@settings(max_examples=30)
@given(
    size=st.integers(LONGEST, 300),
    batch_size=st.integers(1, 9),
    window=st.integers(1, 60),
    temperature=st.sampled_from([0.5, 1.0]),
)
def test_batches_of_an_epoch_are_its_samples_within_the_size(
    make_plan: MakePlan,
    triples: Triples,
    kind: str,
    size: int,
    batch_size: int,
    window: int,
    temperature: float,
) -> None:
    plan = make_plan(SIZES, block=16, temperature=temperature)
    batches = grouped(plan, kind, size, batch_size=batch_size, window_batches=window)
    consumed = 0
    for epoch in (0, 1):
        steps = range(batches.steps_before(epoch), batches.steps_before(epoch + 1))
        seen: Counter[tuple[int, int, int]] = Counter()
        for step in steps:
            assert batches.position(step) == consumed
            assert batches.find(step) == (epoch, step - steps.start)
            assert batches.ends_epoch(step + 1) == (step + 1 == steps.stop)
            batch = batches.batch(step)
            lengths = batches.lengths_of(batch)
            if isinstance(batch, Packs):
                assert max(np.add.reduceat(lengths, batch.starts[:-1])) <= size
                assert len(batch) == batch_size or step == steps.stop - 1
            else:
                assert len(batch) * lengths.max() <= size
                assert np.all(np.diff(lengths) >= 0)
            seen.update(triples(samples_of(batch)))
            consumed += len(samples_of(batch))
        assert batches.epochs_done(steps.stop) == epoch + 1
        assert seen == Counter(triples(plan.locate(epoch, np.arange(SAMPLES))))
    assert batches.position(steps.stop) == consumed == 2 * SAMPLES


@both_kinds
@given(step=st.integers(0, 60))
def test_a_batch_is_a_pure_function_of_its_step(
    make_plan: MakePlan, triples: Triples, kind: str, step: int
) -> None:
    walked, resumed = grouped(make_plan(SIZES), kind), grouped(make_plan(SIZES), kind)
    for earlier in range(step):
        walked.batch(earlier)
    assert triples(samples_of(resumed.batch(step))) == triples(samples_of(walked.batch(step)))


@both_kinds
@given(world=st.integers(1, 8), accumulation=st.integers(1, 6), step=st.integers(0, 12))
def test_ranks_and_micro_batches_together_are_the_batch_in_any_world(
    make_plan: MakePlan, triples: Triples, kind: str, world: int, accumulation: int, step: int
) -> None:
    batches = grouped(make_plan(SIZES), kind, 200)
    batch = batches.batch(step)
    parts = [
        part
        for rank in range(world)
        for part in batches.split(batch, rank, world, -(-len(batch) // world), accumulation)  # type: ignore[type-var]
    ]
    assert len(parts) == world * accumulation
    together = Counter(key for part in parts for key in triples(samples_of(part)))
    assert together == Counter(triples(samples_of(batch)))


def test_micro_batches_of_a_token_budget_are_balanced(make_plan: MakePlan) -> None:
    """The largest has no more padded tokens than in any other way to cut the sorted samples."""
    batches = grouped(make_plan(SIZES), "tokens", 400, batch_size=10)
    for step in range(batches.steps_before(1)):
        batch = batches.batch(step)
        for accumulation in (1, 2, 3):
            (own,) = batches.split(batch, 0, 1, 1, 1)  # type: ignore[type-var]
            parts = batches.split(batch, 0, 1, 1, accumulation)  # type: ignore[type-var]
            lengths = batches.lengths_of(own)
            assert all(len(part) for part in parts)

            def largest(cuts: tuple[int, ...], lengths: np.ndarray = lengths) -> int:
                edges = pairwise((0, *cuts, len(lengths)))
                return max((end - start) * int(lengths[end - 1]) for start, end in edges)

            best = min(map(largest, combinations(range(1, len(lengths)), accumulation - 1)))
            assert max(len(part) * batches.lengths_of(part).max() for part in parts) == best


@given(st.lists(st.integers(1, 20), min_size=1, max_size=12), st.integers(20, 60))
def test_a_token_budget_needs_the_fewest_batches(lengths: list[int], budget: int) -> None:
    ordered = np.sort(np.array(lengths, dtype=np.int32))
    sizes = fill_from_longest(ordered, budget)
    assert sum(sizes) == len(lengths)

    def fits(cuts: tuple[int, ...]) -> bool:
        edges = pairwise((0, *cuts, len(ordered)))
        return all((end - start) * int(ordered[end - 1]) <= budget for start, end in edges)

    fewer = len(sizes) - 2  # cuts of a division into one group less
    assert fewer < 0 or not any(map(fits, combinations(range(1, len(ordered)), fewer)))


def test_batches_of_a_token_budget_are_about_equally_large(make_plan: MakePlan) -> None:
    plan = make_plan([[4000]])
    batches = grouped(plan, "tokens", 2000, batch_size=50, window_batches=20)
    padded = []
    for step in range(batches.steps_before(1)):
        lengths = batches.lengths_of(batches.batch(step))
        padded.append(len(lengths) * int(lengths.max()))
    assert 0.9 * 2000 < np.mean(padded) <= max(padded) <= 2000
    assert min(padded) > 0.8 * np.mean(padded), "what is left over is no small batch of its own"


@both_kinds
def test_length_does_not_grow_within_a_window(make_plan: MakePlan, kind: str) -> None:
    plan = make_plan([[4000]])
    batches = grouped(plan, kind, 2000 if kind == "tokens" else 80, batch_size=80)
    count = batches.steps_before(1)
    sizes = [len(samples_of(batches.batch(step))) for step in range(count)]
    means = [batches.lengths_of(batches.batch(step)).mean() for step in range(count)]
    assert abs(np.corrcoef(np.arange(count) % 20, means)[0, 1]) < 0.4
    assert len(set(sizes)) > 3


@both_kinds
def test_the_table_of_counts_is_made_once(
    make_plan: MakePlan, triples: Triples, kind: str, tmp_path: Path
) -> None:
    def opened() -> tuple[GroupedBatches, list[int]]:
        plan = make_plan(SIZES)
        located: list[int] = []
        locate = plan.locate
        plan.locate = lambda e, p: located.append(len(p)) or locate(e, p)  # type: ignore[method-assign, func-returns-value]
        return grouped(plan, kind, table_folder=tmp_path), located

    first, scanned = opened()
    steps = first.steps_before(3)
    assert sum(scanned) == 3 * SAMPLES
    again, located = opened()
    assert again.steps_before(3) == steps
    assert located == [], "what is on disk is not counted again"
    step = first.steps_before(2) + 2
    assert triples(samples_of(again.batch(step))) == triples(samples_of(first.batch(step)))
    assert sum(located) <= 2 * first.window_size, "a resume plans the windows of its step alone"


@both_kinds
@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "other"])
def test_a_damaged_table_is_made_again(
    make_plan: MakePlan, kind: str, damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plan = make_plan(SIZES)
    steps = grouped(plan, kind, table_folder=tmp_path).steps_before(1)
    (file,) = tmp_path.glob("*/*.npz")
    content = bytearray(file.read_bytes())
    if damage == "other":
        np.savez(file, groups=np.ones(3, dtype=np.int32))
    else:
        if damage == "flip":
            content[content.index(b"groups.npy") + 40] ^= 4
        file.write_bytes({"cut": content[:-30], "flip": content, "empty": b""}[damage])
    with caplog.at_level(logging.WARNING):
        assert grouped(plan, kind, table_folder=tmp_path).steps_before(1) == steps
    assert str(file) in caplog.text
    caplog.clear()
    assert grouped(plan, kind, table_folder=tmp_path).steps_before(1) == steps
    assert not caplog.text


@both_kinds
def test_several_that_need_a_table_make_it_once(
    make_plan: MakePlan, kind: str, tmp_path: Path
) -> None:
    scans: list[int] = []

    def count(_: int) -> int:
        plan = make_plan(SIZES)
        locate = plan.locate
        plan.locate = lambda e, p: scans.append(len(p)) or locate(e, p)  # type: ignore[method-assign, func-returns-value]
        return grouped(plan, kind, table_folder=tmp_path).steps_before(2)

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(count, range(8)))) == 1
    assert sum(scans) == 2 * SAMPLES


@both_kinds
def test_other_settings_have_a_table_of_their_own(
    make_plan: MakePlan, kind: str, tmp_path: Path
) -> None:
    steps = set()
    for plan in (make_plan(SIZES), make_plan(SIZES, seed=1), make_plan(SIZES, temperature=0.0)):
        for size in (60, 90):
            for window in (5, 6):
                batches = grouped(plan, kind, size, window_batches=window, table_folder=tmp_path)
                fresh = grouped(plan, kind, size, window_batches=window)
                assert batches.steps_before(2) == fresh.steps_before(2)
                steps.add(batches.steps_before(2))
    # shards that are left out may have other lengths than the true ones
    grouped(make_plan(SIZES), kind, 90, quarantined=frozenset({(0, 1)}),
            table_folder=tmp_path).steps_before(1)  # fmt: skip
    assert len(list(tmp_path.iterdir())) == 13
    assert len(steps) > 1


@pytest.mark.parametrize("kind", ["samples", "sorted", "tokens", "packed"])
def test_quarantined_shards_are_left_out_and_nothing_else_moves(
    make_plan: MakePlan, triples: Triples, kind: str
) -> None:
    plan = make_plan(SIZES)

    def opened(quarantined: frozenset[tuple[int, int]]) -> BatchPlan | GroupedBatches:
        if kind in ("samples", "sorted"):
            return BatchPlan(
                plan,
                lengths_for(plan),
                batch_size=8,
                window_batches=5,
                sort_by_length=kind == "sorted",
                quarantined=quarantined,
            )
        return grouped(plan, kind, quarantined=quarantined)

    bad = frozenset({(0, 1), (2, 0)})
    clean, without = opened(frozenset()), opened(bad)
    steps = clean.steps_before(2)
    assert without.steps_before(2) == steps
    left = 0
    for step in range(steps):
        assert without.position(step) == clean.position(step)
        expected = [key for key in triples(samples_of(clean.batch(step))) if key[:2] not in bad]
        batch = without.batch(step)
        assert triples(samples_of(batch)) == expected
        if isinstance(batch, Packs):
            assert np.all(np.diff(batch.starts) > 0)
        left += len(expected)
    assert left == 2 * (SAMPLES - 17 - 40)
    state = StreamState.at(clean, 3)
    with pytest.raises(ConfigError, match="quarantined"):
        state.check(without, "here")
    StreamState.at(without, 3).check(opened(bad), "here")
    with pytest.raises(ConfigError, match="source 1, shard 1"):
        opened(frozenset({(1, 1)}))


@pytest.mark.parametrize("kind", ["samples", "tokens", "packed"])
def test_one_quarantined_shard_of_many_leaves_no_batch_empty(
    make_plan: MakePlan, kind: str
) -> None:
    plan = make_plan([[100] * 20])
    options: dict[str, Any] = {"batch_size": 8, "quarantined": frozenset({(0, 7)})}
    lengths = lengths_for(plan)
    lengths[0][7][:] = LONGEST  # the worst case: sorted, the quarantined samples lie side by side
    batches = (
        BatchPlan(plan, lengths, **options)
        if kind == "samples"
        else grouped(plan, kind, 400, lengths=lengths, **options)
    )
    sizes = [len(batches.batch(step)) for step in range(batches.steps_before(1))]
    assert np.mean([size == 0 for size in sizes]) < 0.05


@pytest.mark.parametrize("kind", ["samples", "tokens", "packed"])
def test_a_stage_that_ends_has_a_last_step(
    make_plan: MakePlan, triples: Triples, kind: str
) -> None:
    plan = make_plan(SIZES, block=16, max_epochs=[2.5, 2.5, 2.5])
    total = plan.total_positions
    assert total is not None
    assert total % SAMPLES
    batches = (
        BatchPlan(plan, lengths_for(plan), batch_size=7)
        if kind == "samples"
        else grouped(plan, kind)
    )
    steps = batches.total_steps
    assert steps is not None
    assert steps == batches.steps_before(3) == batches.steps_before(10)
    seen = Counter(key for step in range(steps) for key in triples(samples_of(batches.batch(step))))
    assert sum(seen.values()) == total == batches.position(steps)
    assert batches.ends_epoch(steps)
    assert batches.epochs_done(steps) == 3
    with pytest.raises(IndexError):
        batches.batch(steps)
    with pytest.raises(IndexError):
        batches.batch(-1)
    assert make_plan(SIZES).total_positions is None
    assert BatchPlan(make_plan(SIZES), lengths_for(plan), batch_size=7).total_steps is None


@pytest.mark.parametrize("kind", ["samples", "tokens", "packed"])
def test_settings_of_past_steps_know_nothing_of_later_phases(
    make_plan: MakePlan, kind: str
) -> None:
    sources = [Source(name, name, (2000,), "f") for name in ("a", "b")]

    def opened(later: float) -> BatchPlan | GroupedBatches:
        plan = StagePlan(
            sources,
            seed=1,
            stage="s",
            block=64,
            phases=[Phase(1000, temperature=0.5), Phase(2000, weights=[1.0, later])],
        )
        lengths = [[np.full(2000, 10, dtype=np.int32)] for _ in sources]
        if kind == "samples":
            return BatchPlan(plan, lengths, batch_size=8, window_batches=20)
        window = 10 if kind == "tokens" else 1
        return grouped(plan, kind, 160, lengths=lengths, batch_size=8, window_batches=window)

    before, after = opened(2.0), opened(3.0)
    assert before.settings != after.settings
    same = [step for step in range(before.steps_before(1))
            if before.settings_until(step) == after.settings_until(step)]  # fmt: skip
    assert same == list(range(len(same)))
    window_before = 2000 // before.window_size * before.window_size
    assert window_before > 1800
    assert before.position(same[-1]) <= window_before < before.position(same[-1] + 1)
    for step in same:
        StreamState.at(before, step).check(after, "here")
    with pytest.raises(ConfigError, match="phase"):
        StreamState.at(before, same[-1] + 1).check(after, "here")


@both_kinds
def test_a_sample_that_is_too_long_is_named(make_plan: MakePlan, kind: str) -> None:
    plan = make_plan(SIZES)
    lengths = lengths_for(plan)
    lengths[2][1][2] = 91
    with pytest.raises(EncodingError, match=r"source-2 shard 1 sample 2.*91 tokens"):
        grouped(plan, kind, lengths=lengths).steps_before(1)


@both_kinds
def test_sizes_and_lengths_that_do_not_fit_are_refused(make_plan: MakePlan, kind: str) -> None:
    plan = make_plan(SIZES)
    with pytest.raises(ConfigError) as caught:
        grouped(plan, kind, 0, batch_size=0, window_batches=0)
    names = ["tokens per batch"] if kind == "tokens" else ["pack length", "batch size"]
    assert [problem.where for problem in caught.value.problems] == [
        f"stage s: {name}" for name in (*names, "window batches")
    ]
    with pytest.raises(EncodingError):
        grouped(plan, kind, lengths=lengths_for(make_plan([[30, 17, 25], [9], [40, 4]])))
    if kind == "packed":
        batches = grouped(plan, kind)
        with pytest.raises(ConfigError, match="at least 2"):
            batches.split(batches.batch(0), 0, 2, 1, 1)  # type: ignore[type-var]


def test_order_is_pinned(make_plan: MakePlan, triples: Triples) -> None:
    plan = make_plan([[5, 4], [3]])
    lengths = [
        [np.arange(5, 0, -1, np.int32), np.arange(1, 5, dtype=np.int32)],
        [np.full(3, 2, np.int32)],
    ]
    tokens = TokenBudgetPlan(plan, lengths, tokens_per_batch=8, window_batches=4)
    packed = PackPlan(plan, lengths, pack_length=8, batch_size=2, window_batches=2)
    # lengths of the two windows, in the order of positions: 3 4 2 4 2 2 5 3 and 1 2 2 1
    assert [triples(tokens.batch(step)) for step in range(tokens.steps_before(1))] == [
        [(0, 1, 1), (1, 0, 2), (0, 0, 3)],
        [(0, 0, 0)],
        [(0, 1, 3), (0, 0, 1)],
        [(0, 1, 2), (0, 0, 2)],
        [(0, 0, 4), (0, 1, 0), (1, 0, 1), (1, 0, 0)],
    ]
    rows = [packed.batch(step) for step in range(packed.steps_before(1))]
    assert [(triples(row.samples), row.starts.tolist()) for row in rows] == [
        ([(0, 0, 0), (0, 1, 2), (0, 0, 3)], [0, 2, 3]),
        ([(0, 0, 2), (0, 1, 1), (1, 0, 2), (0, 1, 3), (0, 0, 1)], [0, 3, 5]),
        ([(1, 0, 1), (1, 0, 0), (0, 0, 4), (0, 1, 0)], [0, 4]),
    ]
