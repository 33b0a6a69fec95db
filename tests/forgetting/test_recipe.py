"""The experiment that comes with the project: its files fit each other."""

from pathlib import Path

import pytest

from headrace.config import load_run_config
from headrace.forgetting.experiment_file import load_experiment

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "ds_configs" / "forgetting"


@pytest.fixture
def experiment(monkeypatch):
    monkeypatch.chdir(ROOT)  # paths of recipes are those of the repository
    return load_experiment(FOLDER / "experiment.json")[0]


def test_the_base_config_is_a_run_config_of_all_tasks(experiment):
    config = load_run_config(FOLDER / "base.json")
    assert list(config.headrace.task.heads) == list(experiment.tasks)
    assert config.headrace.task.max_length == 64


def test_no_task_of_the_sequences_is_tuned_on(experiment):
    tuned = {task for order in experiment.tuning.sequences for task in order}
    compared = {task for order in experiment.sequences for task in order}
    assert not tuned & compared
    assert tuned | compared == set(experiment.tasks)
    assert len(experiment.seeds) >= 3


def test_the_search_has_the_pairs_and_the_runs_of_the_other_methods(experiment):
    search = pytest.importorskip("headrace.search.study_file")
    study, _ = search.load_study_file(FOLDER / "search.json")
    assert study.pairs == experiment.tuning.sequences
    assert study.trials == experiment.tuning.values
    assert study.seeds == experiment.tuning.seeds
    assert study.base == experiment.base
    for name, section in study.tasks.items():
        assert section.train == experiment.tasks[name].train
        assert section.validation == experiment.tasks[name].validation
    used = {
        method.set["headrace.param_groups"]["distribution"]
        for name, method in experiment.methods.items()
        if name in ("ours", "flat_searched")
    }
    assert used == {f"{study.output}/distribution.json", f"{study.output}/flat.json"}


def test_the_script_makes_every_task(experiment):
    script = (ROOT / "scripts" / "forgetting_experiment.sh").read_text(encoding="utf-8")
    assert all(f"\ntask {name} " in script for name in experiment.tasks)
