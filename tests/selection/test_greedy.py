"""The greedy without a matrix against Algorithm 1 with it, index for index."""

import numpy as np
import pytest

from headrace.selection import Limits, greedy, select


def compare(reference, trade_off, count):
    reference.trade_off = trade_off
    expected, gains = reference.greedy(count)
    ours = select(
        reference.vectors,
        Limits(rows=count),
        method="exact_greedy",
        trade_off=trade_off,
        ties=reference.ties,
    )
    np.testing.assert_array_equal(ours.rows, expected)
    np.testing.assert_allclose(ours.gains, gains, atol=1e-8)
    assert ours.objective == pytest.approx(reference.value(expected), rel=1e-9, abs=1e-7)
    assert ours.bound >= ours.objective


@pytest.fixture(params=["layers as they are", "small layers"])
def layers(request, monkeypatch):
    """Layers so small that most rows of a small table are in the outer one, and stale."""
    if request.param == "small layers":
        monkeypatch.setattr(greedy, "_SMALLEST_POOL", 40)
        monkeypatch.setattr(greedy, "_EXACT", 8)


@pytest.mark.usefixtures("layers")
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("d", [8, 384])
def test_it_is_the_dense_greedy(dense_reference, clusters, d, mixed):
    for seed in range(3):
        reference = dense_reference(clusters(300, d, seed, mixed=mixed))
        for trade_off in (0.0, 1.0, 10.0, 18.0):
            compare(reference, trade_off, 60)


@pytest.mark.slow
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("d", [8, 384])
@pytest.mark.parametrize(("n", "count"), [(1000, 100), (4000, 100)])
def test_it_is_the_dense_greedy_for_many_rows(dense_reference, clusters, n, count, d, mixed):
    for seed in range(10):
        reference = dense_reference(clusters(n, d, seed, mixed=mixed))
        for trade_off in (0.0, 1.0, 10.0, n / count - 2):
            compare(reference, trade_off, count)


@pytest.mark.usefixtures("layers")
def test_far_past_the_knee_it_is_still_the_dense_greedy(dense_reference, clusters):
    compare(dense_reference(clusters(200, 8, 3)), 10.0, 200)


@pytest.mark.usefixtures("layers")
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_copies_are_picked_by_their_ids(dense_reference, dtype):
    """As in the paper: a few rows, each many times, so that most of the greedy is ties."""
    random = np.random.default_rng(1)
    few = random.standard_normal((30, 16)) + 1
    vectors = few[random.integers(0, len(few), 3000)].astype(dtype)
    ties = random.permutation(len(vectors))
    compare(dense_reference(vectors, ties), 10.0, 300)


def test_rows_that_are_all_equal_are_picked_by_their_ids(dense_reference):
    ties = np.random.default_rng(2).permutation(500)
    ours = select(np.ones((500, 4)), Limits(rows=20), method="exact_greedy", ties=ties)
    np.testing.assert_array_equal(ours.rows, np.argsort(ties)[:20])


@pytest.mark.usefixtures("layers")
def test_quotas_close_and_open_groups(dense_reference, clusters):
    vectors = clusters(400, 8, 5)
    groups = np.random.default_rng(5).integers(0, 4, 400).astype(np.int32)
    low, high, count = np.array([0, 12, 20, 0]), np.array([5, 15, 100, 9]), 45

    def allowed(chosen):
        counts = np.bincount(groups[chosen], minlength=4)
        missing = np.maximum(low - counts, 0)
        is_open = counts < high if count - len(chosen) > missing.sum() else missing > 0
        return is_open[groups]

    expected, _ = dense_reference(vectors).greedy(count, allowed)
    names = ("a", "b", "c", "d")
    limits = Limits(count, minimum={"b": 12, "c": 20}, maximum={"a": 5, "b": 15, "d": 9})
    ours = select(vectors, limits, method="exact_greedy", groups=groups, group_names=names)
    np.testing.assert_array_equal(ours.rows, expected)
    assert (np.bincount(groups[expected], minlength=4) == [5, 12, 20, 8]).sum() >= 2


def test_rows_that_must_be_in_come_first(dense_reference, clusters):
    vectors = clusters(300, 8, 6)
    reference = dense_reference(vectors)
    required = np.array([7, 123, 250])
    ours = select(vectors, Limits(rows=30), method="exact_greedy", required=required)
    assert set(ours.rows[:3]) == set(required)
    for place in (3, 10, 29):
        before = ours.rows[:place]
        gains = [
            reference.value([*before, row]) if row not in before else -np.inf for row in range(300)
        ]
        assert ours.rows[place] == int(np.argmax(gains))
