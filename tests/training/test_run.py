"""A run folder: one config, one process a branch, and results that name what was trained."""

import json
import signal

import pytest
from filelock import FileLock

from headrace.config import load_run_config
from headrace.errors import ConfigError, StopRequested, UserError
from headrace.training.export import write_export
from headrace.training.run import only_here, train_in_group
from headrace.training.same_run import check_same_run, report_changes
from headrace.training.signals import StopFlag
from headrace.training.stages import choose_branches, expand_stages


@pytest.fixture(scope="module")
def finished(small_corpus, world, tmp_path_factory):
    """A run of two short stages."""
    folder = tmp_path_factory.mktemp("run")
    stages = [
        {"name": "multilingual", "max_steps": 3},
        {
            "name": "monolingual", "for_each": "language", "languages": ["en", "zh"],
            "start_from": "multilingual", "max_steps": 2, "learning_rate": 1e-4,
        },
    ]  # fmt: skip
    path = small_corpus.write_config(
        folder / "run.json",
        folder / "out",
        **{"headrace.stages": stages, "headrace.logging.tensorboard": True},
    )
    config = load_run_config(path)
    train_in_group(config, expand_stages(config), world, StopFlag())
    return config


def test_every_branch_has_its_place(finished):
    results = json.loads((finished.output / "results.json").read_text())
    branches = [(entry["stage"], entry["branch"]) for entry in results["stages"]]
    assert branches == [("multilingual", "all"), ("monolingual", "en"), ("monolingual", "zh")]
    assert set(results["stages"][0]["metrics"]) == {"en", "hi", "zh"}
    assert set(results["stages"][2]["metrics"]) == {"zh"}
    for stage, branch in branches:
        export = finished.output / stage / branch / "export"
        assert {"config.json", "model.safetensors", "tokenizer.json"} <= {
            path.name for path in export.iterdir()
        }
        assert not (finished.output / stage / branch / "checkpoints").exists()


def test_a_second_stage_starts_from_the_first_ones_model(finished):
    lines = [
        json.loads(line) for line in (finished.output / "metrics.jsonl").read_text().splitlines()
    ]
    first = next(line for line in lines if line["kind"] == "validation" and line["branch"] == "all")
    start = next(
        line
        for line in lines
        if line["kind"] == "validation" and line["branch"] == "zh" and line["step"] == 0
    )
    assert start["loss"] == pytest.approx(first["loss_by_language"]["zh"], rel=1e-5)


def test_only_a_model_that_may_be_kept_is_exported(small_corpus, world, tmp_path, monkeypatch):
    """With `last` that after the last step; with `validation_loss` each that is the best so far."""
    exported = []

    def export_and_count(folder, model, state, tokenizer, facts, task):
        exported.append((facts["stage"], facts["step"]))
        write_export(folder, model, state, tokenizer, facts, task)

    monkeypatch.setattr("headrace.training.branch_run.write_export", export_and_count)
    short = {"languages": ["zh"], "epochs": 3}
    stages = [
        {"name": "last", "keep_best": "last", **short},
        {"name": "best", "start_from": "last", "learning_rate": 1e-4, **short},
    ]
    path = small_corpus.write_config(
        tmp_path / "run.json", tmp_path / "out", **{"headrace.stages": stages}
    )
    config = load_run_config(path)
    train_in_group(config, expand_stages(config), world, StopFlag())
    lines = (config.output / "metrics.jsonl").read_text().splitlines()
    validations = [line for line in map(json.loads, lines) if line["kind"] == "validation"]
    bests = [(line["stage"], line["step"]) for line in validations if line["best"]]
    steps = [step for stage, step in bests if stage == "last"]
    assert len(steps) == 3
    of_best = [found for found in bests if found[0] == "best"]
    assert len(of_best) > 1
    assert exported == [("last", steps[-1]), *of_best]


def test_the_saved_config_starts_the_same_run(finished):
    again = load_run_config(finished.output / "config.json")
    assert again.resolved() == finished.resolved()
    check_same_run(again)


def test_another_config_in_the_same_folder_is_refused_by_key(finished):
    other = load_run_config(
        finished.output / "config.json", ["headrace.seed=99", "optimizer.params.lr=1e-5"]
    )
    with pytest.raises(ConfigError) as caught:
        check_same_run(other)
    assert {problem.where for problem in caught.value.problems} == {
        "headrace.seed", "optimizer.params.lr"}  # fmt: skip
    seed = next(str(problem) for problem in caught.value.problems if "seed" in problem.where)
    assert f"headrace.seed: was 3 when the run in {finished.output} was started, and is 99" in seed


def test_what_may_change_is_shown_with_its_values(finished, caplog):
    changes = [
        "headrace.checkpoint.keep_last=5",
        "headrace.anomalies.not_finite=skip",
        "steps_per_print=10",
        "zero_optimization.stage=2",
        "train_micro_batch_size_per_gpu=4",
    ]
    other = load_run_config(finished.output / "config.json", changes)
    assert check_same_run(other) == [
        ("headrace.anomalies.not_finite", "stop", "skip"),
        ("headrace.checkpoint.keep_last", 2, 5),
        ("steps_per_print", None, 10),
        ("train_micro_batch_size_per_gpu", None, 4),
        ("zero_optimization.stage", None, 2),
    ]
    caplog.set_level("INFO")
    report_changes(other)
    assert 'headrace.anomalies.not_finite: "stop" -> "skip"' in caplog.text
    assert "steps_per_print: not set -> 10" in caplog.text


def test_keys_of_a_later_version_are_no_change(finished, tmp_path):
    before = finished.resolved()
    before["headrace"].pop("anomalies")
    before["headrace"]["checkpoint"].pop("asynchronous")
    before["headrace"]["model"].pop("lora")
    before["headrace"]["stages"][0].pop("penalty")
    before["headrace"]["output"] = str(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(before))
    folder = tmp_path / "multilingual" / "all"
    folder.mkdir(parents=True)
    now = load_run_config(finished.output / "config.json", [f"headrace.output={tmp_path}"])
    assert check_same_run(now) == []


def stages_of(config):
    return [stage.model_dump(mode="json") for stage in config.headrace.stages]


def load_with_stages(config, stages):
    return load_run_config(config.output / "config.json", [f"headrace.stages={json.dumps(stages)}"])


def test_a_stage_that_is_complete_may_not_change_and_one_that_comes_may(finished):
    stages = stages_of(finished)
    more = {"name": "again", "start_from": "multilingual", "keep_best": "last"}
    check_same_run(load_with_stages(finished, [*stages, more]))
    check_same_run(load_with_stages(finished, [stages[0], more, stages[1]]))
    for key, value in (
        ("max_steps", 4),
        ("mixture", {"max_epochs": 3}),
        ("mixture", {"phases": [{"from_epoch": 0.5, "temperature": 0}]}),
    ):
        changed = [{**stages[0], key: value}, stages[1]]
        with pytest.raises(ConfigError, match=rf"headrace\.stages\.0\.{key}"):
            check_same_run(load_with_stages(finished, changed))
    with pytest.raises(ConfigError, match=r"headrace\.stages: .*monolingual"):
        check_same_run(load_with_stages(finished, stages[:1]))


def test_in_a_stage_that_is_under_way_only_what_comes_may_change(small_corpus, tmp_path):
    output = tmp_path / "out"
    stages = [{"name": "first"}, {"name": "second"}]
    path = small_corpus.write_config(tmp_path / "run.json", output, **{"headrace.stages": stages})
    config = load_run_config(path)
    output.mkdir()
    (output / "config.json").write_text(json.dumps(config.resolved()), encoding="utf-8")
    (output / "first" / "all" / "checkpoints").mkdir(parents=True)
    phases = [{"from_epoch": 0.5, "temperature": 0}]
    first, second = stages_of(config)
    for accepted in (
        [{**first, "mixture": {"phases": phases, "max_epochs": {"en": 2}}}, second],
        [first, {**second, "epochs": 7, "mixture": {"temperature": 0.5}}],
        [first],
        [first, {**second, "name": "third"}, second],
    ):
        check_same_run(load_with_stages(config, accepted))
    for refused, where in (
        ([{**first, "epochs": 7}, second], "headrace.stages.0.epochs"),
        ([second, {**first, "mixture": {"temperature": 0.5}}],
         "headrace.stages.1.mixture.temperature"),
        ([second], "headrace.stages"),
    ):  # fmt: skip
        with pytest.raises(ConfigError) as caught:
            check_same_run(load_with_stages(config, refused))
        assert [problem.where for problem in caught.value.problems] == [where]


def test_more_epochs_than_the_limits_allow_are_refused_before_any_work(
    small_corpus, world, tmp_path
):
    path = small_corpus.write_config(
        tmp_path / "run.json",
        tmp_path / "out",
        **{
            "headrace.stages": [
                {"name": "limited", "epochs": 2, "mixture": {"max_epochs": {"en": 1}}},
                {"name": "over", "epochs": 3, "mixture": {"max_epochs": 2}},
                {"name": "bounded", "mixture": {"max_share": 0.2}},
            ]
        },
    )
    config = load_run_config(path)
    with pytest.raises(UserError) as caught:
        train_in_group(config, expand_stages(config), world, StopFlag())
    assert [problem.where for problem in caught.value.problems] == [
        "stage over: epochs", "stage bounded: mixture.max_share"]  # fmt: skip
    assert "2 epochs" in caught.value.problems[0].what
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_no_run_is_refused(finished):
    folder = finished.output / "multilingual" / "all" / "export"  # has a config.json as well
    foreign = load_run_config(finished.output / "config.json", [f"headrace.output={folder}"])
    with pytest.raises(ConfigError, match="something else than a run"):
        check_same_run(foreign)


def test_a_start_after_the_last_branch_mends_the_results(finished, world):
    """A crash between the last result of a branch and the results of the run."""
    results = finished.output / "results.json"
    before = json.loads(results.read_text())["stages"]
    results.unlink()
    leftover = finished.output / "monolingual" / "zh" / "checkpoints" / "step-000002"
    leftover.mkdir(parents=True)
    train_in_group(finished, expand_stages(finished), world, StopFlag())
    assert json.loads(results.read_text())["stages"] == before
    assert not leftover.exists()


def test_a_config_that_the_data_refuses_leaves_no_trace(small_corpus, world, tmp_path):
    labels = tmp_path / "labels.json"
    labels.write_text('{"name": "mine", "types": {"Artist": "PER"}}')
    path = small_corpus.write_config(
        tmp_path / "run.json", tmp_path / "out", **{"headrace.task.labels": str(labels)}
    )
    config = load_run_config(path)
    with pytest.raises(UserError, match="Scientist"):
        train_in_group(config, expand_stages(config), world, StopFlag())
    assert not (tmp_path / "out").exists()


def test_a_signal_between_two_branches_is_heard(small_corpus, world, tmp_path):
    config = load_run_config(small_corpus.write_config(tmp_path / "run.json", tmp_path / "out"))
    flag = StopFlag()
    flag.received = signal.SIGTERM
    with pytest.raises(StopRequested):
        train_in_group(config, expand_stages(config), world, flag)
    assert not (tmp_path / "out" / "multilingual").exists()


def test_logging_may_change_between_two_starts(finished):
    check_same_run(
        load_run_config(finished.output / "config.json", ["headrace.logging.every_steps=7"])
    )


def test_two_processes_cannot_train_the_same_branch(finished, world):
    branch = expand_stages(finished)[0]
    held = FileLock(branch.folder / ".training.lock", is_singleton=False)
    with held, pytest.raises(UserError, match="another process"), only_here(branch, world):
        pytest.fail("the branch is being trained elsewhere")
    with only_here(branch, world):
        pass


def test_unknown_stages_and_branches_are_refused(finished):
    branches = expand_stages(finished)
    with pytest.raises(ConfigError, match="multilingual"):
        choose_branches(branches, "multilingal", None)
    with pytest.raises(ConfigError, match="fr"):
        choose_branches(branches, "monolingual", "fr")
    assert [item.title for item in choose_branches(branches, "monolingual", "zh")] == [
        "monolingual/zh"]  # fmt: skip


def test_tensorboard_has_the_losses_of_every_step(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(finished.output / "tensorboard" / "multilingual" / "all"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3]
    assert [event.step for event in events.Scalars("validation/loss")] == [3]
    assert "validation_fine_macro_f1/hi" in events.Tags()["scalars"]


def test_the_report_of_the_run_names_every_language(finished):
    from headrace.report.write import results_markdown

    text = results_markdown(finished.output)
    assert all(f"| {language} |" in text for language in ("en", "hi", "zh"))
