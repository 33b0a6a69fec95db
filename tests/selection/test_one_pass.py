"""One pass over a stream: near Frank-Wolfe, bounded, the same in any order, in little memory."""

import tracemalloc
from itertools import combinations

import numpy as np
import pytest

from headrace.errors import SelectionError
from headrace.selection import Limits, row_stream, select
from headrace.selection.one_pass import one_pass
from headrace.selection.row_stream import Batch, stream_of
from headrace.selection.sampled import uniform


@pytest.mark.parametrize(("sample", "loss"), [(500, 0.02), (4000, 0.002)])
@pytest.mark.parametrize("limits", [Limits(fraction=0.05), Limits(rows=30)])
def test_the_loss_is_small_below_the_knee(clusters, sample, loss, limits):
    vectors = clusters(10_000, 32, 3, dtype=np.float16)
    best = select(vectors, limits)
    assert best.knee > len(best.rows)
    found = select(vectors, limits, method="one_pass", sample_rows=sample)
    assert len(np.unique(found.rows)) == len(best.rows)
    assert found.objective > (1 - loss) * best.objective
    assert found.bound >= best.objective  # a bound is above every set, so above the best known
    assert found.gap < 3 * loss
    assert found.passes == 3
    random = select(vectors, limits, method="random")
    assert found.objective > random.objective


def test_real_embeddings(minilm):
    from headrace.selection.encoder import load_encoder

    random = np.random.default_rng(0)
    who = ["the cat", "a judge", "my sister", "the storm", "an engine", "nobody", "the minister"]
    did = ["slept", "argued", "won a prize", "broke down", "left the town", "sang", "was late"]
    where = ["in Lisbon", "at night", "near the river", "on Monday", "under a tree", "at court"]
    texts = [" ".join(random.choice(words) for words in (who, did, where)) for _ in range(1500)]
    vectors, _ = load_encoder(minilm, max_length=24).embed(texts)
    best = select(vectors, Limits(fraction=0.05))
    found = select(vectors, Limits(fraction=0.05), method="one_pass", sample_rows=750)
    assert found.objective > 0.97 * best.objective
    assert found.bound >= best.objective


def test_warm_passes_correct_a_small_sample(clusters):
    vectors = clusters(10_000, 32, 5)
    best = select(vectors, Limits(fraction=0.05)).objective
    losses = [
        1 - select(
            vectors, Limits(fraction=0.05), method="one_pass", sample_rows=200, warm_passes=passes
        ).objective / best
        for passes in (0, 5)
    ]  # fmt: skip
    assert losses[1] < losses[0] / 4


@pytest.mark.parametrize("seed", range(6))
def test_the_bound_is_no_less_than_the_best_of_all_subsets(clusters, dense_reference, seed):
    vectors = clusters(11, 4, seed, mixed=seed % 2 == 1)
    groups = np.arange(11, dtype=np.int32) % 2
    trade_off = 0.2  # the knee is far, so that each row that must be in counts in the bound
    quotas = Limits(rows=3, minimum={"a": 1}, maximum={"b": 2})
    reference = dense_reference(vectors, trade_off=trade_off)
    sets = list(combinations(range(11), 3))
    for limits, must, permitted in (
        (Limits(rows=3), None, sets),
        (quotas, np.array([3]), [s for s in sets if sum(groups[list(s)]) <= 2 and 3 in s]),
    ):
        found = select(
            vectors, limits, method="one_pass", trade_off=trade_off, sample_rows=6,
            warm_passes=seed % 3, groups=groups, group_names=("a", "b"), required=must,
        )  # fmt: skip
        values = {rows: reference.value(list(rows)) for rows in permitted}
        chosen = tuple(sorted(found.rows.tolist()))
        assert chosen in values
        assert found.objective == pytest.approx(values[chosen], abs=1e-4)
        assert found.bound >= max(values.values()) - 1e-6


def test_no_order_of_the_rows_changes_the_choice(clusters):
    vectors = clusters(3000, 16, 8)
    random = np.random.default_rng(1)
    ties, groups = random.permutation(3000), random.integers(0, 3, 3000).astype(np.int32)
    limits = Limits(rows=200, minimum={"a": 100}, maximum={"c": 20})
    results = []
    for order in (np.arange(3000), random.permutation(3000)):
        found = select(
            vectors[order], limits, method="one_pass", sample_rows=400, warm_passes=1,
            ties=ties[order], groups=groups[order], group_names=("a", "b", "c"),
        )  # fmt: skip
        counts = np.bincount(groups[order][found.rows], minlength=3)
        assert counts.sum() == 200
        assert counts[0] >= 100
        assert counts[2] <= 20
        results.append((ties[order][found.rows].tolist(), found.bound, found.objective))
    assert results[0] == results[1]
    other = select(vectors, limits=Limits(rows=200), method="one_pass", sample_rows=400, seed=9)
    assert set(ties[other.rows].tolist()) != set(results[0][0])


def test_copies_are_decided_by_their_ties_whenever_they_come(clusters, monkeypatch):
    """The worst rows are dropped all the time, and copies of the worst that is kept come later."""
    vectors = np.tile(clusters(50, 8, 2), (40, 1))
    ties = np.random.default_rng(3).permutation(2000)
    groups = np.zeros(2000, np.int32)
    results = []
    for size in (2000, 8):
        monkeypatch.setattr(row_stream, "_LEAST_PENDING", size)
        found = one_pass(
            lambda size=size: (
                Batch(vectors[start : start + size], ties[start : start + size], groups[:size])
                for start in range(0, 2000, size)
            ),
            Limits(rows=333),
            sample_rows=300,
        )
        assert len(np.unique(found.rows)) == 333
        results.append((found.rows[:333].tolist(), found.bound))
    assert results[0] == results[1]


def test_all_rows_and_one_row(clusters):
    vectors = clusters(300, 8, 4)
    for rows in (1, 299, 300):
        found = select(vectors, Limits(rows=rows), method="one_pass", sample_rows=50)
        assert len(np.unique(found.rows)) == rows
        assert found.bound >= select(vectors, Limits(rows=rows)).objective - 1e-6
    assert found.first_negative_gain is not None


def test_a_smaller_trade_off_is_suggested_past_the_knee(clusters):
    vectors = clusters(1000, 8, 4)
    limits = Limits(rows=200)
    found = select(vectors, limits, method="one_pass", trade_off=20.0)
    best = select(vectors, limits, trade_off=20.0)
    assert found.first_negative_gain is not None
    assert found.suggested_trade_off == pytest.approx(best.suggested_trade_off, rel=1e-6)


def test_everything_that_is_wrong_is_said_at_once(clusters):
    vectors = clusters(100, 8, 4)
    vectors[7], vectors[20, 3] = 0, np.nan
    with pytest.raises(SelectionError) as caught:
        select(
            vectors, Limits(rows=101), method="one_pass", trade_off=-1.0, sample_rows=0,
            names=lambda row: f"en/{row}",
        )  # fmt: skip
    said = str(caught.value)
    for words in ("en/7", "en/20", "sample_rows", "trade_off", "rows"):
        assert words in said
    with pytest.raises(SelectionError, match="keeps no budget"):
        select(clusters(9, 8, 4), Limits(budget=5), costs=np.ones(9, int), method="one_pass")


def test_hashes_are_spread_evenly_and_seeds_differ():
    drawn = uniform(np.arange(100_000), 0)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    counts = np.histogram(drawn, bins=50, range=(0, 1))[0]
    assert abs(counts - 2000).max() < 250  # 5.6 standard deviations
    assert abs(np.corrcoef(drawn, uniform(np.arange(100_000), 1))[0, 1]) < 0.02


def test_a_stream_may_have_batches_of_any_size(clusters):
    vectors = clusters(12_000, 8, 6)
    ties = np.arange(12_000)

    def one_batch():
        yield Batch(vectors, ties, np.zeros(12_000, np.int32))

    whole = one_pass(one_batch, Limits(rows=100), sample_rows=500)
    pieces = one_pass(stream_of(vectors, ties), Limits(rows=100), sample_rows=500)
    np.testing.assert_array_equal(whole.rows, pieces.rows)


def made_on_demand(rows, dimensions=32):
    """A table that is never held: each batch is made when it is read."""

    def stream():
        for start in range(0, rows, 4096):
            ties = np.arange(start, min(rows, start + 4096))
            random = np.random.default_rng(start)
            vectors = random.standard_normal((len(ties), dimensions), np.float32) + 0.5
            yield Batch(vectors, ties, np.zeros(len(ties), np.int32))

    return stream


def test_memory_does_not_grow_with_the_rows():
    """The peak of all arrays, for tables of 26 MB and 128 MB."""
    peaks = []
    for rows in (200_000, 1_000_000):
        tracemalloc.start()
        found = one_pass(made_on_demand(rows), Limits(rows=500), sample_rows=1000)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(np.unique(found.rows)) == 500
        assert found.gap < 0.01
    assert peaks[1] < 1.05 * peaks[0] + 1e5
    assert peaks[1] < 1_000_000 * 8  # less than one number for each row
