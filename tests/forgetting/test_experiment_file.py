"""The experiment file: everything that is wrong with it, before anything runs."""

import json

import pytest

from headrace.cli import main
from headrace.errors import ConfigError
from headrace.forgetting.experiment import waves
from headrace.forgetting.experiment_file import load_experiment, settings_of


@pytest.fixture
def write(small_tasks, tmp_path):
    def call(**changes):
        path = tmp_path / "experiment.json"
        path.write_text(json.dumps(small_tasks.experiment(tmp_path / "out", **changes)))
        return path

    return call


def problems_of(path):
    with pytest.raises(ConfigError) as caught:
        load_experiment(path)
    return [str(problem) for problem in caught.value.problems]


def test_all_problems_are_said_at_once(write):
    found = problems_of(
        write(
            sequences=[["weather", "pears"], ["weather"], ["pairs", "weather"]],
            seeds=[1, 1],
            reference="flat_tunned",
            methods={
                "flat_tuned": {"tune": {"optimizer.params.lr": [1e-5, 1e-4, 1e-3]}},
                "ewc": {"like": "flat", "set": {"replay": 0.1}},
                "a": {"like": "b"},
                "b": {"like": "a"},
                "wise_ft": {"tune": {"interpolation": [0.5, 1.5]}},
                "twice": {"set": {"x": 1}, "tune": [{"x": 1}, {"x": 1}]},
            },
        )
    )
    text = "\n".join(found)
    for part in (
        "sequences.0: no such task (value: pears). Did you mean 'pairs'?",
        "sequences.1: a sequence has two tasks or more",
        "tuning.sequences.0: values would be chosen on a sequence that methods are compared on",
        "seeds: a seed is given twice",
        "reference: no such method (value: flat_tunned). Did you mean 'flat_tuned'?",
        "methods.flat_tuned.tune: every tuned method tries 2 sets of values (value: 3)",
        "methods.ewc.like: no such method",
        "methods.ewc.set: this is a setting of the method itself (value: replay)",
        "methods.a.like: methods are like one another",
        "methods.wise_ft.tune: must be a share from 0 to 1 (value: interpolation 1.5)",
        "methods.twice.tune: a set of values is given twice",
        "methods.twice.tune: a key is both set and tuned (value: x)",
    ):
        assert part in text


def test_keys_that_do_not_exist_are_named(write):
    found = problems_of(
        write(sequence=[["weather", "pairs"]], tuning={"sequences": [], "values": 1})
    )
    assert any("sequence: unknown key. Did you mean 'sequences'?" in text for text in found)
    assert any(text.startswith("tuning.sequences: ") for text in found)
    assert any(text.startswith("tuning.values: ") for text in found)


def test_a_method_may_not_be_tuned_without_sequences_for_it(write):
    (problem,) = problems_of(write(tuning=None, methods={"m": {"tune": {"a": [1, 2]}}}))
    assert "nothing to choose values on" in problem


def test_methods_follow_those_that_they_are_like(write):
    experiment, _ = load_experiment(
        write(
            methods={
                "last": {"like": "middle", "tune": {"interpolation": [0.1, 0.2]}},
                "middle": {"like": "first", "set": {"b": 2}, "replay": 0.1},
                "first": {"set": {"b": 1}, "tune": {"a": [1, 2]}},
                "other": {"tune": {"a": [1, 2]}},
            }
        )
    )
    assert waves(experiment) == [["first", "other"], ["last"]]
    chosen = {"first": {"a": 2}, "last": {"interpolation": 0.2}}
    assert settings_of(experiment, "last", chosen) == {
        "a": 2, "b": 2, "replay": 0.1, "interpolation": 0.2,
    }  # fmt: skip


def test_problems_of_runs_name_their_method_before_anything_is_trained(write, tmp_path, capsys):
    path = write(
        methods={
            "flat": {"set": {"optimizer.params.lr": "fast", "headrace.seed": 4}},
            "decay": {"set": {"headrace.param_groups": {"lrd": 0.9}}},
            "groups": {"set": {"headrace.param_groups": {"distribution": "nowhere.json"}}},
            "penalty": {"set": {"later_stages.penalty": {"type": "l2", "weight": 1}}},
        },
        tuning=None,
    )
    assert main(["forgetting", str(path)]) == 2
    printed = capsys.readouterr().err
    assert "methods.flat: headrace.seed: the sequence sets this itself" in printed
    assert "methods.decay: headrace.param_groups.lrd: unknown key" in printed
    assert "methods.penalty: headrace.stages.1.penalty" in printed
    assert "Traceback" not in printed
    assert not (tmp_path / "out").exists()


def test_shards_that_are_missing_are_all_named(write, small_tasks, tmp_path, capsys):
    tasks = {name: vars(data) for name, data in small_tasks.tasks.items()}
    tasks["weather"] = {**tasks["weather"], "test": str(tmp_path / "one")}
    tasks["pairs"] = {**tasks["pairs"], "validation": str(tmp_path / "other")}
    assert main(["forgetting", str(write(tasks=tasks)), "--dry-run"]) == 2
    printed = capsys.readouterr().err
    assert str(tmp_path / "one") in printed
    assert str(tmp_path / "other") in printed


def test_groups_that_the_network_lacks_are_met_before_training(write, capsys):
    rates = {
        "groups": [{"name": "low", "select": {"layers": "0-9"}, "lr": 1e-3}],
        "unmatched": "base",
    }
    path = write(
        methods={"flat": {}, "low": {"set": {"headrace.param_groups": rates}}}, tuning=None
    )
    assert main(["forgetting", str(path), "--dry-run"]) == 2
    assert "methods.low: headrace.param_groups.groups.0" in capsys.readouterr().err


def test_a_dry_run_lists_the_runs(write, capsys):
    assert main(["forgetting", str(write()), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "0 of 14 runs are finished" in printed  # 2 x 2 to choose values, 5 methods x 2 seeds
