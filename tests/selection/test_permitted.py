"""The linear problem of each pass against its optimum, found otherwise."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from headrace.selection.limits import Room
from headrace.selection.permitted import Permitted
from headrace.selection.rows import Rows


def everything_open(groups: int) -> np.ndarray:
    return np.full(groups, 99)


@given(seed=st.integers(0, 10_000), budget=st.integers(1, 60), bonus=st.sampled_from([0.0, 5.0]))
def test_under_a_budget_it_is_the_fractional_knapsack(seed, budget, bonus):
    random = np.random.default_rng(seed)
    vectors, query = random.standard_normal((12, 3)), 3 * random.standard_normal(3)
    costs = random.integers(1, 9, 12)
    rows = Rows(vectors)
    permitted = Permitted(
        rows, Room(None, budget, np.zeros(1, int), everything_open(1)), np.zeros(0, int), costs
    )
    best = permitted.best_for(query, bonus)
    values = rows.exact_scores(np.arange(12), query) + bonus

    left, expected = budget, 0.0
    for row in np.argsort(-values / costs):
        if values[row] > 0 and left > 0:
            share = min(1.0, left / costs[row])
            expected += share * values[row]
            left -= share * costs[row]
    assert costs[best.rows].sum() <= budget
    assert values[best.rows].sum() + best.rest == pytest.approx(expected)


@given(seed=st.integers(0, 10_000), data=st.data())
def test_under_quotas_no_permitted_set_has_a_larger_sum(seed, data):
    random = np.random.default_rng(seed)
    vectors, query = random.standard_normal((10, 3)), random.standard_normal(3)
    groups = random.integers(0, 3, 10).astype(np.int32)
    count = data.draw(st.integers(1, 10))
    inside = random.permutation(10)[:count]
    required = np.sort(inside[: data.draw(st.integers(0, min(2, count)))])
    taken = np.bincount(groups[required], minlength=3)
    sizes = np.bincount(groups[inside], minlength=3) - taken
    low, high = random.integers(0, sizes + 1), sizes + random.integers(0, 3, 3)
    rows = Rows(vectors, groups=groups)
    room = Room(count - len(required), None, low, high)
    best = Permitted(rows, room, required).best_for(query, 0.0).rows
    values = rows.exact_scores(np.arange(10), query)

    def is_permitted(subset) -> bool:
        counts = np.bincount(groups[list(subset)], minlength=3) - taken
        return set(required) <= set(subset) and bool(((low <= counts) & (counts <= high)).all())

    assert is_permitted(best)
    assert len(best) == count
    most = max(values[list(s)].sum() for s in combinations(range(10), count) if is_permitted(s))
    assert values[best].sum() == pytest.approx(most)


@given(seed=st.integers(0, 10_000), budget=st.integers(1, 40), bonus=st.sampled_from([0.0, 5.0]))
def test_under_a_budget_with_quotas_no_fractions_of_rows_have_a_larger_sum(seed, budget, bonus):
    random = np.random.default_rng(seed)
    vectors, query = random.standard_normal((12, 3)), 3 * random.standard_normal(3)
    groups = random.integers(0, 3, 12).astype(np.int32)
    costs = random.integers(1, 9, 12)
    quotas = random.integers(0, 25, 3)
    rows = Rows(vectors, groups=groups)
    room = Room(None, budget, np.zeros(3, int), quotas)
    best = Permitted(rows, room, np.zeros(0, int), costs).best_for(query, bonus)
    values = rows.exact_scores(np.arange(12), query) + bonus
    inside = groups == np.arange(3)[:, None]
    most = linprog(
        -values, np.vstack([costs, inside * costs]), np.append(budget, quotas), bounds=(0, 1)
    )
    taken = costs * np.isin(np.arange(12), best.rows)
    assert taken.sum() <= budget
    assert (inside @ taken <= quotas).all()
    assert values[best.rows].sum() + best.rest >= -most.fun - 1e-6
    # and no more is lost than a row of each group
    assert best.rest <= values.max() + sum(values[own].max(initial=0) for own in inside) + 1e-6
