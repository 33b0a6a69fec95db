"""Swaps raise the objective, keep the limits, and end where no swap raises it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.selection.objective import GraphCut
from headrace.selection.rows import Rows
from headrace.selection.swaps import improved


@given(
    seed=st.integers(0, 10_000),
    count=st.integers(1, 29),
    spare=st.integers(0, 5),
    trade_off=st.sampled_from([0.0, 10.0]),
    with_costs=st.booleans(),
)
def test_no_swap_is_left_that_raises_the_objective(
    dense_reference, seed, count, spare, trade_off, with_costs
):
    random = np.random.default_rng(seed)
    vectors = random.standard_normal((30, 4)) + 0.5
    groups = random.integers(0, 2, 30).astype(np.int32)
    costs = random.integers(1, 6, 30)
    rows = Rows(vectors, groups=groups)
    cut = GraphCut(rows.unit(np.arange(30)).sum(0), trade_off)
    picked = np.sort(random.permutation(30)[:count])
    total = rows.unit(picked).sum(0)
    if with_costs:
        better = improved(rows, cut, picked, total, costs=costs, spare=spare)
        assert costs[better].sum() <= costs[picked].sum() + spare
    else:
        better = improved(rows, cut, picked, total)
    np.testing.assert_array_equal(np.bincount(groups[better]), np.bincount(groups[picked]))

    value = dense_reference(vectors, trade_off=trade_off).value
    reached = value(better)
    assert reached >= value(picked) - 1e-9
    left = costs[picked].sum() + spare - costs[better].sum() if with_costs else 99
    for out in better:
        for come in set(range(30)) - set(better.tolist()):
            if groups[out] == groups[come] and costs[come] - costs[out] <= left:
                other = np.append(better[better != out], come)
                assert value(other) <= reached + 1e-6 * abs(reached) + 1e-6


def test_copies_are_not_swapped_forever():
    rows = Rows(np.ones((20, 3)))
    cut = GraphCut(rows.unit(np.arange(20)).sum(0), 10.0)
    picked = np.arange(5)
    better = improved(rows, cut, picked, rows.unit(picked).sum(0))
    assert len(better) == 5
    assert cut.value(rows.unit(better).sum(0), 5) == pytest.approx(
        cut.value(rows.unit(picked).sum(0), 5)
    )
