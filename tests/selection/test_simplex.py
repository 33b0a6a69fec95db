"""The small problem of each pass against its optimality conditions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.selection.simplex import best_mix


@given(seed=st.integers(0, 10_000), points=st.integers(1, 12), d=st.integers(1, 6))
def test_points_are_added_one_by_one_and_the_mix_stays_optimal(seed, points, d):
    random = np.random.default_rng(seed)
    atoms, goal = random.standard_normal((points, d)), random.standard_normal(d)
    weights = np.zeros(0)
    used = atoms[:0]
    for atom in atoms:
        used = np.vstack([used, atom])
        weights = best_mix(used @ used.T, used @ goal, np.append(weights, 0.0))
        assert weights.min() >= 0
        assert weights.sum() == pytest.approx(1)
        used, weights = used[weights > 0], weights[weights > 0]
        slope = used @ (goal - weights @ used)  # equal on all points in use
        np.testing.assert_allclose(slope, slope @ weights, atol=1e-7)
