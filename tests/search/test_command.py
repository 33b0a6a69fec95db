"""``headrace search`` from the study file to the distribution that a run config names."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from headrace.cli import main
from headrace.search.study_file import load_study_file
from headrace.training.distributions import read_distribution

COMMAND = [sys.executable, "-m", "headrace.cli", "search"]


def search(*words):
    return subprocess.Popen(
        [*COMMAND, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def holds(folder, name):
    """Whether a file of this name is anywhere below a folder, of which parts vanish meanwhile."""
    return any(name in files for _, _, files in os.walk(folder))


@pytest.mark.slow
def test_a_search_that_was_killed_makes_a_distribution_for_a_run_config(
    small_study, tmp_path, capsys
):
    study = small_study.write(
        tmp_path / "study.json",
        tmp_path / "study",
        sampler="tpe",
        pruner={"type": "successive_halving"},
        flat=False,
    )
    worker = search(study)
    limit = time.monotonic() + 240
    while not holds(tmp_path / "study" / "trials", "matrix.json"):
        assert time.monotonic() < limit
        assert worker.poll() is None, worker.communicate()
        time.sleep(0.05)
    worker.kill()
    worker.communicate()
    worker = search(study)
    output, errors = worker.communicate(timeout=400)
    assert worker.returncode == 0, errors
    assert "its process is gone, it will be repeated" in errors
    results = json.loads((tmp_path / "study" / "search.json").read_text())
    found = results["searches"]["groups"]["pairs"]["weather-pairs"]
    assert found["finished"] == 2
    assert 0 < max(trial["value"] for trial in found["history"]) <= 2
    for trial in found["history"]:
        folder = tmp_path / "study" / "trials" / "weather-pairs" / f"{trial['number']:04d}"
        assert not list(folder.glob("**/*.safetensors")), "weights are left"
    assert "report.html" in output
    page = (tmp_path / "study" / "report.html").read_text()
    assert "weather-pairs" in page
    distribution = tmp_path / "study" / "distribution.json"
    names = [group.name for group in read_distribution(distribution, "here").groups]
    assert names == ["embeddings", "layer-0", "layer-1", "rest"]
    base = json.loads(json.dumps(small_study.base))
    section = base["headrace"]
    section["param_groups"] = {"distribution": str(distribution)}
    section["output"] = str(tmp_path / "run")
    section["stages"] = [{"name": "a", "languages": ["weather"]}]
    section["task"]["heads"] = {"weather": {"sources": ["weather"]}}
    for split in ("train", "validation"):
        section["data"][split] = {"weather": small_study.tasks["weather"][split]}
    config = tmp_path / "run.json"
    config.write_text(json.dumps(base))
    capsys.readouterr()
    assert main(["train", "--ds_config", str(config), "--dry-run"]) == 0
    assert "layer-1" in capsys.readouterr().out
    assert main(["search", str(study), "--status"]) == 0
    assert "2 of 2" in capsys.readouterr().out
    other = small_study.write(tmp_path / "other.json", tmp_path / "study", range=[1e-5, 1e-2])
    assert main(["search", str(other), "--status"]) == 2
    said = capsys.readouterr().err
    assert "range: the study in" in said
    assert "sampler: the study in" in said
    assert "pruner: the study in" in said


@pytest.mark.slow
def test_mistakes_in_data_and_groups_are_said_before_any_trial(small_study, tmp_path, capsys):
    tasks = {**small_study.tasks, "wetness": {"train": "nowhere/a", "validation": "nowhere/b"}}
    study = small_study.write(
        tmp_path / "a.json", tmp_path / "a", tasks=tasks, pairs=[["weather", "wetness"]]
    )
    assert main(["search", str(study)]) == 2
    error = capsys.readouterr().err
    assert "nowhere/a" in error
    assert "nowhere/b" in error
    study = small_study.write(tmp_path / "b.json", tmp_path / "b", split="paper-text")
    assert main(["search", str(study)]) == 2
    assert "one stack of 12 layers" in capsys.readouterr().err
    groups = [{"name": "low", "select": {"layers": "0-5"}}, {"name": "all", "select": "rest"}]
    study = small_study.write(tmp_path / "c.json", tmp_path / "c", groups=groups)
    assert main(["search", str(study)]) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert not list(tmp_path.glob("*/trials"))


def test_all_mistakes_of_a_study_file_are_said_at_once(small_study, tmp_path, capsys):
    study = small_study.write(
        tmp_path / "study.json",
        tmp_path / "study",
        pairs=[["weather", "wether"], ["pairs", "pairs"], ["weather"]],
        seeds=[1, 1],
        sampler="gp",
        pruner={"type": "hyperband"},
        stale_seconds=1.0,
        split="paper-code",
        groups=[{"name": "a", "select": "head"}, {"name": "a", "select": "rest"}],
    )
    assert main(["search", str(study)]) == 2
    error = capsys.readouterr().err
    for text in (
        "pairs.0: no such task (value: wether). Did you mean 'weather'?",
        "pairs.1: a task is trained twice",
        "pairs.2: a pair has two tasks",
        "seeds: a seed is given twice",
        "pruner.type: the Gaussian process learns nothing from trials that end early",
        "stale_seconds: a worker that misses a single beat",
        "split: split makes groups of its own",
        "groups: two groups have the same name",
    ):
        assert text in error


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"sampller": "tpe"}, "sampller: unknown key. Did you mean 'sampler'?"),
        ({"pruner": {"typ": "none"}}, "pruner.typ: unknown key. Did you mean 'type'?"),
        ({"range": [1e-3, 1e-7]}, "range: Value error, must be two positive numbers"),
        ({"groups": [{"name": "a", "select": "hed"}]}, "groups.0.select: Value error, unknown"),
        ({"trials": 0}, "trials: "),
        ({"sampler": "bayes"}, "sampler: "),
    ],
)
def test_a_mistake_has_its_path(small_study, tmp_path, capsys, changes, text):
    study = small_study.write(tmp_path / "study.json", tmp_path / "study", **changes)
    assert main(["search", str(study)]) == 2
    assert text in capsys.readouterr().err


def test_rules_of_pruners_know_the_epochs_of_a_trial(small_study, tmp_path, capsys):
    hyperband = {"sampler": "tpe", "pruner": {"type": "hyperband"}, "trials": 19}
    study = small_study.write(tmp_path / "a.json", tmp_path / "a", **hyperband)
    assert main(["search", str(study)]) == 2
    error = capsys.readouterr().err
    assert "Hyperband has 2 brackets here and needs 10 trials for each" in error
    assert "Give 20 or more" in error
    late = {"sampler": "tpe", "pruner": {"type": "successive_halving", "min_epochs": 2}}
    study = small_study.write(tmp_path / "b.json", tmp_path / "b", **late)
    assert main(["search", str(study)]) == 2
    assert "has to end before the 2 epochs" in capsys.readouterr().err


def test_without_optuna_the_extra_is_named(small_study, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.setattr("headrace.commands.search.find_spec", lambda name: None)
    study = small_study.write(tmp_path / "study.json", tmp_path / "study")
    assert main(["search", str(study)]) == 2
    assert "pip install 'headrace[search]'" in capsys.readouterr().err


def test_status_of_what_is_not_there(small_study, tmp_path, capsys):
    study = small_study.write(tmp_path / "study.json", tmp_path / "study")
    assert main(["search", str(study), "--status"]) == 2
    assert "there is no study here yet" in capsys.readouterr().err


def test_a_worker_is_one_process(small_study, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    study = small_study.write(tmp_path / "study.json", tmp_path / "study")
    assert main(["search", str(study)]) == 2
    assert "2 ranks" in capsys.readouterr().err


def test_a_damaged_journal_is_named_by_its_line(small_study, tmp_path, capsys):
    from headrace.search.storage import open_journal

    open_journal(tmp_path).create_new_study([1], "a")
    journal = tmp_path / "journal.log"
    journal.write_bytes(journal.read_bytes() + b'{"op_code":5,"wor\n{"op_code": 1}\n')
    from headrace.errors import ConfigError

    with pytest.raises(ConfigError, match=r"journal\.log:2: the journal of the study is damaged"):
        open_journal(tmp_path)


def test_a_study_file_reads_back(small_study, tmp_path):
    file, base = load_study_file(small_study.write(tmp_path / "s.json", tmp_path / "s"))
    assert base == small_study.base
    assert file.pair_names() == ["weather-pairs"]
    assert file.trials == 2


@pytest.mark.parametrize(
    ("stages", "text"),
    [
        ([], "exactly one stage"),
        ([{"name": "a"}, {"name": "b"}], "exactly one stage"),
        ([{"name": "a", "epochs": 3, "max_steps": 5}], "which max_steps cuts off"),
        ([{"name": "a", "epochs": "many"}], "epochs"),
    ],
)
def test_a_base_config_has_one_stage_and_rungs_need_its_epochs(
    small_study, tmp_path, capsys, stages, text
):
    base = {**small_study.base, "headrace": {**small_study.base["headrace"], "stages": stages}}
    study = small_study.write(
        tmp_path / "study.json",
        tmp_path / "study",
        base=base,
        sampler="tpe",
        pruner={"type": "successive_halving"} if "max_steps" in text else {"type": "none"},
    )
    assert main(["search", str(study)]) == 2
    assert text in capsys.readouterr().err


@pytest.mark.extended
@pytest.mark.slow
def test_a_worker_that_is_asked_to_stop_saves_its_trial_and_the_next_goes_on_with_it(
    small_study, tmp_path
):
    study = small_study.write(tmp_path / "study.json", tmp_path / "study", trials=1, flat=False)
    worker = search(study)
    limit = time.monotonic() + 240
    while not holds(tmp_path / "study" / "trials", "metrics.jsonl"):
        assert time.monotonic() < limit
        assert worker.poll() is None, worker.communicate()
        time.sleep(0.02)
    worker.send_signal(signal.SIGTERM)
    _, errors = worker.communicate(timeout=300)
    assert worker.returncode == 75, errors
    assert "Traceback" not in errors
    worker = search(study)
    _, errors = worker.communicate(timeout=400)
    assert worker.returncode == 0, errors
    (only,) = (tmp_path / "study" / "trials" / "weather-pairs").iterdir()
    lines = next(only.glob("**/metrics.jsonl")).read_text().splitlines()
    starts = [line for line in map(json.loads, lines) if line["kind"] == "start"]
    assert len(starts) == 2
