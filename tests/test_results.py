"""Numbers in the documentation come from the result files and from nowhere else."""

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def table():
    path = ROOT / "scripts" / "multiconer_small_table.py"
    spec = importlib.util.spec_from_file_location("multiconer_small_table", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def result():
    path = ROOT / "docs" / "results" / "multiconer_small.json"
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_page_is_rendered_from_the_result(table, result):
    page = (ROOT / "docs" / "results" / "multiconer_small.md").read_text(encoding="utf-8")
    assert page == table.render(result)


def test_the_readme_shows_the_table_of_the_result(table, result):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme == table.put_into(readme, result)


def test_every_language_and_method_has_every_seed(table, result):
    assert len(result["seeds"]) == 3
    cells = table.cells_of(result)
    for (language, method), row in cells.items():
        wanted = 1 if method.startswith("lexicon") else 3
        assert len(row["fine_macro_f1"]) == wanted, (language, method)
    assert len(cells) == 5 * len(table.METHODS)


def test_both_methods_took_about_the_same_steps(result):
    steps = result["steps"]
    assert steps["two_stage"] == pytest.approx(steps["baseline"], rel=0.01)


def test_means_and_deviations_are_those_of_the_statistics_module(table):
    assert table.spread([0.1, 0.2, 0.3]) == "20.0 ± 10.0"
    assert table.spread([0.25]) == "25.0"
    assert table.spread([0.01, 0.03], True) == "+2.0 ± 1.4"
