"""Equation (1), its bootstrap, and whether a shape is told from a flat rate."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.search.combine import Trials, combine, ranks, weighted_geometric_mean


def test_equation_1_by_hand():
    """Three trials, two groups, b = 1.8; worked out with a pocket calculator.

    Ranks: 1.60 -> 1, 1.40 -> 2, 1.10 -> 3. Weights: 1/1.8 = 0.5555556, 1/1.8^2 = 0.3086420,
    1/1.8^3 = 0.1714678; their sum 1.0356653. With powers of ten as rates the exponents are
    averaged: group 0 has 10^-5, 10^-4, 10^-6 in the order of the ranks: -(5 * 0.5555556 +
    4 * 0.3086420 + 6 * 0.1714678) / 1.0356653 = -4.8675497; group 1 has 10^-6, 10^-6, 10^-3:
    -(6 * 0.5555556 + 6 * 0.3086420 + 3 * 0.1714678) / 1.0356653 = -5.5033113.
    """
    trials = Trials(
        rates=np.array([[1e-4, 1e-6], [1e-6, 1e-3], [1e-5, 1e-6]]),
        values=np.array([1.40, 1.10, 1.60]),
    )
    assert np.log10(weighted_geometric_mean(trials)) == pytest.approx(
        [-4.8675497, -5.5033113], abs=1e-7
    )


def test_pairs_are_combined_by_the_plain_geometric_mean():
    pairs = [
        Trials(np.array([[1e-4, 1e-6]]), np.array([1.0])),
        Trials(np.array([[1e-6, 1e-6]]), np.array([0.2])),
    ]
    combined = combine(pairs, resamples=10)
    assert combined.rates == pytest.approx([1e-5, 1e-6])
    assert combined.ratios == pytest.approx([10**0.5, 10**-0.5])
    assert combined.by_pair == pytest.approx(np.array([[1e-4, 1e-6], [1e-6, 1e-6]]))


def test_ranks_of_equal_values_are_shared():
    assert ranks(np.array([0.5, 0.9, 0.5, 0.1])).tolist() == [2.5, 1.0, 2.5, 4.0]


@given(
    st.lists(st.tuples(st.floats(1e-7, 1e-3), st.floats(0, 2)), min_size=1, max_size=2000),
    st.floats(1, 50),
)
def test_the_mean_agrees_with_the_sum_as_it_is_written(trials, base):
    rates = np.array([[rate] for rate, _ in trials])
    values = np.array([value for _, value in trials])
    found = weighted_geometric_mean(Trials(rates, values), base)[0]
    places = [
        sum(other > value for other in values) + (sum(other == value for other in values) + 1) / 2
        for value in values
    ]
    first = min(places)
    weights = [math.exp(-(place - first) * math.log(base)) for place in places]
    logs = [math.log(rate) for rate, _ in trials]
    wanted = math.exp(
        math.fsum(w * x for w, x in zip(weights, logs, strict=True)) / math.fsum(weights)
    )
    assert found == pytest.approx(wanted, rel=1e-9)
    assert rates.min() * (1 - 1e-9) <= found <= rates.max() * (1 + 1e-9)


def _random_trials(generator, groups, penalty, count=60):
    """Trials whose value falls with the distance (in decades) from the best rate of each group."""
    logs = generator.uniform(-7, -3, (count, groups))
    best = np.linspace(-6.5, -3.5, groups)
    values = -penalty * np.square(logs - best).sum(axis=1) + generator.normal(0, 0.01, count)
    return Trials(10**logs, values)


def test_a_strong_shape_is_identified():
    generator = np.random.default_rng(0)
    found = combine([_random_trials(generator, 3, 1.0) for _ in range(6)], resamples=400)
    assert found.by_trials.is_identified
    assert found.by_trials.deviates.tolist() == [True, False, True]
    assert found.ratios[0] < 1 < found.ratios[2]


def test_intervals_are_as_wide_as_they_say():
    """Where values say nothing about rates: 95 % of the intervals hold the middle of the range,
    and a shape is seen in about 5 % of the searches."""
    generator = np.random.default_rng(0)
    held, identified = [], 0
    for number in range(60):
        trials = [_random_trials(generator, 4, 0.0, count=40) for _ in range(2)]
        bounds = combine(trials, resamples=200, seed=number).by_trials
        held += [low < 1e-5 < high for low, high in bounds.rates]
        identified += bounds.is_identified
    assert np.mean(held) > 0.92
    assert identified <= 8


def test_intervals_hold_the_rates_and_the_draws_follow_from_the_seed():
    trials = [_random_trials(np.random.default_rng(3), 4, 0.3)]
    one, same, other = (combine(trials, resamples=200, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one.by_trials.rates, same.by_trials.rates)
    assert not np.array_equal(one.by_trials.rates, other.by_trials.rates)
    assert (one.by_trials.rates[:, 0] <= one.rates).all()
    assert (one.rates <= one.by_trials.rates[:, 1]).all()
    assert (one.by_trials.simultaneous[:, 0] <= one.by_trials.ratios[:, 0]).all()


def test_too_few_trials_have_no_intervals():
    few = _random_trials(np.random.default_rng(3), 2, 1.0, count=9)
    found = combine([few, _random_trials(np.random.default_rng(4), 2, 1.0)])
    assert found.by_trials is None
    assert combine([few]).by_pairs is None


def test_intervals_over_pairs_by_hand():
    """Logarithms to base 10 of 1 group in 3 pairs: -6, -5, -4. Mean -5, standard error 1 / sqrt(3),
    quantile of t with 2 degrees of freedom 4.302653: -5 +- 2.484138."""
    pairs = [Trials(np.array([[rate]]), np.array([1.0])) for rate in (1e-6, 1e-5, 1e-4)]
    bounds = combine(pairs).by_pairs
    assert np.log10(bounds.rates[0]) == pytest.approx([-7.484138, -2.515862], abs=1e-5)
    assert bounds.ratios[0] == pytest.approx([1, 1])
    assert not bounds.is_identified


def test_intervals_over_pairs_do_not_take_gathered_trials_for_certainty():
    """As a sampler leaves them: each pair's trials lie close to a place that chance has chosen."""
    generator = np.random.default_rng(0)
    by_trials, by_pairs = 0, 0
    for number in range(40):
        places = generator.uniform(-6, -4, (3, 4))
        pairs = [
            Trials(10 ** (place + generator.normal(0, 0.05, (30, 4))), generator.normal(size=30))
            for place in places
        ]
        found = combine(pairs, resamples=100, seed=number)
        by_trials += found.by_trials.is_identified
        by_pairs += found.by_pairs.is_identified
    assert by_trials == 40
    assert by_pairs <= 6
