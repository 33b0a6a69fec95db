"""The map of a selection against a principal component analysis of all rows."""

import numpy as np
import pytest

from headrace.selection.projection import project


@pytest.mark.parametrize(("n", "d"), [(300, 12), (40, 100)])
def test_small_tables_are_laid_out_whole_along_their_principal_components(clusters, n, d):
    vectors = clusters(n, d, 1)
    chosen = np.arange(0, n, 7)
    found = project(vectors, chosen)
    unit = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(float)
    centred = unit - unit.mean(0)
    _, values, axes = np.linalg.svd(centred, full_matrices=False)
    expected = centred @ axes[:2].T
    order = np.concatenate([np.setdiff1d(np.arange(n), chosen), chosen])
    assert found.others == n - len(chosen)
    np.testing.assert_allclose(np.abs(found.points), np.abs(expected[order]), atol=1e-4)
    assert found.variance == pytest.approx((values[:2] ** 2).sum() / (values**2).sum(), rel=1e-4)


def test_large_tables_are_sampled_and_the_same_each_time(clusters):
    vectors = clusters(5000, 8, 1, dtype=np.float16)
    chosen = np.random.default_rng(0).permutation(5000)[:2000]
    found = project(vectors, chosen)
    assert len(found.points) - found.others == 400
    assert 600 < found.others < 840  # three fifths of 1,200
    np.testing.assert_array_equal(project(vectors, chosen).points, found.points)


@pytest.mark.parametrize("vectors", [np.ones((1, 3)), np.ones((5, 1)), np.eye(2)])
def test_rows_without_two_dimensions_have_a_place_too(vectors):
    found = project(vectors, np.array([0]))
    assert found.points.shape == (len(vectors), 2)
    assert np.isfinite(found.points).all()
    assert 0 <= found.variance <= 1 + 1e-9
