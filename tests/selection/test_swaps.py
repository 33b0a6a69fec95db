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
    quotas=st.lists(st.integers(0, 3), min_size=2, max_size=2),
    with_costs=st.booleans(),
)
def test_no_swap_is_left_that_raises_the_objective(
    dense_reference, seed, count, spare, quotas, trade_off, with_costs
):
    random = np.random.default_rng(seed)
    vectors = random.standard_normal((30, 4)) + 0.5
    groups = random.integers(0, 2, 30).astype(np.int32)
    costs = random.integers(1, 6, 30)
    rows = Rows(vectors, groups=groups)
    cut = GraphCut(rows.unit(np.arange(30)).sum(0), trade_off)
    picked = np.sort(random.permutation(30)[:count])
    total = rows.unit(picked).sum(0)
    left, lefts = 99, np.array([99, 99])
    if with_costs:
        better = improved(
            rows, cut, picked, total, costs=costs, spare=spare, quotas=np.array(quotas)
        )
        left = spare + costs[picked].sum() - costs[better].sum()
        before, after = (
            np.bincount(groups[some], costs[some], minlength=2) for some in (picked, better)
        )
        lefts = quotas + before - after
        assert left >= 0
        assert (lefts >= 0).all()
    else:
        better = improved(rows, cut, picked, total)
    np.testing.assert_array_equal(np.bincount(groups[better]), np.bincount(groups[picked]))

    value = dense_reference(vectors, trade_off=trade_off).value
    reached = value(better)
    assert reached >= value(picked) - 1e-9
    for out in better:
        for come in set(range(30)) - set(better.tolist()):
            more = costs[come] - costs[out]
            if groups[out] == groups[come] and more <= min(left, lefts[groups[out]]):
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
