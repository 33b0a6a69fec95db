from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import ConfigError
from headrace.stream.mixture import (
    MAX_DEVIATION,
    WEIGHT_SCALE,
    Mixture,
    integer_weights,
    temperature_weights,
)

WEIGHTS = st.lists(st.integers(1, 10**12), min_size=1, max_size=40)


def fibonacci_like(count: int) -> list[int]:
    """The weights whose tree is as deep as it gets: the worst case of the bound's proof."""
    weights = [1, 1]
    while len(weights) < count:
        weights.append(weights[-1] + weights[-2])
    return weights


@given(WEIGHTS, st.integers(0, 10**12))
def test_counts_add_up_and_stay_within_the_bound(weights: list[int], position: int) -> None:
    counts = Mixture(weights).counts(position).tolist()
    assert sum(counts) == position
    total = sum(weights)
    for count, weight in zip(counts, weights, strict=True):
        assert abs(count - Fraction(position * weight, total)) < MAX_DEVIATION


@given(WEIGHTS, st.integers(0, 10**12), st.integers(0, 2000))
def test_counts_never_fall(weights: list[int], position: int, more: int) -> None:
    mixture = Mixture(weights)
    assert np.all(mixture.counts(position + more) >= mixture.counts(position))


def test_every_position_draws_one_sample_from_one_source() -> None:
    mixture = Mixture([1, 1, 2, 3, 5, 8, 13, 100])
    counts = mixture.counts_at(range(400))
    drawn = np.diff(counts, axis=0)
    assert np.array_equal(np.sort(drawn, axis=1)[:, -1], np.ones(399))
    assert np.array_equal(drawn.sum(axis=1), np.ones(399))


def test_deviation_of_two_sources_is_half_a_sample() -> None:
    positions = np.arange(1000)
    deviation = np.abs(Mixture([7, 3]).counts_at(positions.tolist())[:, 0] - positions * 0.7)
    assert deviation.max() == pytest.approx(0.5)


def test_deviation_of_many_equal_sources_is_below_one_sample() -> None:
    positions = np.arange(5000)
    deviation = Mixture([1] * 64).counts_at(positions.tolist()) - positions[:, None] / 64
    assert np.abs(deviation).max() < 1


@pytest.mark.parametrize("count", [2, 5, 30])
def test_the_worst_weights_keep_the_bound_everywhere(count: int) -> None:
    weights = fibonacci_like(count)
    shares = np.array(weights) / sum(weights)
    positions = np.arange(3000)
    deviation = np.abs(Mixture(weights).counts_at(positions.tolist()) - positions[:, None] * shares)
    assert deviation.max() < MAX_DEVIATION


@given(st.lists(st.integers(1, 10**12), min_size=1, max_size=40), st.integers(1, 9))
def test_weights_that_are_sizes_are_exact_at_the_end_of_every_epoch(
    sizes: list[int], epochs: int
) -> None:
    counts = Mixture(temperature_weights(sizes, 1)).counts(epochs * sum(sizes)).tolist()
    assert counts == [epochs * size for size in sizes]


def test_temperature_lifts_the_small_sources() -> None:
    sizes = [900, 90, 10]
    for temperature in (0.3, 0.5, 0.7):
        expected = np.array([(size / 1000) ** temperature for size in sizes])
        shares = Mixture(temperature_weights(sizes, temperature)).shares
        assert np.allclose(shares, expected / expected.sum(), atol=1e-9)
    assert np.allclose(Mixture(temperature_weights(sizes, 0)).shares, 1 / 3, atol=1e-9)
    assert temperature_weights(sizes, 1) == sizes


def test_whole_numbers_are_taken_as_they_are() -> None:
    assert integer_weights([3, 1, 10**15]) == [3, 1, 10**15]


@given(st.lists(st.floats(1e-300, 1e300), min_size=1, max_size=20))
def test_any_positive_weights_become_positive_integers(weights: list[float]) -> None:
    integers = integer_weights(weights)
    assert min(integers) >= 1
    assert sum(integers) <= WEIGHT_SCALE + 2 * len(weights)


@pytest.mark.parametrize("temperature", [-0.1, math.nan, math.inf])
def test_an_impossible_temperature_is_the_users_mistake(temperature: float) -> None:
    with pytest.raises(ConfigError, match="temperature"):
        temperature_weights([1, 2], temperature)


def test_all_impossible_weights_are_listed() -> None:
    with pytest.raises(ConfigError) as caught:
        integer_weights([1.0, 0, -2, math.nan], where="stages.0.mixture.weights")
    assert [problem.where for problem in caught.value.problems] == [
        "stages.0.mixture.weights.1",
        "stages.0.mixture.weights.2",
        "stages.0.mixture.weights.3",
    ]
