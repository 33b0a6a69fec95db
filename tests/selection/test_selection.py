"""What every method promises: the limits, the certificate, and the same answer in any order."""

import tracemalloc
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import SelectionError
from headrace.selection import Limits, select
from headrace.selection.chosen import METHODS


@st.composite
def small_cases(draw):
    """A few rows with groups, costs, rows that must be in, and limits that can be met."""
    n = draw(st.integers(2, 10))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    vectors = random.standard_normal((n, draw(st.integers(1, 5)))) + draw(st.sampled_from([0, 1]))
    groups = random.integers(0, 3, n).astype(np.int32)
    costs = random.integers(1, 6, n)
    kinds = ["rows", "quotas", "proportional", "budget", "budget quotas", "budget proportional"]
    kind = draw(st.sampled_from(kinds))
    count = draw(st.integers(1, n))
    required = random.permutation(n)[: draw(st.integers(0, min(2, count)))]
    if kind == "rows":
        limits = Limits(rows=count)
    elif kind == "proportional":
        limits, required = Limits(rows=count, proportional=True), required[:0]
    elif kind == "budget":
        spent = int(costs[required].sum())
        limits = Limits(budget=draw(st.integers(max(spent, int(costs.min())), 30)))
    elif kind == "budget quotas":
        spent = int(costs[required].sum())
        needed = np.bincount(groups[required], costs[required], minlength=3).astype(int)
        limits = Limits(
            budget=draw(st.integers(max(spent, int(costs.min())), 30)),
            maximum={
                "abc"[group]: int(needed[group]) + draw(st.integers(5, 12))
                for group in draw(st.sets(st.integers(0, 2)))
            },
        )
    elif kind == "budget proportional":
        limits, required = Limits(budget=draw(st.integers(15, 30)), proportional=True), required[:0]
    else:  # around a set that meets them
        inside = np.union1d(required, random.permutation(n)[: count - len(required)])
        sizes = np.bincount(groups[inside], minlength=3)
        low, high = random.integers(0, sizes + 1), sizes + random.integers(0, 3, 3)
        limits = Limits(
            rows=len(inside),
            minimum={"abc"[group]: int(value) for group, value in enumerate(low)},
            maximum={"abc"[group]: int(value) for group, value in enumerate(high)},
        )
    trade_off = draw(st.sampled_from([0.0, 1.0, 10.0]))
    return vectors, groups, costs, np.sort(required), limits, trade_off


def shared_out(sizes: list[int], count: int) -> list[int]:
    """Largest remainders, of equal ones the first."""
    exact = [Fraction(count * size, sum(sizes)) for size in sizes]
    whole = [int(share) for share in exact]
    by_rest = sorted(range(len(sizes)), key=lambda g: (whole[g] - exact[g], g))
    for group in by_rest[: count - sum(whole)]:
        whole[group] += 1
    return whole


def is_permitted(rows, groups, costs, required, limits) -> bool:
    if not set(required) <= set(rows):
        return False
    if limits.budget is not None:
        spent, whole = (
            [int(costs[some][groups[some] == g].sum()) for g in range(3)]
            for some in (np.array(rows, int), np.arange(len(costs)))
        )
        most = [limits.maximum.get(name, 99) for name in "abc"]
        if limits.proportional:
            most = shared_out(whole, min(limits.budget, sum(whole)))
        fits = all(cost <= high for cost, high in zip(spent, most, strict=True))
        return fits and sum(spent) <= limits.budget
    sizes = np.bincount(groups[list(rows)], minlength=3)
    if limits.proportional:
        expected = shared_out([int((groups == g).sum()) for g in range(3)], limits.rows)
        return len(rows) == limits.rows and list(sizes) == expected
    return len(rows) == limits.rows and all(
        limits.minimum.get(name, 0) <= size <= limits.maximum.get(name, 99)
        for name, size in zip("abc", sizes, strict=True)
    )


@pytest.mark.parametrize("method", METHODS["graph_cut"])
@given(case=small_cases())
@settings(max_examples=60)
def test_limits_are_met_and_no_permitted_set_is_above_the_bound(dense_reference, method, case):
    vectors, groups, costs, required, limits, trade_off = case
    if method in ("exact_greedy", "one_pass") and limits.budget is not None:
        return
    found = select(
        vectors, limits, method=method, trade_off=trade_off, required=required,
        groups=groups, group_names=("a", "b", "c"),
        costs=costs if limits.budget is not None else None,
    )  # fmt: skip
    rows = [int(row) for row in found.rows]
    assert len(set(rows)) == len(rows)
    assert is_permitted(rows, groups, costs, required, limits)
    reference = dense_reference(vectors, trade_off=trade_off)
    assert found.objective == pytest.approx(reference.value(rows), abs=1e-9)
    assert found.gains.sum() == pytest.approx(found.objective, abs=1e-9)
    assert found.gap >= 0
    sizes = range(len(vectors) + 1) if limits.budget is not None else [len(rows)]
    permitted = (
        subset
        for size in sizes
        for subset in combinations(range(len(vectors)), size)
        if is_permitted(subset, groups, costs, required, limits)
    )
    best = max(reference.value(list(subset)) for subset in permitted)
    assert found.bound >= best - 1e-9
    assert found.objective <= best + 1e-9


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("method", METHODS["graph_cut"])
def test_the_order_of_the_rows_changes_nothing(clusters, method, mixed):
    vectors = clusters(700, 16, 3, mixed=mixed, dtype=np.float16)
    groups = np.random.default_rng(0).integers(0, 2, 700).astype(np.int32)
    shuffled = np.random.default_rng(1).permutation(700)
    settings = {"method": method, "group_names": ("a", "b")}
    limits = Limits(rows=70, maximum={"a": 20})
    plain = select(vectors, limits, groups=groups, **settings)
    other = select(vectors[shuffled], limits, groups=groups[shuffled], ties=shuffled, **settings)
    np.testing.assert_array_equal(shuffled[other.rows], plain.rows)
    np.testing.assert_array_equal(other.gains, plain.gains)
    assert (other.objective, other.bound) == (plain.objective, plain.bound)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("n", "d"), [(500, 8), (3000, 64)])
def test_frank_wolfe_is_as_good_as_the_greedy_and_proves_it(clusters, n, d, seed):
    vectors = clusters(n, d, seed)
    limits = Limits(fraction=0.05)
    greedy = select(vectors, limits, method="exact_greedy")
    ours = select(vectors, limits)
    assert ours.objective >= 0.9999 * greedy.objective
    assert ours.gap < 1e-3
    assert ours.bound <= greedy.bound * (1 + 1e-9)


def test_controls_are_what_they_say(clusters):
    vectors = clusters(300, 8, 2)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    similar = select(vectors, Limits(rows=30), method="top_similarity")
    mean = (unit @ unit.sum(0)) / 300
    np.testing.assert_array_equal(np.sort(similar.rows), np.sort(np.argsort(-mean)[:30]))
    np.testing.assert_allclose(similar.scores, mean[similar.rows], rtol=1e-5)
    drawn = [select(vectors, Limits(rows=30), method="random", seed=s).rows for s in (0, 0, 1)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert set(drawn[0]) != set(drawn[2])


def test_random_rows_are_uniform():
    counts = np.zeros(20)
    for seed in range(400):
        rows = select(np.eye(20), Limits(rows=5), method="random", seed=seed).rows
        counts[rows] += 1
    expected = 400 * 5 / 20
    assert ((counts - expected) ** 2 / expected).sum() < 45  # chi-square, 19 degrees: p < 0.001


def test_past_the_knee_the_first_negative_gain_and_another_lambda_are_named(clusters):
    vectors = clusters(1000, 8, 4)
    past = select(vectors, Limits(rows=150), method="exact_greedy")
    assert past.knee < 150
    first = past.first_negative_gain
    assert past.gains[first - 1] < 0
    assert (past.gains[: first - 1] >= 0).all()
    better = select(
        vectors, Limits(rows=150), method="exact_greedy", trade_off=past.suggested_trade_off
    )
    assert better.knee >= 150
    assert better.first_negative_gain is None
    assert better.suggested_trade_off is None


@pytest.mark.parametrize("mixed", [False, True])
def test_with_the_suggested_trade_off_no_gain_of_the_greedy_is_negative(clusters, mixed):
    suggested = 0
    for seed in range(12):
        vectors = clusters(120, 4, seed, mixed=mixed)
        for count in (5, 20, 50):
            settings = {"method": "exact_greedy"}
            past = select(vectors, Limits(rows=count), trade_off=60.0, **settings)
            if past.suggested_trade_off is None:
                continue
            suggested += 1
            better = select(
                vectors, Limits(rows=count), trade_off=past.suggested_trade_off, **settings
            )
            assert better.first_negative_gain is None
    assert suggested > (0 if mixed else 5)  # with a sum of all rows near 0 hardly any is harmless


def test_gains_of_nothing_but_rounding_are_not_negative():
    """Rows at right angles: each adds its cosine with itself, less that."""
    square, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((64, 64)))
    for method in ("frank_wolfe", "exact_greedy", "random"):
        found = select(square, Limits(rows=20), method=method, trade_off=0.0)
        assert found.first_negative_gain is None


def test_all_rows_are_the_only_set_of_their_number(clusters):
    for method in METHODS["graph_cut"]:
        found = select(clusters(90, 8, 4), Limits(rows=90), method=method, trade_off=0.0)
        assert found.objective == pytest.approx(0, abs=1e-9)  # no row is left to be similar to
        assert found.gap == 0


def test_a_gap_is_a_number_where_nothing_is_chosen():
    """The row that comes first at random is too dear."""
    vectors, costs = np.ones((40, 3)), np.full(40, 9)
    costs[39] = 1
    found = [
        select(vectors, Limits(budget=5), costs=costs, method="random", seed=seed, trade_off=0.0)
        for seed in range(4)
    ]
    empty = [one for one in found if not len(one.rows)]
    assert empty
    assert all(one.objective == 0 and 1 < one.gap < np.inf for one in empty)


def test_balanced_is_n_over_k_minus_two(clusters):
    found = select(clusters(400, 8, 4), Limits(rows=50), trade_off="balanced")
    assert found.trade_off == 400 / 50 - 2


def test_memory_beside_the_vectors_is_less_than_a_tenth_of_them(clusters):
    random = np.random.default_rng(0)
    vectors = np.empty((200_000, 384), np.float16)
    for start in range(0, len(vectors), 10_000):
        vectors[start : start + 10_000] = random.standard_normal((10_000, 384), np.float32) + 0.5
    tracemalloc.start()  # sees NumPy's arrays; torch makes none that is larger than a chunk
    select(vectors, Limits(fraction=0.02))
    select(vectors, Limits(fraction=0.002), method="exact_greedy")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < vectors.nbytes / 10


# What is refused


def problems_of(*arguments, **settings):
    with pytest.raises(SelectionError) as caught:
        select(*arguments, **settings)
    return [str(problem) for problem in caught.value.problems]


def test_vectors_without_a_direction_are_named_with_all_else_that_is_wrong():
    vectors = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)
    vectors[[3, 7], 1] = np.nan
    vectors[5, 0] = np.inf
    vectors[11] = 0
    vectors[20] *= 1e-30
    found = problems_of(vectors, Limits(rows=51), trade_off=-1.0, names=lambda row: f"en/{row}")
    assert len(found) == 5
    assert "NaN" in found[0]
    assert "en/3, en/5, en/7" in found[0]
    assert "zero" in found[1]
    assert "en/11" in found[1]
    assert "en/20" in found[2]
    assert "trade_off" in found[3]
    assert "Give 1 to 50" in found[4]


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        (Limits(rows=0), ["rows: out of range"]),
        (Limits(fraction=1.5), ["fraction: out of range"]),
        (Limits(fraction=float("nan")), ["fraction: out of range"]),
        (Limits(), ["limits: one of rows, fraction and budget"]),
        (Limits(rows=3, fraction=0.5), ["limits: one of rows, fraction and budget"]),
        (Limits(budget=1), ["2, 1 more"]),
        (Limits(budget=5, minimum={"a": 1, "x": 2}), ["no such group", "no least cost of a group"]),
        (Limits(budget=5, maximum={"a": 1}, proportional=True), ["proportional quotas"]),
        (Limits(budget=5, maximum={"a": 1, "b": 0}), ["costs 2, 1 more than the largest quota"]),
        (Limits(budget=2, proportional=True), ["no quota has room for a row"]),
        (Limits(rows=5, minimum={"a": 4, "b": 4}), ["need 8 rows, 3 more"]),
        (Limits(rows=9, maximum={"a": 2, "b": 1}), ["allow 3 rows, 6 fewer"]),
        (Limits(rows=5, minimum={"a": 8}), ["6 rows, 2 too few", "need 8 rows, 3 more"]),
        (Limits(rows=5, minimum={"a": 3}, maximum={"a": 1}), ["maximum of 1, 2 too few"]),
        (Limits(rows=5, minimum={"x": 1}, maximum={"y": -1}), ["no such", "no such", "0 or more"]),
        (Limits(rows=5, minimum={"a": 1}, proportional=True), ["proportional quotas"]),
    ],
)
def test_limits_that_cannot_be_met_say_by_how_much(limits, says):
    found = problems_of(
        np.eye(10) + 0.1, limits, groups=np.array([0] * 6 + [1] * 4, np.int32),
        group_names=("a", "b"), costs=np.full(10, 2),
    )  # fmt: skip
    assert len(found) == len(says)
    assert all(part in text for part, text in zip(says, found, strict=True)), found


def test_rows_that_must_be_in_and_do_not_fit():
    vectors, required = np.eye(10) + 0.1, np.arange(4)
    (found,) = problems_of(vectors, Limits(rows=3), required=required)
    assert "1 more row must be in than may be chosen" in found
    (found,) = problems_of(
        vectors, Limits(budget=6), required=required, costs=np.full(10, 2), trade_off=1.0
    )
    assert "cost 8, 2 more" in found
    (found,) = problems_of(
        vectors, Limits(rows=8, maximum={"a": 3}), required=required,
        groups=np.array([0] * 5 + [1] * 5, np.int32), group_names=("a", "b"),
    )  # fmt: skip
    assert "1 more row of the group must be in than its quota allows" in found


def test_rows_that_must_be_in_and_cost_more_than_the_quota_of_their_group():
    (found,) = problems_of(
        np.eye(10) + 0.1, Limits(budget=12, maximum={"a": 5}), required=np.arange(3),
        groups=np.array([0] * 5 + [1] * 5, np.int32), group_names=("a", "b"), costs=np.full(10, 2),
    )  # fmt: skip
    assert "cost 6, 1 more than its quota" in found


def test_a_method_that_cannot_keep_a_budget_says_so():
    (found,) = problems_of(
        np.eye(4) + 0.1, Limits(budget=6), costs=np.full(4, 2), method="exact_greedy"
    )
    assert "frank_wolfe" in found


def test_tables_that_are_no_vectors():
    assert "int64 [3, 3]" in problems_of(np.eye(3, dtype=int), Limits(rows=1))[0]
    assert (
        "not one for each of the 3 rows"
        in problems_of(np.eye(3), Limits(rows=1), costs=np.ones(2, int))[0]
    )
    assert "costs nothing" in problems_of(np.eye(3), Limits(rows=1), costs=np.zeros(3, int))[0]


def test_under_a_budget_no_row_lowers_the_objective():
    random = np.random.default_rng(0)
    vectors = random.standard_normal((400, 16)) + 1.2
    costs = random.integers(3, 30, 400)
    required = np.array([7, 30])
    for budget in (300, 600, 2000):
        found = select(vectors, Limits(budget=budget), costs=costs, required=required)
        assert found.first_negative_gain is None or found.first_negative_gain <= 2
        assert set(required) <= set(found.rows)
        assert costs[found.rows].sum() <= budget
        assert found.objective == pytest.approx(found.gains.sum())
        assert found.bound >= found.objective
