"""The graph cut with the hinge against its definition and the plain greedy."""

import json
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.cli import main
from headrace.errors import SelectionError
from headrace.selection import IndexSettings, Limits, greedy, neighbour_graph, select
from headrace.selection.hinge import Hinge


def excess(graph, threshold: float) -> np.ndarray:
    """``[rows, rows]``: by how much neighbours are more similar than the threshold.

    In whole numbers of 2**-30, as rows whose gains nearly are equal are told apart by these.
    """
    count = len(graph.indices)
    matrix = np.zeros((count, count))
    for row in range(count):
        for other, similarity in zip(graph.indices[row], graph.similarities[row], strict=True):
            if other >= 0:
                more = round(float(similarity) * 2**30) - round(threshold * 2**30)
                matrix[row, other] = matrix[other, row] = max(0, more) / 2**30
    return matrix


def plain_greedy(dense, penalties, count, ties):
    """Algorithm 1 with the penalty taken from each gain; what differs by rounding is equal."""
    marginals = dense.matrix.sum(axis=1) - 1.0
    chosen = []
    free = np.ones(len(marginals), bool)
    for _ in range(count):
        rows = np.flatnonzero(free)
        near = rows[marginals[rows] >= marginals[rows].max() - 1e-9]
        row = int(near[np.argmin(ties[near])])
        chosen.append(row)
        free[row] = False
        marginals = marginals - (2 + dense.trade_off) * dense.matrix[row] - penalties[row]
    return chosen


@given(seed=st.integers(0, 10_000), trade_off=st.sampled_from([0.0, 1.0, 10.0]))
def test_the_rows_are_those_of_the_plain_greedy(clusters, dense_reference, seed, trade_off):
    vectors = clusters(90, 6, seed)
    ties = np.random.default_rng(seed).permutation(90)
    graph = neighbour_graph(vectors, IndexSettings(neighbours=12), ties=ties)
    hinge = Hinge(0.9, 40.0)
    found = select(
        vectors, Limits(rows=25), objective="graph_cut_hinge", graph=graph, ties=ties,
        hinge=hinge, trade_off=trade_off,
    )  # fmt: skip
    dense = dense_reference(vectors, ties, trade_off)
    penalties = 40.0 * excess(graph, 0.9)
    expected = plain_greedy(dense, penalties, 25, ties)
    inside = penalties[np.ix_(found.rows, found.rows)]
    assert found.penalty == pytest.approx(inside.sum() / 2, abs=1e-4)
    value = dense.value(found.rows) - inside.sum() / 2
    assert found.objective == pytest.approx(value, abs=1e-4)
    assert found.gains.sum() == pytest.approx(found.objective)
    assert found.rows.tolist() == expected


@pytest.mark.parametrize("small", [False, True])
def test_stale_layers_change_nothing(clusters, dense_reference, monkeypatch, small):
    """With small layers most of the rows are known by bounds alone."""
    if small:
        monkeypatch.setattr(greedy, "_SMALLEST_POOL", 40)
        monkeypatch.setattr(greedy, "_EXACT", 6)
    vectors = clusters(1500, 12, 4)
    graph = neighbour_graph(vectors, IndexSettings(neighbours=16))
    hinge = Hinge(0.8, 300.0)
    found = select(
        vectors, Limits(rows=200), objective="graph_cut_hinge", graph=graph, hinge=hinge,
        trade_off=2.0,
    )  # fmt: skip
    dense = dense_reference(vectors, trade_off=2.0)
    expected = plain_greedy(dense, 300.0 * excess(graph, 0.8), 200, np.arange(1500))
    assert found.rows.tolist() == expected


def test_no_copy_is_chosen_for_little_of_the_graph_cut(clusters):
    vectors = clusters(2000, 16, 1, dtype=np.float16)  # a tenth of the rows are exact copies
    graph = neighbour_graph(vectors)
    limits = Limits(rows=200)
    plain = select(vectors, limits, method="exact_greedy", trade_off=4.0)
    found = select(
        vectors, limits, objective="graph_cut_hinge", graph=graph, trade_off=4.0, hinge=Hinge(0.98)
    )

    def copies(rows) -> int:
        return len(rows) - len(np.unique(vectors[rows], axis=0))

    assert copies(plain.rows) > 10
    assert copies(found.rows) == 0
    cut = found.objective + found.penalty
    assert 0.99 * plain.objective < cut < plain.objective
    assert found.objective <= found.bound
    assert cut <= found.bound


@given(seed=st.integers(0, 10_000))
def test_no_set_is_above_the_bound(clusters, dense_reference, seed):
    vectors = clusters(10, 3, seed)
    graph = neighbour_graph(vectors, IndexSettings(neighbours=5))
    required = np.array([2])
    found = select(
        vectors, Limits(rows=4), objective="graph_cut_hinge", graph=graph, trade_off=1.0,
        required=required, hinge=Hinge(0.5, 3.0),
    )  # fmt: skip
    dense, penalties = dense_reference(vectors, trade_off=1.0), 3.0 * excess(graph, 0.5)
    best = max(
        dense.value(rows) - penalties[np.ix_(rows, rows)].sum() / 2
        for rows in map(list, combinations(range(10), 4)) if 2 in rows
    )  # fmt: skip
    assert 2 in found.rows
    assert found.objective - 1e-5 <= best <= found.bound + 1e-5


def test_without_weight_it_is_the_graph_cut(clusters):
    vectors = clusters(400, 8, 6)
    graph = neighbour_graph(vectors)
    plain = select(vectors, Limits(rows=60), method="exact_greedy")
    found = select(
        vectors, Limits(rows=60), objective="graph_cut_hinge", graph=graph, hinge=Hinge(0.8, 0.0)
    )
    np.testing.assert_array_equal(found.rows, plain.rows)
    assert (found.objective, found.penalty) == (plain.objective, 0.0)
    control = select(
        vectors, Limits(rows=60), objective="graph_cut_hinge", graph=graph, method="random"
    )
    assert control.penalty > 0
    assert control.objective < found.objective


def test_what_is_wrong_is_refused_at_once(clusters):
    vectors = clusters(40, 8, 6)
    with pytest.raises(SelectionError) as caught:
        select(
            vectors, Limits(budget=9), costs=np.ones(40, int), objective="graph_cut_hinge",
            hinge=Hinge(1.0, -2.0),
        )  # fmt: skip
    where = [problem.where for problem in caught.value.problems]
    assert where == ["method", "graph", "threshold", "penalty"]


@pytest.mark.parametrize("method", ["exact_greedy", "greedi"])
def test_a_budget_is_refused_by_the_methods_that_count_rows(clusters, method):
    vectors = clusters(40, 8, 6)
    with pytest.raises(SelectionError, match="keeps no budget"):
        select(
            vectors, Limits(budget=9), costs=np.ones(40, int), objective="graph_cut_hinge",
            graph=neighbour_graph(vectors), method=method,
        )  # fmt: skip


def test_the_command_says_what_the_hinge_took(clusters, tmp_path, capsys):
    np.save(tmp_path / "vectors.npy", np.repeat(clusters(60, 8, 1), 5, axis=0))
    command = [
        "select", "--vectors", str(tmp_path / "vectors.npy"), "--cache", str(tmp_path / "cache"),
        "--objective", "graph_cut_hinge", "--trade-off", "0", "--neighbours", "40",
    ]  # fmt: skip
    assert main([*command, "--rows", "90", "--output", str(tmp_path / "a")]) == 0
    report = json.loads((tmp_path / "a" / "selection.json").read_text())
    assert (report["maximised"], report["method"]) == ("graph_cut_hinge", "exact_greedy")
    assert report["penalty"] > 0
    assert report["settings"]["hinge"] == {"threshold": 0.8, "weight": None}
    errors = capsys.readouterr().err
    assert f"from sample {report['first_negative_gain']}" in errors
    assert "a higher threshold or a lower penalty" in errors
    assert main([*command, "--rows", "5", "--threshold", "1", "--output", str(tmp_path / "b")]) == 2
    assert "--threshold: out of range" in capsys.readouterr().err
