"""Phases, bounds of shares and epoch limits: counts that are exact at every position."""

from __future__ import annotations

import math
from bisect import bisect_right
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from headrace.errors import ConfigError
from headrace.stream.mixture import MAX_DEVIATION, Mixture, bounded_weights
from headrace.stream.phases import MAX_PHASES, Phase, exact
from headrace.stream.stage_mixture import StageMixture, changed_phases


def named(sizes: list[int]) -> list[str]:
    return [f"l{number}" for number in range(len(sizes))]


def mixture_of(
    sizes: list[int], *later: Phase, max_epochs: list[float | None] | None = None, **first: object
) -> StageMixture:
    phases = [Phase(0, **first), *later]  # type: ignore[arg-type]
    return StageMixture(named(sizes), sizes, phases, max_epochs)


@st.composite
def phases_of(draw: st.DrawFn, sources: int, start: int) -> Phase:
    weights = draw(
        st.none() | st.lists(st.integers(0, 9), min_size=sources, max_size=sources).filter(any)
        if start
        else st.none() | st.lists(st.integers(1, 9), min_size=sources, max_size=sources)
    )
    bounded = draw(st.booleans())
    return Phase(
        start,
        temperature=draw(st.sampled_from([0.0, 0.3, 1.0])),
        weights=weights,
        max_shares=[draw(st.sampled_from([None, 0.5, 0.7])) for _ in range(sources)]
        if bounded and weights is None and sources > 1
        else None,
        min_shares=[draw(st.sampled_from([None, 0.01, 0.2])) for _ in range(sources)]
        if bounded and weights is None
        else None,
    )


@st.composite
def stages(draw: st.DrawFn, limited: bool = False) -> StageMixture:
    sizes = draw(st.lists(st.integers(1, 40), min_size=1, max_size=5))
    starts = draw(st.lists(st.integers(1, 200), max_size=3, unique=True))
    phases = [draw(phases_of(len(sizes), start)) for start in [0, *sorted(starts)]]
    limits = st.sampled_from([1, 1.5, 2, 3.25]) if limited else st.none()
    numbers = [draw(limits | st.none()) for _ in sizes]
    assume(all(limit is None or size * limit >= 1 for size, limit in zip(sizes, numbers, strict=1)))
    return StageMixture(named(sizes), sizes, phases, numbers)


def horizon(mixture: StageMixture) -> int:
    return 400 if mixture.end is None else mixture.end


STAGES = stages() | stages(limited=True)


@given(STAGES)
def test_every_position_draws_one_sample_from_one_source(mixture: StageMixture) -> None:
    counts = mixture.counts_at(range(horizon(mixture) + 1))
    assert not counts[0].any()
    drawn = np.diff(counts, axis=0)
    assert drawn.min(initial=0) >= 0
    assert np.array_equal(drawn.sum(axis=1), np.ones(len(drawn)))


def simulated(mixture: StageMixture, length: int) -> list[list[int]]:
    """The counts, one sample after the other: no binary search and no table of segments."""
    starts = [phase.start for phase in mixture.phases]
    drawn = [0] * len(mixture.sizes)
    rows = [drawn]
    phase, begun, weights = -1, 0, [0]
    for position in range(length):
        left = [limit is None or drawn[n] < limit for n, limit in enumerate(mixture.limits)]
        now = bisect_right(starts, position) - 1
        if now != phase or any(w and not left[n] for n, w in enumerate(weights)):
            phase, begun = now, position
            weights, least, most = mixture._settings[phase]
            weights = [weight if left[n] else 0 for n, weight in enumerate(weights)]
            if least is not None and most is not None:
                weights = bounded_weights(weights, least, most)
            single = Mixture(weights)
        step = single.counts(position + 1 - begun) - single.counts(position - begun)
        drawn = [old + new for old, new in zip(drawn, step.tolist(), strict=True)]
        rows.append(drawn)
    return rows


@given(STAGES)
def test_closed_form_equals_a_simulation_one_sample_after_the_other(mixture: StageMixture) -> None:
    length = horizon(mixture)
    assert mixture.counts_at(range(length + 1)).tolist() == simulated(mixture, length)


@pytest.mark.parametrize("start", range(15, 24))
def test_a_phase_that_begins_about_where_a_source_is_exhausted(start: int) -> None:
    later = Phase(start, weights=[1, 8, 2])
    mixture = mixture_of([10, 10, 10], later, weights=[5, 5, 1], max_epochs=[1, None, 0.9])
    assert mixture.counts_at(range(101)).tolist() == simulated(mixture, 100)


@pytest.mark.parametrize("limited", range(20))
def test_exhaustion_is_found_where_counts_are_furthest_from_their_shares(limited: int) -> None:
    """Fibonacci's numbers make the deepest tree, and the largest deviations."""
    weights = [1, 1]
    while len(weights) < 20:
        weights.append(weights[-1] + weights[-2])
    counts = Mixture(weights).counts_at(range(20_000))[:, limited]
    for limit in range(1, min(40, counts[-1])):
        limits = [limit if number == limited else None for number in range(20)]
        mixture = mixture_of([1] * 20, weights=weights, max_epochs=limits)
        assert mixture.segments[1].start == np.searchsorted(counts, limit)


@given(stages(limited=True))
def test_an_epoch_limit_is_reached_and_never_exceeded_by_one_sample(mixture: StageMixture) -> None:
    last = mixture.counts(horizon(mixture)).tolist()
    for number, limit in enumerate(mixture.limits):
        assert limit is None or last[number] <= limit
    for segment in mixture.segments:
        if segment.exhausted is not None:
            source = segment.exhausted
            assert segment.before[source] == mixture.limits[source]
            assert mixture.counts(segment.start - 1)[source] == segment.before[source] - 1
            assert segment.weights[source] == 0


@given(STAGES)
def test_bounds_of_shares_hold_in_every_segment(mixture: StageMixture) -> None:
    for number, segment in enumerate(mixture.segments[:-1]):
        phase = mixture.phases[segment.phase]
        end = mixture.segments[number + 1].start
        drawn = mixture.counts(end) - mixture.counts(segment.start)
        length = end - segment.start
        for source, count in enumerate(drawn.tolist()):
            if phase.max_shares and phase.max_shares[source] is not None:
                assert count < exact(phase.max_shares[source]) * length + MAX_DEVIATION
            if (
                phase.min_shares
                and phase.min_shares[source] is not None
                and segment.weights[source]
            ):
                assert count > exact(phase.min_shares[source]) * length - MAX_DEVIATION


@given(
    st.lists(
        st.tuples(
            st.integers(0, 10**12),
            st.fractions(0, Fraction(1, 3)),
            st.fractions(Fraction(1, 3), 1),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_clipped_shares_are_in_bounds_and_in_proportion(
    rows: list[tuple[int, Fraction, Fraction]],
) -> None:
    weights, least, most = (list(column) for column in zip(*rows, strict=True))
    drawn = [n for n, weight in enumerate(weights) if weight]
    assume(drawn)
    if sum(least[n] for n in drawn) > 1 or sum(most[n] for n in drawn) < 1:
        with pytest.raises(ValueError, match="bounds"):
            bounded_weights(weights, least, most)
        return
    bounded = bounded_weights(weights, least, most)
    shares = [Fraction(weight, sum(bounded)) for weight in bounded]
    assert all(shares[n] == 0 for n in range(len(weights)) if n not in drawn)
    assert all(least[n] <= shares[n] <= most[n] for n in drawn)
    # Those that are not clipped are lifted by one level; a bound is only met by who needs it.
    levels = {shares[n] / weights[n] for n in drawn if least[n] < shares[n] < most[n]}
    assert len(levels) <= 1
    for level in levels:
        for n in drawn:
            assert shares[n] == min(max(level * weights[n], least[n]), most[n])


def test_shares_that_no_bound_touches_stay_as_they_are() -> None:
    bounded = bounded_weights([6, 3, 1], [Fraction(0)] * 3, [Fraction(9, 10)] * 3)
    assert [Fraction(weight, sum(bounded)) for weight in bounded] == [
        Fraction(6, 10),
        Fraction(3, 10),
        Fraction(1, 10),
    ]


def test_what_a_cap_takes_is_shared_in_proportion() -> None:
    mixture = mixture_of([800, 150, 50], max_shares=[0.4, None, None])
    # 60 % go to the others, three to one.
    assert mixture.counts(1000).tolist() == [400, 450, 150]
    assert mixture.counts(10**12).tolist() == [4 * 10**11, 45 * 10**10, 15 * 10**10]


def test_decimal_bounds_are_taken_as_written() -> None:
    assert exact(0.3) == Fraction(3, 10)
    assert mixture_of([10, 10, 10], max_epochs=[0.3, None, None]).limits[0] == 3


def test_a_source_of_zero_weight_rests_and_goes_on_where_it_was() -> None:
    mixture = mixture_of([10, 10], Phase(8, weights=[0, 1]), Phase(20, weights=[1, 0]))
    counts = [mixture.counts(position).tolist() for position in (8, 20, 30)]
    assert counts == [[4, 4], [4, 16], [14, 16]]


def test_the_share_of_an_exhausted_source_goes_to_the_others_in_proportion() -> None:
    mixture = mixture_of([100, 20, 10], weights=[3, 2, 1], max_epochs=[None, 1, None])
    first, second = mixture.segments
    assert (second.start, second.exhausted, second.weights) == (60, 1, (3, 0, 1))
    assert (mixture.counts(60) - mixture.counts(59)).tolist() == [0, 1, 0]
    assert (mixture.counts(100) - mixture.counts(60)).tolist() == [30, 0, 10]
    assert first.start == 0
    assert mixture.end is None


def test_a_stage_whose_sources_are_all_limited_ends() -> None:
    mixture = mixture_of([7, 5], temperature=0, max_epochs=[2, 3.5])
    assert mixture.end == 14 + 17
    assert mixture.counts(mixture.end).tolist() == [14, 17]
    with pytest.raises(IndexError, match="ends at 31"):
        mixture.counts(32)
    assert "epoch limit" in mixture.end_reason


def test_a_stage_ends_where_bounds_forbid_to_go_on() -> None:
    mixture = mixture_of([10, 10], max_shares=[0.6, None], max_epochs=[None, 1])
    assert mixture.end == 20
    assert "0.6" in mixture.end_reason


def test_a_phase_without_a_source_that_is_left_ends_the_stage() -> None:
    mixture = mixture_of(
        [10, 10], Phase(30, weights=[0, 1]), Phase(50), weights=[1, 9], max_epochs=[None, 1]
    )
    assert mixture.end == 30
    assert [segment.phase for segment in mixture.segments] == [0, 0, 1]


def test_counts_do_not_drift_at_any_depth() -> None:
    sizes = [10**12, 3 * 10**11, 10**9]
    mixture = mixture_of(
        sizes,
        Phase(10**12, temperature=0.3, min_shares=[0.5, None, None]),
        max_epochs=[None, 2, 4],
    )
    starts = [segment.start for segment in mixture.segments]
    assert len(starts) == 4
    for start in starts[1:]:
        around = mixture.counts_at(range(start - 3, start + 4))
        assert np.array_equal(np.diff(around, axis=0).sum(axis=1), np.ones(6))
    deep = 10**15
    assert mixture.counts(deep).sum() == deep
    assert mixture.counts(deep)[1:].tolist() == [6 * 10**11, 4 * 10**9]


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"min_shares": [0.6, 0.6]}, "mixture.min_share"),
        ({"max_shares": [0.4, 0.4]}, "mixture.max_share"),
        ({"min_shares": [0.5, None], "max_shares": [0.4, None]}, "mixture.min_share.l0"),
        ({"max_shares": [1.5, None]}, "mixture.max_share.l0"),
        ({"max_shares": [None, 0]}, "mixture.max_share.l1"),
        ({"min_shares": [math.nan, None]}, "mixture.min_share.l0"),
        ({"weights": [1, 0]}, "mixture.weights.1"),
        ({"max_epochs": [0, None]}, "mixture.max_epochs.l0"),
        ({"max_epochs": [None, math.inf]}, "mixture.max_epochs.l1"),
        ({"max_epochs": [0.05, None]}, "mixture.max_epochs.l0"),
    ],
)
def test_settings_that_cannot_be_met_are_the_users_mistake(
    settings: dict[str, object], where: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        mixture_of([10, 10], **settings)  # type: ignore[arg-type]
    (problem,) = caught.value.problems
    assert problem.where == where
    assert problem.remedy


def test_phases_that_cannot_be_planned_are_the_users_mistake() -> None:
    with pytest.raises(ConfigError, match=r"phases\.0\.min_share\.l1: a source of weight 0"):
        mixture_of([10, 10], Phase(5, weights=[1, 0], min_shares=[None, 0.1]))
    with pytest.raises(ConfigError, match=r"weights\.l1: no phase draws"):
        mixture_of([10, 10], Phase(5, weights=[2, 0]), weights=[1, 0])
    with pytest.raises(ConfigError, match=r"phases\.0\.weights: all weights are 0"):
        mixture_of([10, 10], Phase(5, weights=[0, 0]))
    for starts in ((0,), (5, 5), (5, 4)):
        with pytest.raises(ConfigError, match="begins at a later position"):
            mixture_of([10, 10], *(Phase(start) for start in starts))
    with pytest.raises(ConfigError, match=f"at most {MAX_PHASES} phases"):
        mixture_of([10, 10], *(Phase(1 + start) for start in range(MAX_PHASES)))


def test_settings_name_the_phase_that_differs() -> None:
    def settings(*later: Phase, end: int = 1000, **first: object) -> dict[str, str]:
        return dict(mixture_of([10, 10], *later, **first).settings_until(end))  # type: ignore[arg-type]

    second, third = Phase(100, temperature=0.5), Phase(200, weights=[3, 1])
    plain = settings(second, third)
    assert changed_phases(plain, settings(second, third)) == []
    assert changed_phases(plain, settings(second, third, weights=[2, 1])) == [0]
    assert changed_phases(plain, settings(Phase(101, temperature=0.5), third)) == [1]
    assert changed_phases(plain, settings(second, Phase(200, weights=[4, 1]))) == [2]
    assert changed_phases(plain, settings(second)) == [2]
    assert changed_phases(settings(), settings(second)) == [1]
    assert settings(second, third, end=100) == settings(end=100) == settings()
    assert settings(second, third, end=101) == settings(second, end=1000)


def test_an_epoch_limit_counts_only_once_it_is_reached() -> None:
    def settings(limit: float | None, end: int) -> dict[str, str]:
        return dict(mixture_of([10, 10], max_epochs=[limit, None]).settings_until(end))

    assert settings(2, 40) != settings(3, 41)
    assert settings(2, 39) == settings(3, 39) == settings(None, 39)
    assert changed_phases(settings(2, 60), settings(3, 60)) == [0]
    assert changed_phases(settings(2, 60), settings(None, 60)) == [0]
