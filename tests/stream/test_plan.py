from __future__ import annotations

import tracemalloc
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from headrace.errors import ConfigError, ShardError
from headrace.stream.mixture import MAX_DEVIATION
from headrace.stream.phases import Phase
from headrace.stream.plan import MAX_STAGE_BYTES, Locations, Source, StagePlan

MakePlan = Callable[..., StagePlan]
Triples = Callable[[Locations], list[tuple[int, int, int]]]

SHARD_SIZES = st.lists(
    st.lists(st.integers(0, 12), min_size=1, max_size=9).filter(any), min_size=1, max_size=5
)


def all_samples(shard_sizes: Sequence[Sequence[int]]) -> Counter[tuple[int, int, int]]:
    return Counter(
        (source, shard, sample)
        for source, sizes in enumerate(shard_sizes)
        for shard, size in enumerate(sizes)
        for sample in range(size)
    )


@given(SHARD_SIZES, st.integers(0, 3), st.integers(1, 20), st.integers(1, 4))
def test_natural_mixture_sees_every_sample_exactly_once_an_epoch(
    make_plan: MakePlan,
    triples: Triples,
    shard_sizes: list[list[int]],
    epoch: int,
    block: int,
    window: int,
) -> None:
    plan = make_plan(shard_sizes, block=block, shard_window=window)
    epoch_samples = triples(plan.locate(epoch, np.arange(plan.samples_per_epoch)))
    assert Counter(epoch_samples) == all_samples(shard_sizes)


@given(SHARD_SIZES, st.sampled_from([0.0, 0.3, 0.5, 1.5]), st.integers(1, 20))
def test_each_source_is_seen_evenly_over_the_stage_whatever_the_mixture(
    make_plan: MakePlan,
    triples: Triples,
    shard_sizes: list[list[int]],
    temperature: float,
    block: int,
) -> None:
    plan = make_plan(shard_sizes, temperature=temperature, block=block, shard_window=2)
    seen: Counter[tuple[int, int, int]] = Counter()
    for epoch in range(3):
        seen.update(triples(plan.locate(epoch, np.arange(plan.samples_per_epoch))))
    passes = plan.epochs_of_source(3)
    for key in all_samples(shard_sizes):
        # A source that is in its third pass has shown each sample two or three times.
        assert np.floor(passes[key[0]]) <= seen[key] <= np.ceil(passes[key[0]])
    assert sum(seen.values()) == 3 * plan.samples_per_epoch


@given(
    st.lists(st.floats(0.001, 1000), min_size=1, max_size=12),
    st.integers(1, 100),
    st.integers(0, 2),
)
def test_mixture_is_met_in_every_block(
    make_plan: MakePlan, weights: list[float], block: int, epoch: int
) -> None:
    plan = make_plan([[50]] * len(weights), weights=weights, block=block)
    positions = np.arange(plan.samples_per_epoch)
    source = plan.locate(epoch, positions).source
    shares = np.array(list(plan.shares.values()))
    for start in range(0, len(positions), block):
        drawn = np.bincount(source[start : start + block], minlength=len(weights))
        assert np.abs(drawn - shares * drawn.sum()).max() < 2 * MAX_DEVIATION
        so_far = np.bincount(source[: start + block], minlength=len(weights))
        # An epoch need not start where the shares are whole numbers: hence the factor.
        assert np.abs(so_far - shares * so_far.sum()).max() < 2 * MAX_DEVIATION


@given(SHARD_SIZES, st.integers(0, 2), st.data())
def test_a_position_is_located_the_same_however_it_is_asked_for(
    make_plan: MakePlan, shard_sizes: list[list[int]], epoch: int, data: st.DataObject
) -> None:
    plan = make_plan(shard_sizes, block=7, shard_window=2, temperature=0.5)
    total = plan.samples_per_epoch
    whole = plan.locate(epoch, np.arange(total))
    asked = np.array(data.draw(st.lists(st.integers(0, total - 1), max_size=30)), dtype=np.int64)
    fresh = make_plan(shard_sizes, block=7, shard_window=2, temperature=0.5)
    found = fresh.locate(epoch, asked)
    expected = whole.take(asked)
    assert np.array_equal(found.source, expected.source)
    assert np.array_equal(found.shard, expected.shard)
    assert np.array_equal(found.sample, expected.sample)


@st.composite
def phased(draw: st.DrawFn) -> tuple[list[list[int]], dict[str, object]]:
    """Shards of some sources, and a stage with phases and epoch limits over them."""
    shard_sizes = draw(SHARD_SIZES)
    sources = len(shard_sizes)
    weights = st.lists(st.integers(0, 5), min_size=sources, max_size=sources).filter(any)
    starts = draw(st.lists(st.integers(1, 150), max_size=2, unique=True))
    limits = st.sampled_from([None, 1, 2, 2.5])
    settings = {
        "block": draw(st.integers(1, 30)),
        "shard_window": draw(st.integers(1, 4)),
        "temperature": draw(st.sampled_from([0.0, 0.5, 1.0])),
        "phases": [Phase(start, weights=draw(weights)) for start in sorted(starts)],
        "max_epochs": [draw(limits) for _ in shard_sizes],
    }
    return shard_sizes, settings


def whole_stage(plan: StagePlan, epochs: int) -> Locations:
    """Every position of the stage, or of its first epochs where it has no end."""
    total = epochs * plan.samples_per_epoch
    if plan.total_positions is not None:
        total = min(total, plan.total_positions)
    parts = []
    for epoch in range(-(-total // plan.samples_per_epoch)):
        left = min(total - epoch * plan.samples_per_epoch, plan.samples_per_epoch)
        parts.append(plan.locate(epoch, np.arange(left)))
    columns = [[part.source, part.shard, part.sample] for part in parts]
    return Locations(*(np.concatenate(column) for column in zip(*columns, strict=True)))


@given(phased())
def test_a_source_is_gone_through_evenly_across_phases_and_epoch_limits(
    make_plan: MakePlan,
    triples: Triples,
    stage: tuple[list[list[int]], dict[str, object]],
) -> None:
    shard_sizes, settings = stage
    plan = make_plan(shard_sizes, **settings)
    stream = whole_stage(plan, 4)
    # Drawn in their order within a block, the samples of a source fill one pass after the other.
    drawn = plan.stage_mixture.counts(len(stream)).tolist()
    everything = all_samples(shard_sizes)
    seen = Counter(triples(stream))
    limits = settings["max_epochs"]
    assert isinstance(limits, list)
    for source, sizes in enumerate(shard_sizes):
        size = sum(sizes)
        passes, rest = divmod(drawn[source], size)
        times = [seen[sample] for sample in everything if sample[0] == source]
        assert sum(times) == drawn[source]
        assert sorted(times) == [passes] * (size - rest) + [passes + 1] * rest
        if limits[source] is not None:
            assert drawn[source] <= limits[source] * size


@given(phased(), st.data())
def test_a_position_is_located_the_same_however_it_is_asked_for_with_phases(
    make_plan: MakePlan,
    stage: tuple[list[list[int]], dict[str, object]],
    data: st.DataObject,
) -> None:
    shard_sizes, settings = stage
    plan = make_plan(shard_sizes, **settings)
    whole = whole_stage(plan, 3)
    asked = data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=8))
    fresh = make_plan(shard_sizes, **settings)
    for position in asked:
        epoch, inside = divmod(position, plan.samples_per_epoch)
        found = fresh.locate(epoch, np.array([inside]))
        assert (found.source[0], found.shard[0], found.sample[0]) == (
            whole.source[position],
            whole.shard[position],
            whole.sample[position],
        )


def test_a_stage_of_one_phase_has_the_order_that_it_had_without_phases(
    make_plan: MakePlan, triples: Triples
) -> None:
    sizes = [[5, 4, 3, 6], [2, 2]]
    plain = make_plan(sizes, temperature=0.5, block=8)
    later = make_plan(sizes, temperature=0.5, block=8, phases=[Phase(66)], max_epochs=[None, 100])
    positions = np.arange(22)
    for epoch in range(3):
        assert triples(plain.locate(epoch, positions)) == triples(later.locate(epoch, positions))
    assert plain.settings == later.settings_until(66)
    assert plain.settings != later.settings_until(67)


def test_a_stage_ends_where_all_sources_are_exhausted(make_plan: MakePlan) -> None:
    plan = make_plan([[6], [4]], temperature=0, max_epochs=[2, 3], block=4)
    assert plan.total_positions == 24
    assert plan.epochs_of_source(9).tolist() == [2, 3]
    assert len(plan.locate(2, np.arange(4))) == 4
    with pytest.raises(IndexError, match="ends after 24 positions"):
        plan.locate(2, np.array([4]))
    with pytest.raises(IndexError):
        plan.locate(3, np.array([0]))
    assert make_plan([[6], [4]], max_epochs=[2, None]).total_positions is None


def test_shares_are_those_of_the_phase(make_plan: MakePlan) -> None:
    plan = make_plan([[30], [10]], phases=[Phase(100, weights=[1, 0])], max_epochs=[None, 2])
    assert plan.shares == {"l0": 0.75, "l1": 0.25}
    assert plan.shares_at(80) == plan.shares_at(100) == {"l0": 1, "l1": 0}


@pytest.mark.parametrize(
    ("end", "counts"), [(0, False), (96, False), (97, True), (100, True), (101, True)]
)
def test_settings_until_take_in_the_block_in_progress(
    make_plan: MakePlan, end: int, counts: bool
) -> None:
    """Blocks of 8 from each epoch's start, epochs of 100: one from 96 to 100, the next to 108."""
    plain = make_plan([[60], [40]], block=8)
    phased = make_plan([[60], [40]], block=8, phases=[Phase(98, temperature=0)])
    assert (plain.settings_until(end) != phased.settings_until(end)) is counts
    later = make_plan([[60], [40]], block=8, phases=[Phase(104, temperature=0)])
    assert (plain.settings_until(end) != later.settings_until(end)) is (end > 100)


@hypothesis_settings(max_examples=40)
@given(phased(), st.data())
def test_equal_settings_until_a_position_mean_equal_orders_until_there(
    make_plan: MakePlan,
    stage: tuple[list[list[int]], dict[str, object]],
    data: st.DataObject,
) -> None:
    """What a saved state relies on: a stage may be edited wherever the settings do not tell."""
    shard_sizes, settings = stage
    limits = st.sampled_from([None, 1, 1.5, 3])
    start = data.draw(st.integers(1, 150))
    changes: list[dict[str, object]] = [
        {"phases": [Phase(start, temperature=0.1)]},
        {"phases": [*settings["phases"], Phase(200, temperature=0.1)]},  # type: ignore[misc]
        {"phases": []},
        {"max_epochs": [data.draw(limits) for _ in shard_sizes]},
        {"max_epochs": None},
    ]
    one = make_plan(shard_sizes, **settings)
    first = whole_stage(one, 3)
    for change in changes:
        try:
            other = make_plan(shard_sizes, **{**settings, **change})
        except ConfigError:
            continue
        second = whole_stage(other, 3)
        shorter = min(len(first), len(second))
        for end in [shorter, *data.draw(st.lists(st.integers(0, shorter), max_size=9))]:
            if one.settings_until(end) == other.settings_until(end):
                block_end = -(-(end % one.samples_per_epoch) // one.block) * one.block
                fixed = end - end % one.samples_per_epoch + min(block_end, one.samples_per_epoch)
                assert len(first.take(slice(fixed))) == len(second.take(slice(fixed)))
                for column in ("source", "shard", "sample"):
                    before, after = (getattr(each, column)[:fixed] for each in (first, second))
                    assert np.array_equal(before, after)


def test_only_a_window_of_shards_is_open(make_plan: MakePlan) -> None:
    plan = make_plan([[100] * 20], shard_window=4, block=50)
    shards = plan.locate(0, np.arange(2000)).shard
    windows = [set(shards[start : start + 400].tolist()) for start in range(0, 2000, 400)]
    assert [len(window) for window in windows] == [4] * 5
    assert sorted(shard for window in windows for shard in window) == list(range(20))
    assert sorted(windows[0]) != [0, 1, 2, 3]


@pytest.mark.parametrize("change", [{"seed": 18}, {"stage": "t"}, {"shard_window": 3}])
def test_other_settings_give_another_order(make_plan: MakePlan, change: dict[str, object]) -> None:
    sizes = [[40] * 10, [30] * 5]
    plan, other = make_plan(sizes), make_plan(sizes, **change)
    positions = np.arange(plan.samples_per_epoch)
    first, second = plan.locate(0, positions), other.locate(0, positions)
    same = (
        (first.source == second.source)
        & (first.shard == second.shard)
        & (first.sample == second.sample)
    )
    assert same.mean() < 0.05
    assert plan.fingerprint != other.fingerprint


def test_every_pass_over_every_source_has_its_own_order(make_plan: MakePlan) -> None:
    # With blocks of one position the order of a source is that of its passes alone.
    plan = make_plan([[500], [500]], block=1)
    orders = []
    for epoch in range(2):
        found = plan.locate(epoch, np.arange(1000))
        orders += [found.sample[found.source == source] for source in range(2)]
    for number, order in enumerate(orders):
        for other in orders[:number]:
            assert (order == other).mean() < 0.03


def test_every_pass_takes_the_shards_in_its_own_order(make_plan: MakePlan) -> None:
    plan = make_plan([[1] * 500], block=1, shard_window=1)
    first, second = (plan.locate(epoch, np.arange(500)).shard for epoch in range(2))
    assert (first == second).mean() < 0.03


def test_sources_are_spread_over_every_block_in_its_own_way(make_plan: MakePlan) -> None:
    plan = make_plan([[500], [500]], block=500)
    sources = [plan.locate(epoch, np.arange(1000)).source for epoch in range(2)]
    halves = [half for source in sources for half in (source[:500], source[500:])]
    for number, half in enumerate(halves):
        for other in halves[:number]:
            assert 0.4 < (half == other).mean() < 0.6


def test_the_shuffle_spreads_samples_evenly(make_plan: MakePlan) -> None:
    plan = make_plan([[5000], [15000]], block=1000)
    found = plan.locate(0, np.arange(20000))
    flat = np.where(found.source == 0, found.sample, 5000 + found.sample)
    big = flat[found.source == 1]
    assert abs(np.corrcoef(np.arange(len(big)), big)[0, 1]) < 0.03
    # Runs of one source: with shares of 1/4 and 3/4 neighbours differ with probability 3/8.
    assert abs((np.diff(found.source) != 0).mean() - 3 / 8) < 0.02
    # A source's place inside a block is not fixed.
    inside = np.flatnonzero(found.source == 0) % 1000
    assert abs(inside.mean() - 500) < 20


def test_trillion_samples_do_not_overflow(make_plan: MakePlan) -> None:
    sizes = [[10**9] * 900, [10**9] * 99 + [10**9 - 1], [1]]
    for settings in ({}, {"temperature": 0.3}, {"weights": [1.0, 0.2, 1e-6]}):
        plan = make_plan(sizes, **settings)
        assert plan.samples_per_epoch == 10**12
        positions = np.array([0, 1, 10**11, 5 * 10**11 + 3, 10**12 - 1])
        for epoch in (0, 1, 50):
            found = plan.locate(epoch, positions)
            for source, shard, sample in zip(found.source, found.shard, found.sample, strict=True):
                assert 0 <= sample < sizes[source][shard]


def test_memory_grows_with_shards_and_not_with_samples(make_plan: MakePlan) -> None:
    def peak(shard_size: int) -> int:
        plan = make_plan([[shard_size] * 100_000])
        tracemalloc.start()
        for epoch in range(4):
            plan.locate(epoch, np.arange(0, plan.samples_per_epoch, plan.samples_per_epoch // 300))
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    small, large = peak(10), peak(10_000)
    assert large < 40 * 2**20
    assert large < 1.2 * small


def test_table_tells_what_is_drawn(make_plan: MakePlan) -> None:
    plan = make_plan([[30, 60], [10]], temperature=0)
    big, little = plan.mixture
    assert (big.name, big.shards, big.samples, big.share) == ("l0", 2, 90, 0.5)
    assert little.samples_per_epoch == pytest.approx(50)
    assert little.passes_per_epoch == pytest.approx(5)
    assert plan.shares == {"l0": 0.5, "l1": 0.5}
    assert plan.epochs_of_source(2).tolist() == pytest.approx([100 / 90, 10])


def test_sources_of_one_name_add_their_shares() -> None:
    sources = [Source("en", f"memory://{part}", (10,), "f") for part in "ab"]
    sources.append(Source("hi", "memory://c", (20,), "f"))
    assert StagePlan(sources, seed=1, stage="s").shares == {"en": 0.5, "hi": 0.5}


def test_fingerprint_covers_the_samples(make_plan: MakePlan) -> None:
    def fingerprint(**change: object) -> str:
        source = {"name": "en", "url": "u", "shard_sizes": (3, 4), "fingerprint": "a", **change}
        return StagePlan([Source(**source)], seed=1, stage="s").fingerprint  # type: ignore[arg-type]

    changes = [{}, {"name": "de"}, {"shard_sizes": (4, 3)}, {"fingerprint": "b"}]
    assert len({fingerprint(**change) for change in changes}) == len(changes)
    assert fingerprint() == fingerprint()


def test_moving_data_changes_neither_order_nor_fingerprint(triples: Triples) -> None:
    def plan(folder: str) -> StagePlan:
        sources = [Source(name, f"{folder}/{name}", (5, 7), name) for name in ("en", "hi")]
        return StagePlan(sources, seed=1, stage="s")

    here, there = plan("/scratch"), plan("s3://bucket/copy")
    positions = np.arange(here.samples_per_epoch)
    assert triples(here.locate(1, positions)) == triples(there.locate(1, positions))
    assert here.fingerprint == there.fingerprint


def test_sources_without_samples_are_refused_together(make_plan: MakePlan) -> None:
    with pytest.raises(ShardError) as caught:
        make_plan([[0, 0], [5], [], [3, -1]])
    assert [problem.where for problem in caught.value.problems] == [
        "memory://source-3 shard 1",
        "memory://source-0",
        "memory://source-2",
    ]


def test_settings_that_cannot_be_planned_are_refused_together() -> None:
    source = Source("en", "u", (5,), "f")
    with pytest.raises(ConfigError) as caught:
        StagePlan(
            [source, source],
            seed=1,
            stage="s",
            weights=[1.0],
            max_epochs=[1, 2, 3],
            phases=[Phase(5, max_shares=[1.0])],
            block=0,
            shard_window=0,
        )
    assert len(caught.value.problems) == 6
    with pytest.raises(ConfigError, match="at least one source"):
        StagePlan([], seed=1, stage="s")
    with pytest.raises(ConfigError, match="name of a stage"):
        StagePlan([source], seed=1, stage="é" * MAX_STAGE_BYTES)
    with pytest.raises(ConfigError, match="name of a stage"):
        StagePlan([source], seed=1, stage="a\nb")


@pytest.mark.parametrize(("epoch", "position"), [(0, 5), (0, -1), (-1, 0)])
def test_positions_outside_an_epoch_are_refused(
    make_plan: MakePlan, epoch: int, position: int
) -> None:
    with pytest.raises(IndexError):
        make_plan([[5]]).locate(epoch, np.array([position]))


def test_order_is_pinned(make_plan: MakePlan, triples: Triples) -> None:
    plan = make_plan([[5, 4, 3, 6], [2, 2]], temperature=0.5, block=8, shard_window=2)
    assert triples(plan.locate(0, np.arange(10))) == [
        (0, 2, 2),
        (0, 2, 1),
        (1, 0, 0),
        (0, 1, 1),
        (1, 1, 0),
        (1, 1, 1),
        (0, 1, 0),
        (0, 2, 0),
        (0, 3, 3),
        (0, 1, 3),
    ]
    assert triples(plan.locate(3, np.arange(10))) == [
        (1, 0, 1),
        (0, 2, 2),
        (0, 3, 0),
        (0, 2, 1),
        (0, 2, 0),
        (0, 3, 2),
        (1, 0, 0),
        (1, 1, 0),
        (0, 3, 3),
        (0, 3, 4),
    ]
    assert plan.fingerprint == "b8cf18a6fb8d6ea1"
