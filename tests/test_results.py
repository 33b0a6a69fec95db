"""Numbers in the documentation come from the result files and from nowhere else."""

import dataclasses
import json
from pathlib import Path

import pytest

from headrace.benchmarks.selection_experiment_plan import Settings, Trial, trials_of
from headrace.corpus.duplicates import NearSettings
from tests.script_files import script

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def table():
    return script("multiconer_small_table")


@pytest.fixture(scope="module")
def experiment_table():
    return script("selection_experiment_table")


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


def test_intervals_of_paired_differences_are_student_s(experiment_table):
    assert experiment_table.interval([0.01, 0.02, 0.03]) == "+2.0 ± 2.5"
    assert experiment_table.interval([-0.019, -0.02, -0.021]) == "**-2.0 ± 0.2**"
    assert experiment_table.interval([0.01]) == "+1.0"


def test_the_points_of_student_s_t_are_right(experiment_table):
    stats = pytest.importorskip("scipy.stats")
    for values, point in experiment_table.T_95.items():
        assert point == pytest.approx(stats.t.ppf(0.975, values - 1), abs=1e-3)


@pytest.fixture(scope="module")
def experiment():
    path = ROOT / "docs" / "results" / "selection_experiment.json"
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_page_of_the_selection_experiment_is_rendered_from_its_result(
    experiment_table, experiment
):
    page = ROOT / "docs" / "results" / "selection_experiment.md"
    assert page.read_text(encoding="utf-8") == experiment_table.render(experiment)


def test_the_selection_experiment_is_whole(experiment):
    """Every trial that its settings ask for, with every seed, on the same test questions."""
    raw = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in experiment["settings"].items()
    }
    wanted = trials_of(Settings(**raw))
    fields = [field.name for field in dataclasses.fields(Trial)]
    found = [Trial(**{name: row[name] for name in fields}) for row in experiment["trials"]]
    assert found == wanted
    assert len(raw["seeds"]) == 3
    assert {row["samples"] for row in experiment["trials"]} == {experiment["test"]["samples"]}


def test_every_method_of_a_size_was_trained_for_the_same_steps(experiment):
    settings = experiment["settings"]
    for row in experiment["trials"]:
        batches = -(-row["chosen"] // settings["batch_size"])
        assert row["steps"] == settings["epochs"] * batches


@pytest.fixture(scope="module")
def forgetting_table():
    return script("forgetting_table")


def compared(differences):
    """A result in which methods differ from the reference by (mean, low, high) in p_s + p_o."""

    def method(title, estimate, difference):
        measures = {"p": {"estimate": estimate, "difference": difference}}
        return {"title": title, "estimates": {"sequences": measures}}

    methods = {"flat_tuned": method("flat_tuned", {"mean": 1.234}, None)}
    for name, (mean, low, high) in differences.items():
        methods[name] = method(name, None, {"mean": mean, "low": low, "high": high})
    return {"reference": "flat_tuned", "methods": methods}


def test_the_verdict_names_rates_by_layer_that_beat_one_tuned_rate(forgetting_table):
    level, behind = (0.01, -0.01, 0.03), (-0.05, -0.06, -0.04)
    differences = {"decay": level, "paper_text": behind, "paper_code": behind, "ours": level}
    said = forgetting_table.verdict(compared(differences))
    assert said.startswith("**No distribution of learning rates by layer beats one tuned rate")
    assert "Not to be told from it: decay +1.00 [−1.00, +3.00], ours" in said
    assert "; worse: paper_text −5.00 [−6.00, −4.00], paper_code" in said
    said = forgetting_table.verdict(compared({**differences, "ours": (0.02, 0.01, 0.03)}))
    assert said.startswith("**Learning rates by layer beat one tuned rate")
    assert "Better than it: ours +2.00 [+1.00, +3.00]; not to be told from it: decay" in said


@pytest.fixture(scope="module")
def forgetting():
    path = ROOT / "docs" / "results" / "forgetting.json"
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_page_and_the_readme_are_rendered_from_the_experiment_about_forgetting(
    forgetting_table, forgetting
):
    page = ROOT / "docs" / "results" / "forgetting.md"
    assert page.read_text(encoding="utf-8") == forgetting_table.render(forgetting)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme == forgetting_table.put_into(readme, forgetting)


def test_the_experiment_about_forgetting_is_whole_and_fair(forgetting):
    """Every method has every pair and seed, and was tuned on other tasks with as many values."""
    assert forgetting["runs_finished"] == forgetting["runs"]
    assert len(forgetting["seeds"]) == 3
    tuned_on = {task for pair in forgetting["tuning"]["sequences"] for task in pair.split("-")}
    compared_on = {task for pair in forgetting["sequences"] for task in pair.split("-")}
    assert not tuned_on & compared_on
    tunings = [method["tuning"] for method in forgetting["methods"].values() if method["tuning"]]
    tried = {len(tuning["tried"]) for tuning in tunings}
    assert tried == {forgetting["search"]["trials"]}
    assert len(tunings) == 9


@pytest.fixture(scope="module")
def privacy():
    path = ROOT / "docs" / "results" / "privacy.json"
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_tables_of_private_information_are_rendered_from_the_result(privacy):
    page = (ROOT / "docs" / "privacy.md").read_text(encoding="utf-8")
    assert page == script("privacy_table").put_into(page, privacy)


def test_every_tool_is_measured_on_the_same_gold_spans(privacy):
    for gold_set in privacy["sets"]:
        for scores in gold_set["types"].values():
            assert len({counts["gold"] for counts in scores.values()}) == 1
            for counts in scores.values():
                assert counts["hit"] <= counts["gold"]
                assert counts["right"] <= counts["found"]


@pytest.fixture(scope="module")
def duplicates():
    path = ROOT / "docs" / "results" / "duplicates.json"
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_tables_of_duplicates_are_rendered_from_the_result(duplicates):
    page = (ROOT / "docs" / "duplicates.md").read_text(encoding="utf-8")
    assert page == script("duplicates_table").put_into(page, duplicates)


def test_the_default_settings_are_among_those_that_were_measured(duplicates):
    near = NearSettings()
    assert duplicates["threshold"] == near.threshold
    for name in ("licence_texts", "udhr_variants"):
        rows = {(row["permutations"], row["check"]) for row in duplicates["sets"]
                if row["set"] == name}  # fmt: skip
        assert (near.permutations, near.verify) in rows


@pytest.fixture(scope="module")
def warm_start():
    path = ROOT / "docs" / "results" / "warm_start.json"
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_page_of_the_warm_start_is_rendered_from_its_result(warm_start):
    page = (ROOT / "docs" / "results" / "warm_start.md").read_text(encoding="utf-8")
    assert page == script("warm_start_table").render(warm_start)


def test_both_arms_of_the_warm_start_have_the_same_seeds(warm_start):
    assert warm_start["seeds"]["warm"] == warm_start["seeds"]["scratch"]
    assert len(warm_start["seeds"]["warm"]) == 3
    for row in warm_start["rows"]:
        assert len(row["fine_macro_f1"]) == len(row["coarse_macro_f1"]) == 3, row
    cells = {(row["language"], row["arm"], row["stage"]) for row in warm_start["rows"]}
    assert len(cells) == 5 * 2 * 2
