"""What a search writes: files, verdict, report page."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from headrace.config.learning_rates import GroupConfig
from headrace.errors import ConfigError
from headrace.report.search_page import verdict
from headrace.search.claims import Outcome, finished
from headrace.search.combine import Trials, weighted_geometric_mean
from headrace.search.rates import space_of
from headrace.search.results import ranked_trials, write_results
from headrace.search.status import status_tables
from headrace.search.study_file import StudyFile
from headrace.search.worker import work
from headrace.training.distributions import read_distribution
from headrace.training.layers import Layout

from .analytic import open_analytic, study_file, value_of

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    study = open_analytic(
        tmp_path_factory.mktemp("study"),
        trials=12,
        flat=True,
        pairs=[["a", "b"], ["b", "c"]],
    )
    work(study, lambda claim, epochs: value_of(claim.rates))
    return study


@pytest.fixture(scope="module")
def results(study):
    return write_results(study)


def test_the_saved_distribution_is_equation_1_over_the_journal(study, results):
    logs = []
    for part in study.parts[:2]:
        trials = finished(part)
        rates = np.array([[trial.params[name] for name in part.groups] for trial in trials])
        values = np.array([trial.value for trial in trials])
        logs.append(np.log(weighted_geometric_mean(Trials(rates, values))))
    wanted = np.exp(np.mean(logs, axis=0))
    saved = read_distribution(study.folder / "distribution.json", "here")
    assert [group.lr for group in saved.groups] == pytest.approx(wanted)
    assert [group.name for group in saved.groups] == list(study.space.groups)
    assert all(group.interval[0] < group.lr < group.interval[1] for group in saved.groups)
    assert saved.seeds == [1]
    assert saved.layers == {"encoder": 4}
    assert saved.study == "analytic: 2 pairs, 12 trials each, intervals over the trials"
    (flat,) = read_distribution(study.folder / "flat.json", "here").groups
    assert flat.select.part == "rest"
    assert json.loads((study.folder / "search.json").read_text()) == json.loads(json.dumps(results))


def test_the_search_with_groups_is_set_beside_the_one_with_one_rate(results):
    shaped, flat = results["searches"]["groups"], results["searches"]["flat"]
    for pair, facts in shaped["pairs"].items():
        assert facts["finished"] == flat["pairs"][pair]["finished"] == 12
        gain = facts["best"]["value"] - flat["pairs"][pair]["best"]["value"]
        assert facts["gain_over_flat"] == gain
        assert facts["importance_kind"] == "fANOVA"
        assert sum(facts["importance"].values()) == pytest.approx(1)


def test_the_page_has_every_figure_and_nothing_from_outside(study):
    write_results(study)
    page = (study.folder / "report.html").read_text()
    titles = re.findall(r"<title id=\"[\w-]+\">([^<]*)</title>", page)
    assert titles == [
        "Combined learning rates from the input to the output",
        "Trials of a-b",
        "Trials of b-c",
        "Importance of the learning rate of each group",
    ]
    assert len(re.findall(r"<title>trial \d+ \(one rate\)", page)) == 2 * 12
    assert len(re.findall(r"<title>trial \d+ \(a rate for each group\)", page)) == 2 * 12
    assert not re.findall(r"(?:src|href)=\"(?!#|data:)", page)
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_a_sampler_that_learns_gets_its_intervals_from_the_pairs(tmp_path):
    study = open_analytic(tmp_path, trials=3, sampler="tpe", pairs=[["a", "b"], ["b", "c"]])
    work(study, lambda claim, epochs: value_of(claim.rates))
    combined = write_results(study)["searches"]["groups"]["combined"]
    assert combined["intervals_over"] == "pairs"
    assert "over the pairs" in verdict(combined)
    alone = open_analytic(tmp_path / "alone", trials=12, sampler="tpe")
    work(alone, lambda claim, epochs: value_of(claim.rates))
    combined = write_results(alone)["searches"]["groups"]["combined"]
    assert combined["is_identified"] is None
    assert "cannot be said" in verdict(combined)
    assert all(facts["interval_over_trials"] for facts in combined["rates"].values())
    assert read_distribution(alone.folder / "distribution.json", "x").groups[0].interval is None


def test_trials_that_ended_early_rank_behind_and_those_that_came_further_before_others(tmp_path):
    pruner = {"type": "successive_halving"}
    study = open_analytic(tmp_path, trials=25, pruner=pruner)
    work(study, lambda claim, epochs: 2 - value_of(claim.rates, epochs))  # short runs look better
    (part,) = study.parts
    trials = finished(part)
    ranked = ranked_trials(part)
    order = [trials[place] for place in np.argsort(-ranked.values, kind="stable")]
    ends = [trial.last_step if trial.state.name == "PRUNED" else 99 for trial in order]
    assert ends == sorted(ends, reverse=True)
    assert len(set(ends)) == 3


def test_an_unfinished_study_says_so_and_an_empty_one_has_a_page(tmp_path):
    study = open_analytic(tmp_path, trials=3, flat=True)
    empty = write_results(study)
    assert empty["searches"]["groups"]["combined"] is None
    assert "There is no distribution yet" in (tmp_path / "report.html").read_text()
    from headrace.search import claims

    claims.end(study, claims.claim(study, study.parts[0]), Outcome(1.0, pruned=False))
    claims.claim(study, study.parts[0])
    write_results(study)
    page = (tmp_path / "report.html").read_text()
    assert "2 of a-b, 3 of a-b with one rate" in page
    assert "not finished" in read_distribution(tmp_path / "distribution.json", "x").study
    counts, running = status_tables(study)
    assert counts.rows[0][:4] == ("a-b", "1 of 3", "0", "1")
    assert running.rows[0][-1] == "works"


def _layout(**stacks):
    return Layout(stacks, {})


def test_groups_by_default_are_the_embeddings_each_layer_and_the_rest(tmp_path):
    file = study_file(tmp_path)
    assert list(space_of(file, _layout(encoder=2), "bert").groups) == [
        "embeddings", "layer-0", "layer-1", "rest",
    ]  # fmt: skip
    assert list(space_of(file, _layout(encoder=1, decoder=1), "t5").groups) == [
        "embeddings", "encoder-0", "decoder-0", "rest",
    ]  # fmt: skip


def test_the_ten_groups_of_the_paper_need_twelve_layers(tmp_path):
    file = study_file(tmp_path, split="paper-code")
    groups = space_of(file, _layout(encoder=12), "bert").groups
    assert len(groups) == 10
    assert groups["layers-0-1"].layers == "0-1"
    with pytest.raises(ConfigError, match="one stack of 12 layers"):
        space_of(file, _layout(encoder=6), "bert")


def test_groups_of_ones_own_are_selected_as_in_a_run_config(tmp_path):
    groups = [{"name": "low", "select": {"layers": "0-1"}}, {"name": "top", "select": "rest"}]
    file = study_file(tmp_path, groups=groups)
    found = space_of(file, _layout(encoder=6), "bert").groups
    assert found["low"] == GroupConfig(name="low", select={"layers": "0-1"}).select


def test_the_page_in_the_docs_names_every_key():
    text = (ROOT / "docs" / "search.md").read_text()
    table = text[text.index("| key | is |") : text.index("### Ending trials early")]
    missing = [key for key in StudyFile.model_fields if f"`{key}`" not in table]
    assert not missing


def test_importance_without_scikit_learn(study, monkeypatch):
    monkeypatch.setattr("headrace.search.results.find_spec", lambda name: None)
    facts = write_results(study)["searches"]["groups"]["pairs"]["a-b"]
    assert facts["importance_kind"] == "PED-ANOVA"
    assert sum(facts["importance"].values()) == pytest.approx(1)
    assert "(PED-ANOVA)" in (study.folder / "report.html").read_text()
