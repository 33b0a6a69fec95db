"""Coverage and duplicates against all cosines, whole or sampled, and within little memory."""

import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.selection import measures
from headrace.selection.measures import coverage, duplicates
from headrace.selection.ranks import Ranks
from headrace.selection.vectors import Stack


def cosines(vectors):
    unit = vectors / np.linalg.norm(vectors.astype(float), axis=1, keepdims=True)
    return unit @ unit.T


@given(seed=st.integers(0, 10_000), n=st.integers(1, 60), block=st.integers(1, 70))
def test_they_are_what_all_cosines_say(clusters, seed, n, block):
    random = np.random.default_rng(seed)
    vectors = clusters(n, 6, seed)
    chosen = random.permutation(n)[: random.integers(1, n + 1)]
    matrix = cosines(vectors)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measures, "_BLOCK", block)
        covered = coverage(Stack([vectors[: n // 2], vectors[n // 2 :]], "ab"), chosen)
        copies = duplicates(vectors, chosen, 0.95)
    assert covered.measured == n
    assert covered.sizes[-1] == len(chosen)
    for size, value in zip(covered.sizes, covered.chosen, strict=True):
        assert value == pytest.approx(matrix[:, chosen[:size]].max(1).mean(), abs=1e-5)
    drawn = [
        matrix[:, np.random.default_rng(seed).choice(n, len(chosen), replace=False)].max(1).mean()
        for seed in measures.RANDOM_SEEDS
    ]
    assert covered.random[-1] == pytest.approx(np.mean(drawn), abs=1e-5)
    assert covered.random_deviation == pytest.approx(np.std(drawn, ddof=1), abs=1e-5)
    expected = [
        any(matrix[row, other] >= 0.95 for other in chosen[:place])
        for place, row in enumerate(chosen)
    ]
    assert copies.share == pytest.approx(np.mean(expected))
    assert copies.measured == len(chosen)


def test_exact_copies_have_a_cosine_of_one():
    vectors = np.random.default_rng(0).standard_normal((40, 300)).astype(np.float16)
    vectors[10:20] = vectors[:10]
    vectors[20:25] = 3 * vectors[:5]
    assert duplicates(vectors, np.arange(40), 1.0).share == 15 / 40
    assert coverage(vectors, np.arange(40)).chosen[-1] == pytest.approx(1)


def test_a_sample_of_rows_says_nearly_the_same(clusters, monkeypatch):
    vectors = clusters(6000, 16, 5)
    chosen = np.random.default_rng(1).permutation(6000)[:2500]
    whole, copies = coverage(vectors, chosen), duplicates(vectors, chosen, 0.95)
    assert (whole.measured, copies.measured) == (6000, 2500)
    monkeypatch.setattr(measures, "_COSINES", 3_000_000)
    sampled, some = coverage(vectors, chosen), duplicates(vectors, chosen, 0.95)
    assert (sampled.measured, some.measured) == (300, 2000)
    assert sampled.chosen[-1] == pytest.approx(whole.chosen[-1], abs=0.01)
    assert sampled.random[-1] == pytest.approx(whole.random[-1], abs=0.01)
    assert some.share == pytest.approx(copies.share, abs=0.03)
    assert coverage(vectors, chosen) == sampled


class Shared(Ranks):
    """Two ranks as threads, which add up at a barrier."""

    size = 2

    def __init__(self, rank, slots, barrier):
        self.rank, self.slots, self.barrier = rank, slots, barrier

    def sum(self, values):
        self.slots[self.rank] = values
        self.barrier.wait()
        total = self.slots[0] + self.slots[1]
        self.barrier.wait()
        return total


def test_two_ranks_share_the_rows(clusters):
    vectors = clusters(501, 8, 2)
    chosen = np.random.default_rng(1).permutation(501)[:77]
    slots, barrier, found = [None, None], threading.Barrier(2), {}

    def work(rank):
        ranks = Shared(rank, slots, barrier)
        found[rank] = coverage(vectors, chosen, ranks), duplicates(vectors, chosen, 0.9, ranks)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alone = coverage(vectors, chosen)
    for covered, copies in found.values():
        np.testing.assert_allclose(covered.chosen, alone.chosen, rtol=1e-6)
        np.testing.assert_allclose(covered.random, alone.random, rtol=1e-6)
        assert copies == duplicates(vectors, chosen, 0.9)


def test_memory_does_not_grow_with_the_rows():
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("needs Linux: the peak of resident memory is read from /proc")
    vectors = np.random.default_rng(0).standard_normal((60_000, 64), np.float32)
    chosen = np.arange(0, 60_000, 3)

    def peak():
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024

    measure(vectors, chosen[:2000])  # what libraries take once
    Path("/proc/self/clear_refs").write_text("5")  # the peak is what is resident now
    before = peak()
    measure(vectors, chosen)
    assert peak() - before < 50e6  # the cosines of 2,000 rows with all chosen ones are 160 MB


def measure(vectors, chosen):
    coverage(vectors, chosen)
    duplicates(vectors, chosen, 0.95)
