"""GreeDi beside the greedy on all rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import SelectionError
from headrace.selection import IndexSettings, Limits, neighbour_graph, partitioned, select
from headrace.selection.chosen import METHODS
from headrace.selection.hinge import Hinge

OBJECTIVES = ("facility_location", "graph_cut_hinge")


@pytest.fixture(scope="module")
def rows_and_graph(clusters):
    vectors = clusters(3000, 16, 8)
    return vectors, neighbour_graph(vectors, IndexSettings(neighbours=16))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_it_is_nearly_as_good_as_the_greedy(rows_and_graph, objective):
    vectors, graph = rows_and_graph
    settings = {"objective": objective, "graph": graph, "trade_off": 4.0, "hinge": Hinge(0.95)}
    best = select(vectors, Limits(rows=150), **settings)
    assert best.method == METHODS[objective][0]
    values = {}
    for parts in (1, 2, 8, 30):
        found = select(vectors, Limits(rows=150), method="greedi", parts=parts, **settings)
        assert len(np.unique(found.rows)) == 150
        assert found.gains.sum() == pytest.approx(found.objective)
        values[parts] = found.objective
    assert values[1] == best.objective
    assert min(values.values()) >= 0.95 * best.objective
    assert best.bound >= max(values.values())


@pytest.mark.parametrize("objective", OBJECTIVES)
@given(seed=st.integers(0, 10_000), data=st.data())
def test_limits_are_kept_with_parts_of_any_size(clusters, objective, seed, data):
    random = np.random.default_rng(seed)
    vectors = clusters(60, 5, seed)
    groups = random.choice(3, 60, p=[0.7, 0.2, 0.1]).astype(np.int32)
    names = ("a", "b", "c")
    sizes = np.bincount(groups, minlength=3)
    inside = random.permutation(60)[: data.draw(st.integers(2, 50))]
    counts = np.bincount(groups[inside], minlength=3)
    low, high = random.integers(0, counts + 1), counts + random.integers(0, 4, 3)
    limits = Limits(
        rows=len(inside),
        minimum=dict(zip(names, low.tolist(), strict=True)),
        maximum=dict(zip(names, high.tolist(), strict=True)),
    )
    required = inside[: data.draw(st.integers(0, 2))]
    graph = neighbour_graph(vectors, IndexSettings(neighbours=8))
    found = select(
        vectors, limits, objective=objective, method="greedi", graph=graph, groups=groups,
        group_names=names, required=required, parts=data.draw(st.integers(1, 20)), trade_off=1.0,
    )  # fmt: skip
    taken = np.bincount(groups[found.rows], minlength=3)
    assert len(np.unique(found.rows)) == len(found.rows) == len(inside)
    assert (low <= taken).all()
    assert (taken <= np.minimum(high, sizes)).all()
    assert set(required.tolist()) <= set(found.rows.tolist())
    assert found.objective <= found.bound + 1e-9


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_part_that_misses_a_minimum_is_no_answer(clusters, objective):
    """Its rows would be the better ones: those of the group are copies of each other."""
    vectors = clusters(300, 16, 3, mixed=True)
    groups = (np.arange(300) < 12).astype(np.int32)
    vectors[:12] = vectors[0]
    graph = neighbour_graph(vectors, IndexSettings(neighbours=20))
    found = select(
        vectors, Limits(rows=12, minimum={"b": 10}), objective=objective, method="greedi",
        graph=graph, groups=groups, group_names=("a", "b"), parts=8, trade_off=0.0,
    )  # fmt: skip
    assert groups[found.rows].sum() >= 10


def test_maximums_that_leave_too_few_end_the_rounds(clusters):
    vectors = clusters(400, 8, 3)
    groups = (np.arange(400) < 60).astype(np.int32)
    graph = neighbour_graph(vectors, IndexSettings(neighbours=8))
    found = select(
        vectors, Limits(rows=70, maximum={"a": 12}), objective="facility_location",
        method="greedi", graph=graph, groups=groups, group_names=("a", "b"), parts=20,
    )  # fmt: skip
    assert np.bincount(groups[found.rows]).tolist() == [12, 58]


def test_under_a_budget(rows_and_graph):
    vectors, graph = rows_and_graph
    costs = np.random.default_rng(0).integers(5, 60, len(vectors))
    best = select(
        vectors, Limits(budget=2000), objective="facility_location", graph=graph, costs=costs
    )
    found = select(
        vectors, Limits(budget=2000), objective="facility_location", method="greedi", graph=graph,
        costs=costs, parts=6,
    )  # fmt: skip
    assert costs[found.rows].sum() <= 2000
    assert 0.95 * best.objective <= found.objective <= best.bound


def test_what_is_too_much_for_one_part_is_shared_out_again(rows_and_graph, monkeypatch):
    vectors, graph = rows_and_graph
    turns = []
    plain = partitioned._solve_parts

    def solve_parts(solver, candidates, ground, room, parts, turn, ranks):
        found = plain(solver, candidates, ground, room, parts, turn, ranks)
        turns.append((len(candidates), parts, [len(part.rows) for part in found]))
        return found

    monkeypatch.setattr(partitioned, "_solve_parts", solve_parts)
    settings = {"objective": "facility_location", "graph": graph}
    found = select(vectors, Limits(rows=200), method="greedi", parts=10, **settings)
    best = select(vectors, Limits(rows=200), **settings)
    sizes, parts, chosen = zip(*turns, strict=True)
    assert parts == (10, 6, 3, 1)
    assert sizes[1:] == tuple(sum(some) for some in chosen[:-1])
    assert sizes[-1] <= 400
    assert found.objective >= 0.95 * best.objective


def test_the_answer_does_not_depend_on_the_order_of_the_rows(clusters):
    vectors = np.unique(clusters(500, 8, 9), axis=0)
    ties = np.arange(len(vectors))
    order = np.random.default_rng(1).permutation(len(vectors))
    answers = []
    for rows in (ties, order):
        graph = neighbour_graph(vectors[rows], ties=ties[rows])
        found = select(
            vectors[rows], Limits(rows=60), objective="facility_location", method="greedi",
            graph=graph, ties=ties[rows], parts=5,
        )  # fmt: skip
        answers.append(rows[found.rows].tolist())
    assert answers[0] == answers[1]


def test_a_number_of_parts_is_asked_for(rows_and_graph):
    vectors, graph = rows_and_graph
    with pytest.raises(SelectionError, match="parts: out of range"):
        select(vectors, Limits(rows=9), objective="facility_location", graph=graph, parts=0)
