"""Facility location on a neighbour graph against the dense definition and the plain greedy."""

import json
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.cli import main
from headrace.errors import SelectionError
from headrace.selection import IndexSettings, Limits, neighbour_graph, select
from headrace.selection.edges import symmetric_edges
from headrace.selection.facility_location import FacilityLocation
from headrace.selection.limits import Room


def cosines(vectors: np.ndarray) -> np.ndarray:
    unit = vectors.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    matrix = unit @ unit.T
    np.fill_diagonal(matrix, 1.0)
    return matrix


def on_graph(graph) -> np.ndarray:
    """The matrix of a graph made symmetric, in whole numbers of 2**-30."""
    count = len(graph.indices)
    matrix = np.zeros((count, count), np.int64)
    for row in range(count):
        for other, similarity in zip(graph.indices[row], graph.similarities[row], strict=True):
            if other >= 0:
                weight = int(np.rint(max(0.0, float(similarity)) * 2**30))
                matrix[row, other] = matrix[other, row] = weight
    np.fill_diagonal(matrix, 2**30)
    return matrix


def value(matrix, rows):
    return np.maximum(matrix[:, list(rows)], 0).max(1).sum()


def plain_greedy(matrix, count, ties, allowed=lambda chosen: None, start=()):
    """Every gain at every step; of equals the first by ties."""
    chosen = list(start)
    covered = np.maximum(matrix[:, chosen].max(1), 0) if chosen else np.zeros_like(matrix[0])
    while len(chosen) < count:
        gains = np.maximum(np.maximum(matrix, 0) - covered[:, None], 0).sum(0)
        free = np.ones(len(matrix), bool) if allowed(chosen) is None else allowed(chosen)
        free[chosen] = False
        rows = np.flatnonzero(free)
        row = rows[np.lexsort((ties[rows], -gains[rows]))[0]]
        chosen.append(int(row))
        covered = np.maximum(covered, matrix[:, row])
    return chosen


@given(seed=st.integers(0, 10_000), mixed=st.booleans(), neighbours=st.integers(1, 12))
def test_the_rows_are_those_of_the_plain_greedy_on_the_same_graph(
    clusters, seed, mixed, neighbours
):
    vectors = clusters(80, 5, seed, mixed=mixed, dtype=np.float16)
    ties = np.random.default_rng(seed).permutation(80)
    graph = neighbour_graph(vectors, IndexSettings(neighbours=neighbours), ties=ties)
    found = select(vectors, Limits(rows=30), objective="facility_location", graph=graph, ties=ties)
    matrix = on_graph(graph)
    assert found.rows.tolist() == plain_greedy(matrix, 30, ties)
    assert found.objective == value(matrix, found.rows) / 2**30
    assert found.gains.sum() == pytest.approx(found.objective)
    assert (np.diff(found.gains) <= 0).all()
    dense = cosines(vectors)
    assert found.dense_objective == pytest.approx(value(dense, found.rows), abs=1e-6)
    assert found.dense_objective >= found.objective - 1e-5


def test_with_all_neighbours_it_is_the_dense_objective(clusters):
    vectors = clusters(300, 16, 0, dtype=np.float32)
    graph = neighbour_graph(vectors, IndexSettings(neighbours=299))
    found = select(vectors, Limits(rows=40), objective="facility_location", graph=graph)
    dense = np.maximum(cosines(vectors), 0)
    best = value(dense, plain_greedy(dense, 40, np.arange(300)))
    assert found.objective == pytest.approx(best, rel=1e-6)
    assert found.dense_objective == pytest.approx(found.objective, rel=1e-6)


KINDS = ["rows", "quotas", "budget", "budget quotas"]


@given(seed=st.integers(0, 10_000), kind=st.sampled_from(KINDS))
def test_no_permitted_set_is_above_the_bound(clusters, seed, kind):
    random = np.random.default_rng(seed)
    vectors = clusters(11, 3, seed, mixed=True)
    groups = np.arange(11, dtype=np.int32) % 2
    costs = random.integers(1, 9, 11)
    required = random.permutation(11)[: random.integers(0, 3)]
    graph = neighbour_graph(vectors, IndexSettings(neighbours=4))
    most = 99
    if kind.startswith("budget"):
        budget = int(costs[required].sum() + random.integers(9, 20))
        if kind == "budget quotas":
            most = int(costs[required][groups[required] == 0].sum() + random.integers(0, 12))
        limits = Limits(budget=budget, maximum={"a": most})
    else:
        quotas = kind == "quotas"
        limits = Limits(
            rows=5, minimum={"b": 2} if quotas else {}, maximum={"a": 2} if quotas else {}
        )
        if quotas:
            required = required[:1]

    def permitted(rows) -> bool:
        rows = list(rows)
        if not set(required.tolist()) <= set(rows):
            return False
        if kind.startswith("budget"):
            return costs[rows].sum() <= budget and costs[rows][groups[rows] == 0].sum() <= most
        return kind == "rows" or (groups[rows] == 0).sum() <= 2

    found = select(
        vectors, limits, objective="facility_location", graph=graph, groups=groups,
        group_names=("a", "b"), costs=costs, required=required,
    )  # fmt: skip
    assert permitted(found.rows)
    sizes = range(12) if kind.startswith("budget") else [5]
    matrix = on_graph(graph)
    best = max(
        value(matrix, rows) if rows else 0
        for size in sizes for rows in combinations(range(11), size) if permitted(rows)
    ) / 2**30  # fmt: skip
    assert found.objective - 1e-9 <= best <= found.bound + 1e-9
    assert found.bound <= 11
    if not len(required) and kind != "budget quotas":
        assert found.objective >= (1 - 1 / np.e) / 2 * best


@given(seed=st.integers(0, 10_000), size=st.integers(0, 3), count=st.integers(1, 3))
def test_any_set_gives_a_bound(clusters, seed, size, count):
    vectors = clusters(9, 3, seed, mixed=True)
    graph = neighbour_graph(vectors, IndexSettings(neighbours=2))
    state = FacilityLocation(symmetric_edges(graph, above=0.0, loops=True))
    for row in np.random.default_rng(seed).permutation(9)[:size].tolist():
        state.add(row)
    one_group = np.zeros(9, np.int32)
    room = Room(count, None, np.zeros(1, np.int64), np.full(1, 9))
    bound = state.bound(room, np.zeros(9, bool), one_group, None)
    matrix = on_graph(graph)
    best = max(value(matrix, rows) for rows in combinations(range(9), count)) / 2**30
    assert bound >= best
    if size == 0 and count == 1:
        assert bound == best
    # twice the room at the cost of 2 each is the same
    room = Room(None, 2 * count, np.zeros(1, np.int64), np.full(1, 99))
    twos = np.full(9, 2)
    assert state.bound(room, np.zeros(9, bool), one_group, twos) == pytest.approx(bound)
    more = Room(None, 2 * count + 1, np.zeros(1, np.int64), np.full(1, 99))
    assert bound <= state.bound(more, np.zeros(9, bool), one_group, twos) + 1e-12


def test_quotas_are_kept_at_each_step(clusters):
    vectors = clusters(200, 8, 3)
    groups = (np.arange(200) % 3).astype(np.int32)
    graph = neighbour_graph(vectors, IndexSettings(neighbours=10))
    limits = Limits(rows=40, minimum={"c": 25}, maximum={"a": 5})
    found = select(
        vectors, limits, objective="facility_location", graph=graph, groups=groups,
        group_names=("a", "b", "c"), required=np.array([7, 8]),
    )  # fmt: skip
    counts = np.bincount(groups[found.rows], minlength=3)
    assert counts[2] >= 25
    assert counts[0] <= 5

    def allowed(chosen):
        taken = np.bincount(groups[chosen], minlength=3)
        short = np.array([0, 0, max(0, 25 - taken[2])])
        if 40 - len(chosen) > short.sum():
            return np.isin(groups, np.flatnonzero(taken < [5, 200, 200]))
        return np.isin(groups, np.flatnonzero(short))

    start = found.rows[:2].tolist()
    assert set(start) == {7, 8}
    expected = plain_greedy(on_graph(graph), 40, np.arange(200), allowed, start)
    assert found.rows.tolist() == expected


def test_copies_are_not_chosen_while_others_add_something(clusters):
    vectors = np.repeat(clusters(60, 8, 1, mixed=True), 3, axis=0)
    graph = neighbour_graph(vectors, IndexSettings(neighbours=20))
    found = select(vectors, Limits(rows=40), objective="facility_location", graph=graph)
    assert len(np.unique(vectors[found.rows], axis=0)) == 40


def test_controls_are_told_what_they_are_worth(clusters):
    vectors = clusters(500, 8, 2)
    graph = neighbour_graph(vectors)
    best = select(vectors, Limits(rows=50), objective="facility_location", graph=graph)
    matrix = on_graph(graph)
    for method in ("random", "top_similarity"):
        control = select(
            vectors, Limits(rows=50), objective="facility_location", method=method, graph=graph
        )
        assert (
            control.rows.tolist() == select(vectors, Limits(rows=50), method=method).rows.tolist()
        )
        assert control.objective == value(matrix, control.rows) / 2**30
        assert control.objective < best.objective <= min(best.bound, control.bound)


def test_what_does_not_go_together_is_refused(clusters):
    vectors = clusters(50, 8, 2)
    with pytest.raises(SelectionError, match="needs a neighbour graph"):
        select(vectors, Limits(rows=5), objective="facility_location")
    graph = neighbour_graph(vectors[:40])
    with pytest.raises(SelectionError) as caught:
        select(
            vectors, Limits(rows=5), objective="facility_location", method="frank_wolfe",
            graph=graph,
        )  # fmt: skip
    text = str(caught.value)
    assert "not a method for facility_location" in text
    assert "not a graph of the 50 rows" in text


def test_the_command_reports_the_graph_and_keeps_it(clusters, tmp_path, capsys):
    np.save(tmp_path / "vectors.npy", clusters(400, 8, 5))
    command = [
        "select", "--vectors", str(tmp_path / "vectors.npy"), "--cache", str(tmp_path / "cache"),
        "--objective", "facility_location", "--neighbours", "12",
    ]  # fmt: skip
    assert main([*command, "--rows", "30", "--output", str(tmp_path / "a")]) == 0
    report = json.loads((tmp_path / "a" / "selection.json").read_text())
    assert report["maximised"] == "facility_location"
    assert report["method"] == "lazy_greedy"
    graph = report["graph"]
    assert (graph["index"], graph["neighbours"], graph["recall"]) == ("flat", 12, 1.0)
    assert report["objective"] <= report["dense_objective"] <= 400
    (made,) = (tmp_path / "cache").glob("neighbours-*/indices.npy")
    before = made.stat().st_mtime_ns
    assert main([*command, "--rows", "40", "--output", str(tmp_path / "b")]) == 0
    assert made.stat().st_mtime_ns == before
    assert main([*command, "--rows", "30", "--index", "ivf", "--output", str(tmp_path / "a")]) == 2
    assert "another selection" in capsys.readouterr().err
    assert main([*command, "--rows", "30", "--probes", "0", "--output", str(tmp_path / "c")]) == 2
    assert "--probes: out of range" in capsys.readouterr().err
