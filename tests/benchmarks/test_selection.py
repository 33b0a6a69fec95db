"""The benchmark of selection at a tiny size: what it writes and checks, not how fast it is."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from headrace.benchmarks import selection
from headrace.benchmarks.frame import environment, report
from headrace.benchmarks.page import MISSED, UNMEASURED
from headrace.benchmarks.selection_contestants import CONTESTANTS, EXACT, OURS, find, run
from headrace.benchmarks.selection_data import make_clusters, worth
from tests.script_files import script

ROOT = Path(__file__).parents[2]
FIGURES = {
    "speed_vs_dense", "memory_beside_embeddings", "objective_vs_exact", "gap", "two_rank_s",
    "two_rank_traffic_bytes",
}  # fmt: skip


@pytest.fixture(scope="module")
def table():
    return script("selection_table")


def test_the_worth_of_a_choice_is_that_of_equation_3():
    random = np.random.default_rng(0)
    vectors = random.standard_normal((60, 7)) + 0.3
    vectors[11] = 2 * vectors[10]
    chosen = np.array([10, 11, 2, 40])
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = unit @ unit.T
    others = np.setdiff1d(np.arange(60), chosen)
    pairs = sum(cosines[i, j] for n, i in enumerate(chosen) for j in chosen[:n])
    found = worth(vectors, chosen, 10.0)
    assert found.objective == pytest.approx(cosines[np.ix_(others, chosen)].sum() - 10 * pairs)
    assert found.duplicates == 0.5
    assert found.coverage == pytest.approx(cosines[:, chosen].max(1).mean(), abs=1e-5)
    with pytest.raises(ValueError, match="twice"):
        worth(vectors, np.array([1, 1]), 10.0)


def test_clusters_have_their_share_of_near_copies(tmp_path):
    table = make_clusters(tmp_path / "v.npy", 1000, 32, 3)
    vectors = np.load(table.path)
    again = np.load(make_clusters(tmp_path / "again.npy", 1000, 32, 3).path)
    np.testing.assert_array_equal(vectors, again)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    near = np.tril(unit @ unit.T, -1) > 0.99
    assert 150 < near.any(1).sum() < 250


def test_the_dense_greedy_and_ours_choose_the_same(tmp_path):
    """As do the peers, where their environments are; here the one that needs none."""
    table = make_clusters(tmp_path / "v.npy", 500, 32, 3)
    chosen = {}
    for one in CONTESTANTS:
        if one.name not in (EXACT.name, "dense matrix and greedy"):
            continue
        path = tmp_path / "chosen.npy"
        task = {
            "vectors": str(table.path), "table_rows": 500, "rows": 25, "trade_off": 10.0,
            "threads": 1, "seed": 0, "chosen": str(path),
        }  # fmt: skip
        found = run(sys.executable, one, task)
        assert found["seconds"] > 0
        assert found["peak_bytes"] >= 0
        chosen[one.name] = np.load(path).tolist()
    ours, dense = chosen.values()
    assert ours == dense


@pytest.mark.slow
def test_a_quick_run_has_all_figures_and_a_page(table, monkeypatch):
    monkeypatch.delenv("HEADRACE_DATA", raising=False)
    sizes = selection.Settings(small=300, middle=600, larger=(), rounds=1)
    found = selection.measure(sizes, 1)
    assert set(found.figures) == FIGURES
    assert found.figures["objective_vs_exact"] > 0.99
    assert found.figures["two_rank_traffic_bytes"] > 0
    groups = {row.group for row in found.rows}
    assert len(groups) == 2
    names = {row.name for row in found.rows}
    assert {OURS.name, EXACT.name, "random", "headrace, 2 ranks"} <= names
    assert {one["contestant"] for one in found.tables["absent"]} >= {"submodlib", "apricot"}
    facts = environment(selection.PACKAGES)
    page = table.render(json.loads(json.dumps(report("selection", "c", found, facts, 1))))
    for target in table.TARGETS:
        (line,) = [line for line in page.splitlines() if line.startswith(f"| {target.what} |")]
        value = found.figures.get(target.figure)
        verdict = UNMEASURED if value is None else "met" if target.met(value) else MISSED
        assert line.endswith(f"| {verdict} |")
    for row in found.rows:
        assert f"| {row.name} |" in page


def test_peers_that_are_not_there_are_named(tmp_path):
    assert "--peers" in find(None).absent["submodlib"]
    assert "there is no" in find(tmp_path).absent["apricot"]


@pytest.mark.skipif(
    not (ROOT / "docs" / "results" / "selection.json").exists(), reason="no result yet"
)
def test_the_page_is_rendered_from_the_result(table):
    path = ROOT / "docs" / "results" / "selection.json"
    result = json.loads(path.read_text(encoding="utf-8"))
    assert path.with_suffix(".md").read_text(encoding="utf-8") == table.render(result)
