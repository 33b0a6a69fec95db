"""K-means and what is measured of its clusters, against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest

from headrace.errors import CorpusError
from headrace.forgetting import kmeans
from headrace.forgetting.kmeans import label_counts, map_of, purity, silhouette

pytest.importorskip("faiss")


def blobs(
    sizes: tuple[int, ...], d: int = 16, noise: float = 0.25
) -> tuple[np.ndarray, np.ndarray]:
    """Rows around centres, and the centre of each row, in random order."""
    random = np.random.default_rng(5)
    centres = np.linalg.qr(random.standard_normal((d, d)))[0][: len(sizes)]
    own = np.repeat(np.arange(len(sizes)), sizes)
    rows = centres[own] + noise / d**0.5 * random.standard_normal((len(own), d))
    order = random.permutation(len(own))
    return (3 * rows[order]).astype(np.float16), own[order]


def test_clusters_are_found_and_numbered_by_size() -> None:
    vectors, own = blobs((40, 200, 90))
    found = kmeans.kmeans(vectors, 3, seed=0)
    assert found.sizes == (200, 90, 40)
    np.testing.assert_array_equal(found.numbers, np.array([2, 0, 1])[own])


def test_the_error_is_as_small_as_scikit_learn_s_on_rows_without_clusters() -> None:
    sklearn = pytest.importorskip("sklearn.cluster")
    random = np.random.default_rng(0)
    vectors = random.standard_normal((800, 12)).astype(np.float16)
    unit = vectors.astype(float) / np.linalg.norm(vectors.astype(float), axis=1, keepdims=True)
    found = kmeans.kmeans(vectors, 5, seed=1)
    reference = sklearn.KMeans(5, n_init=8, random_state=0).fit(unit)
    assert found.error <= reference.inertia_ / 800 * 1.005
    centroids = np.array([unit[found.numbers == number].mean(0) for number in range(5)])
    distances = ((unit[:, None] - centroids) ** 2).sum(2)
    np.testing.assert_array_equal(distances.argmin(1), found.numbers)  # a fixed point
    assert found.error == pytest.approx(distances.min(1).mean(), rel=1e-6)


def test_a_seed_gives_the_same_clusters_on_any_number_of_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import faiss

    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # then the number that FAISS has is kept
    vectors = np.random.default_rng(0).standard_normal((3000, 24)).astype(np.float16)
    before = faiss.omp_get_max_threads()
    found = []
    try:
        for threads in (1, 4):
            faiss.omp_set_num_threads(threads)
            found.append(kmeans.kmeans(vectors, 4, seed=7).numbers)
    finally:
        faiss.omp_set_num_threads(before)
    np.testing.assert_array_equal(*found)


def test_centroids_of_a_sample_serve_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, own = blobs((600, 300))
    monkeypatch.setattr(kmeans, "_TRAINED_ON", 100)
    np.testing.assert_array_equal(kmeans.kmeans(vectors, 2, seed=0).numbers, own)


@pytest.mark.parametrize("different", [1, 2])
def test_fewer_different_rows_than_clusters_are_refused(different: int) -> None:
    rows = np.eye(4, dtype=np.float16)[np.arange(30) % different]
    with pytest.raises(CorpusError, match="fewer than 3 different"):
        kmeans.kmeans(rows, 3, seed=0)


def test_as_many_clusters_as_rows() -> None:
    assert kmeans.kmeans(np.eye(5, dtype=np.float16), 5, seed=0).sizes == (1,) * 5


@pytest.mark.parametrize("sizes", [(100, 60), (80, 50, 1)])
def test_silhouette(sizes: tuple[int, ...]) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    vectors, own = blobs(sizes, noise=1.5)
    unit = vectors.astype(float) / np.linalg.norm(vectors.astype(float), axis=1, keepdims=True)
    measured = silhouette(vectors, own.astype(np.int32))
    assert measured is not None
    assert measured[0] == pytest.approx(metrics.silhouette_score(unit, own), abs=1e-5)
    assert measured[1] == len(own)


def test_a_silhouette_of_many_rows_is_that_of_a_sample() -> None:
    vectors, own = blobs((2500, 1500))
    measured = silhouette(vectors, own.astype(np.int32))
    assert measured is not None
    assert measured[1] == 2000
    metrics = pytest.importorskip("sklearn.metrics")
    unit = vectors.astype(float) / np.linalg.norm(vectors.astype(float), axis=1, keepdims=True)
    assert measured[0] == pytest.approx(metrics.silhouette_score(unit, own), abs=0.01)
    assert silhouette(vectors, np.zeros(4000, np.int32)) is None


def test_purity_by_hand() -> None:
    clusters = np.array([0, 0, 0, 0, 1, 1, 1], np.int32)
    labels = np.array([0, 0, 1, 2, 2, 2, 0])
    counts = label_counts(clusters, labels, 3)
    np.testing.assert_array_equal(counts, [[2, 1, 1], [1, 0, 2]])
    assert purity(counts) == pytest.approx((2 + 2) / 7)
    assert purity(counts.T) == pytest.approx((2 + 1 + 2) / 7)


def test_the_map_keeps_clusters_apart() -> None:
    vectors, own = blobs((2000, 900))
    rows, places, variance = map_of(vectors)
    assert places.shape == (len(rows), 2) == (1200, 2)
    assert 0.5 < variance <= 1
    sides = places[:, 0] > 0
    assert (sides == (own[rows] == own[rows][sides][0])).all()
