"""Bootstrap intervals: what they are for, checked on data whose noise is known."""

import numpy as np
import pytest

from headrace.forgetting.intervals import estimate
from headrace.forgetting.matrix import Matrix


def pair_runs(draw, seeds=5, sequences=("a-b",)):
    """Runs of pairs; ``draw(sequence, seed)`` gives R."""
    return {
        (name, seed): Matrix.of(name.split("-"), draw(name, seed))
        for name in sequences
        for seed in range(seeds)
    }


def answered(right_first, right_last, order=("a", "b")):
    """R of a pair whose last row has answers."""
    first = np.asarray(right_first, dtype=bool)
    last = np.asarray(right_last, dtype=bool)
    return Matrix(
        order,
        np.array([[1.0, 0.5], [first.mean(), last.mean()]]),
        None,
        ((None, None), (first, last)),
    )


def test_the_interval_over_seeds_is_that_of_their_mean():
    values = [0.70, 0.72, 0.69, 0.75, 0.71]
    runs = pair_runs(lambda _, seed: [[0.9, 0.5], [values[seed], 0.8]])
    found = estimate(runs, "p_o", resamples=40_000)
    assert found.mean == pytest.approx(np.mean(values))
    assert (found.seeds, found.sequences) == (5, 1)
    # an independent bootstrap with another generator
    random = np.random.RandomState(3)
    means = np.array(values)[random.randint(0, 5, (40_000, 5))].mean(axis=1)
    assert [found.low, found.high] == pytest.approx(np.percentile(means, [2.5, 97.5]), abs=1.5e-3)


def test_pairing_takes_out_what_methods_have_in_common():
    noise = np.random.default_rng(0).normal(0, 0.1, 6)
    worse = pair_runs(lambda _, seed: [[0.9, 0.5], [0.6 + noise[seed], 0.5]], seeds=6)
    better = pair_runs(lambda _, seed: [[0.9, 0.5], [0.62 + noise[seed], 0.5]], seeds=6)
    difference = estimate(better, "p_o", worse)
    assert difference.is_apart_from_zero
    assert [difference.mean, difference.low, difference.high] == pytest.approx([0.02] * 3)
    one, other = estimate(better, "p_o"), estimate(worse, "p_o")
    assert one.low < other.high, "unpaired, the two cannot be told apart"


def test_only_seeds_and_sequences_that_both_have_are_compared():
    runs = pair_runs(lambda name, seed: [[1, 0], [0.1 * seed, 0]], 3, ("a-b", "c-d"))
    other = {key: matrix for key, matrix in runs.items() if key != ("c-d", 2)}
    found = estimate(runs, "p_o", other)
    assert (found.seeds, found.sequences, found.mean) == (2, 2, 0)
    assert estimate(runs, "p_o", {}) is None


def test_a_measure_that_joint_training_lacks_is_no_estimate():
    joint = {("a-b", seed): Matrix.of(("a", "b"), [[0.9, 0.8]]) for seed in range(3)}
    assert estimate(joint, "backward_transfer") is None
    assert estimate(joint, "p").mean == pytest.approx(1.7)


def test_one_seed_without_answers_has_no_interval():
    found = estimate(pair_runs(lambda *_: [[1, 0], [0.5, 0.5]], seeds=1), "p")
    assert (found.low, found.high) == (None, None)
    assert not found.is_apart_from_zero


def test_test_samples_are_drawn_again_where_their_answers_are_known():
    right = np.arange(400) % 4 < 3
    runs = {("a-b", seed): answered(right, np.ones(50)) for seed in range(4)}
    found = estimate(runs, "p_o", resamples=20_000)
    # the seeds agree: all that is left is the binomial noise of 400 samples
    error = 1.96 * np.sqrt(0.75 * 0.25 / 400)
    assert [found.low, found.high] == pytest.approx([0.75 - error, 0.75 + error], abs=4e-3)
    alone = estimate({("a-b", 0): runs["a-b", 0]}, "p_o")
    assert alone.low == pytest.approx(0.75 - error, abs=6e-3)


def test_methods_are_compared_on_the_same_test_samples():
    chance = np.random.default_rng(1)
    base = chance.random(300) < 0.6
    better = base.copy()
    better[np.flatnonzero(~base)[:12]] = True
    first = {("a-b", seed): answered(base, base) for seed in range(3)}
    second = {("a-b", seed): answered(better, base) for seed in range(3)}
    difference = estimate(second, "p_o", first)
    assert difference.mean == pytest.approx(12 / 300)
    assert difference.is_apart_from_zero
    assert estimate(second, "p_s", first).low == estimate(second, "p_s", first).high == 0


def test_a_task_of_several_sequences_is_drawn_once():
    """Its noise adds up over sequences: it is the same samples that are left out."""
    right = np.arange(200) % 2 == 0
    one = {("a-b", 0): answered(right, np.ones(10))}
    two = {**one, ("a-c", 0): answered(right, np.ones(10), ("a", "c"))}
    widths = [
        found.high - found.low
        for found in (estimate(runs, "p_o", resamples=20_000) for runs in (one, two))
    ]
    assert widths[0] == pytest.approx(widths[1], rel=0.05)
