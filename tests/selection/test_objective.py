"""The closed form against equation (3) as it is written."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.selection.objective import GraphCut


@pytest.fixture(scope="module")
def case(dense_reference, clusters):
    def make(seed, trade_off, n=40, d=6):
        vectors = clusters(n, d, seed, mixed=True, dtype=np.float64)
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return dense_reference(vectors, trade_off=trade_off), unit, GraphCut(unit.sum(0), trade_off)

    return make


@given(
    seed=st.integers(0, 1000),
    trade_off=st.sampled_from([0.0, 0.5, 1.0, 10.0, 38.0]),
    chosen=st.sets(st.integers(0, 39), max_size=40),
)
def test_value_and_gains_are_those_of_the_definition(case, seed, trade_off, chosen):
    reference, unit, cut = case(seed, trade_off)
    rows = sorted(chosen)
    total = unit[rows].sum(0)
    assert cut.value(total, len(rows)) == pytest.approx(reference.value(rows), abs=1e-9)
    for row in set(range(40)) - chosen:
        gain = reference.value([*rows, row]) - reference.value(rows)
        assert unit[row] @ cut.query(total) - 1 == pytest.approx(gain, abs=1e-9)


@given(
    seed=st.integers(0, 1000),
    trade_off=st.sampled_from([0.0, 1.0, 10.0]),
    count=st.integers(1, 39),
    noise=st.floats(0, 30),
)
def test_any_query_gives_a_bound(case, seed, trade_off, count, noise):
    """The bound of a random vector is above the value of any set of that size."""
    reference, unit, cut = case(seed, trade_off)
    random = np.random.default_rng(seed)
    query = cut.query(unit[:count].sum(0)) + noise * random.standard_normal(unit.shape[1])
    best = np.sort(unit @ query + trade_off / 2)[-count:].sum()
    for _ in range(20):
        rows = random.permutation(len(unit))[:count]
        assert reference.value(rows) <= cut.bound(query, best) + 1e-9


@given(
    seed=st.integers(0, 1000),
    count=st.integers(1, 20),
    middle=st.floats(0, 3),
)
def test_with_a_harmless_trade_off_no_pick_of_the_greedy_lowers_the_value(
    dense_reference, seed, count, middle
):
    random = np.random.default_rng(seed)
    vectors = random.standard_normal((40, 5)) + middle * random.standard_normal(5)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    everything = unit.sum(0)
    longest = np.sort(unit @ everything)[-count:].sum()
    largest = GraphCut(everything, 0.0).harmless(longest, len(unit))
    if largest is not None:
        _, gains = dense_reference(vectors, trade_off=largest).greedy(count)
        assert gains.min() >= -1e-9


def test_a_harmless_trade_off_is_just_before_the_knee():
    vectors = np.ones(16) + 0.05 * np.random.default_rng(0).standard_normal((1200, 16))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    everything = unit.sum(0)
    longest = np.sort(unit @ everything)[-60:].sum()
    largest = GraphCut(everything, 0.0).harmless(longest, 1200)
    assert largest is not None
    assert largest == pytest.approx(1200 / 60 - 2, rel=0.01)
    assert GraphCut(everything, 0.0).harmless(0.9 * everything @ everything, 1200) is None
    assert GraphCut(everything, 0.0).harmless(0.0, 1200) is None


def test_gains_turn_negative_at_the_knee():
    """Rows all alike but for small noise: the knee is at n / (2 + lambda)."""
    random = np.random.default_rng(0)
    vectors = np.ones(16) + 0.05 * random.standard_normal((1200, 16))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cut = GraphCut(unit.sum(0), 10.0)
    knee = cut.knee(unit[:30].sum(0), 30)
    assert knee == pytest.approx(1200 / 12, rel=0.01)
    before, after = (unit[: int(share * knee)].sum(0) for share in (0.97, 1.03))
    assert (unit[200:] @ cut.query(before) - 1 > 0).all()
    assert (unit[200:] @ cut.query(after) - 1 < 0).all()


def test_a_set_that_points_away_has_no_knee():
    cut = GraphCut(np.array([1.0, 0.0]), 3.0)
    assert cut.knee(np.array([-1.0, 0.0]), 1) == np.inf
