"""Rows that stand elsewhere, or are read in other pieces, are the same rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.selection import rows as module
from headrace.selection.rows import Rows


@given(
    n=st.integers(1, 40), d=st.integers(1, 70), seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from([np.float16, np.float32, np.float64]), piece=st.integers(1, 12),
)  # fmt: skip
def test_norms_and_sums_do_not_depend_on_where_rows_stand(n, d, seed, dtype, piece):
    random = np.random.default_rng(seed)
    vectors = (random.standard_normal((n, d)) + 0.1).astype(dtype)
    whole = Rows(vectors)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_MOST_ROWS", piece)
        order = random.permutation(n)
        moved = Rows(vectors[order])
        np.testing.assert_array_equal(moved.inverse_norms, whole.inverse_norms[order])
        np.testing.assert_array_equal(moved.fixed_sum(), whole.fixed_sum())
        np.testing.assert_array_equal(moved.fixed_sum(np.arange(n)), whole.fixed_sum())
        np.testing.assert_array_equal(
            moved.exact_scores(np.arange(n), np.ones(d)), whole.exact_scores(order, np.ones(d))
        )
    unit = vectors.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    np.testing.assert_allclose(whole.as_float(whole.fixed_sum()), unit.sum(0), atol=1e-10 * n)


def test_sums_of_short_rows_are_exact():
    """So many rows of so few dimensions would not add up exactly in one fp64 sum."""
    random = np.random.default_rng(0)
    rows = Rows(np.stack([np.ones(100_000), 1e-3 * random.random(100_000)], axis=1))
    fixed = np.rint(rows.unit(np.arange(100_000)) * rows._scale).astype(np.int64)
    np.testing.assert_array_equal(rows.fixed_sum(), fixed.sum(0))


def test_a_subset_is_these_rows_by_themselves(clusters):
    vectors = clusters(200, 24, 3, dtype=np.float16)
    some = np.array([3, 5, 60, 199])
    part, alone = Rows(vectors).subset(some), Rows(vectors[some])
    query = np.linspace(-1, 1, 24)
    np.testing.assert_array_equal(part.scores(query), alone.scores(query))
    np.testing.assert_array_equal(part.unit(np.array([0, 3])), alone.unit(np.array([0, 3])))
    copies, positions = part.gather(np.array([2, 1]))
    np.testing.assert_array_equal(positions, [1, 2])
    np.testing.assert_array_equal(copies.matrix, vectors[[5, 60]])
