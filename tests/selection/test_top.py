"""The best rows by keys that are known to within an error, against plain sorting."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headrace.selection.rows import Rows
from headrace.selection.top import top


@st.composite
def cases(draw):
    """Exact keys with many ties and near-ties, their fp32 versions off by up to an error."""
    n = draw(st.integers(1, 60))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    error = draw(st.sampled_from([0.0, 1e-3, 0.3]))
    exact = random.integers(-4, 5, n) * draw(st.sampled_from([1.0, 1e-3, 0.25]))
    keys = (exact + random.uniform(-error, error, n)).astype(np.float32)
    part = random.random(n) < 0.9
    keys[~part] = -np.inf
    rows = Rows(np.ones((n, 1)), ties=random.permutation(n))
    return rows, keys, error + 1e-6, exact, part


@given(case=cases(), capacity=st.integers(0, 70))
def test_the_first_of_all_by_key_then_tie(case, capacity):
    rows, keys, error, exact, part = case
    found = top(rows, keys, error, lambda some: exact[some], capacity).rows
    order = [row for row in np.lexsort((rows.ties, -exact)) if part[row]]
    assert list(found) == sorted(order[:capacity])


@given(case=cases(), capacity=st.integers(0, 40), data=st.data())
def test_only_members_have_a_part(case, capacity, data):
    rows, keys, error, exact, part = case
    members = np.array(sorted(data.draw(st.sets(st.integers(0, len(keys) - 1)))), np.int64)
    found = top(rows, keys, error, lambda some: exact[some], capacity, members=members).rows
    order = [row for row in np.lexsort((rows.ties, -exact)) if part[row] and row in members]
    assert list(found) == sorted(order[:capacity])


@given(case=cases(), capacity=st.integers(0, 200), seed=st.integers(0, 99))
def test_weights_fill_the_capacity_in_order_and_the_next_key_is_told(case, capacity, seed):
    rows, keys, error, exact, part = case
    weights = np.random.default_rng(seed).integers(1, 8, len(keys))
    found = top(rows, keys, error, lambda some: exact[some], capacity, weights=weights, floor=0.0)
    order = [row for row in np.lexsort((rows.ties, -exact)) if part[row] and exact[row] > 0]
    head = int((np.cumsum(weights[order]) <= capacity).sum())
    assert list(found.rows) == sorted(order[:head])
    if head < len(order) and weights[order[:head]].sum() < capacity:
        assert found.next_key == exact[order[head]]
