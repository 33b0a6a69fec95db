"""Sequences that are trained for real, in the process of the tests."""

import json
import shutil

import numpy as np
import pytest

from headrace.errors import ConfigError
from headrace.forgetting.run_document import Treatment
from headrace.forgetting.sequence import MATRIX_FILE, plan_sequence, score_start
from headrace.forgetting.shared_stages import SharedStages
from headrace.shards import ShardReader
from headrace.training.inference import encode_for_model, load_model, score


def records(folder, kind="train"):
    """The records of a run's log by stage."""
    found = {}
    for line in (folder / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        if record["kind"] == kind:
            found.setdefault(record["stage"], []).append(record)
    return found


def config_of(folder):
    return json.loads((folder / "run" / "config.json").read_text(encoding="utf-8"))


def test_every_model_is_scored_on_every_task(run, small_tasks, tmp_path):
    matrix = run()
    assert matrix.order == ("weather", "pairs")
    for row, stage in enumerate(matrix.order):
        model = load_model(tmp_path / "one" / "run" / stage / "all" / "export")
        urls = {task: small_tasks.tasks[task].test for task in matrix.order}
        sources = encode_for_model(model, urls, tmp_path / "encoded")
        # in batches of another size than the runner's
        found = score(model, sources, batch_size=7).metrics
        for column, task in enumerate(matrix.order):
            assert matrix.values[row, column] == found[task]["accuracy"]
            answers = matrix.answers[row][column]
            assert len(answers) == ShardReader(urls[task]).manifest.samples
            assert answers.mean() == pytest.approx(matrix.values[row, column])


def test_answers_are_in_the_order_of_the_source(run, small_tasks, tmp_path):
    matrix = run()
    model = load_model(tmp_path / "one" / "run" / "pairs" / "all" / "export")
    head = model.task.heads.of("weather")
    samples = list(ShardReader(small_tasks.tasks["weather"].test))
    for sample, right in zip(samples, matrix.answers[1][0], strict=True):
        inputs = model.tokenizer(sample.metadata["text"], return_tensors="pt")
        logits = model.network(**inputs).logits[0, head.start : head.stop]
        assert (head.labels[int(logits.argmax())] == sample.metadata["label"]) == right


def test_a_finished_sequence_is_not_run_again(run, tmp_path):
    first = run(keep_weights=False)
    assert not (tmp_path / "one" / "run" / "weather").exists()
    log = (tmp_path / "one" / "run" / "metrics.jsonl").read_bytes()
    again = run()
    assert np.array_equal(again.values, first.values)
    assert (tmp_path / "one" / "run" / "metrics.jsonl").read_bytes() == log


def test_other_splits_are_scored_without_training_and_other_settings_are_refused(run, tmp_path):
    run(splits="validation")
    log = (tmp_path / "one" / "run" / "metrics.jsonl").read_bytes()
    matrix = run(splits="test")
    assert (tmp_path / "one" / "run" / "metrics.jsonl").read_bytes() == log
    content = json.loads((tmp_path / "one" / MATRIX_FILE).read_text(encoding="utf-8"))
    assert set(content["splits"]) == {"validation", "test"}
    assert content["splits"]["test"]["measures"]["p"] == pytest.approx(matrix.measure("p"))
    for changes in (
        {"seed": 2},
        {"overrides": {}},
        {"treatment": Treatment(interpolation=0.5)},
        {"score": "macro_f1"},
    ):
        with pytest.raises(ConfigError, match="other settings"):
            run(**changes)


def test_overrides_reach_the_run_and_its_stages(run, tmp_path):
    run(overrides={
        "optimizer.params.lr": 5e-3,
        "headrace.param_groups": {"llrd": 0.5},
        "stage.max_steps": 3,
        "later_stages.penalty": {"type": "l2_sp", "weight": 0.1},
    })  # fmt: skip
    config = config_of(tmp_path / "one")
    first, second = config["headrace"]["stages"]
    assert config["optimizer"]["params"]["lr"] == 5e-3
    assert config["headrace"]["param_groups"]["llrd"] == 0.5
    assert [stage["max_steps"] for stage in (first, second)] == [3, 3]
    assert (first["penalty"], second["penalty"]["type"]) == (None, "l2_sp")
    assert second["start_from"] == "weather"


def test_heads_of_other_tasks_are_left_out(run, tmp_path):
    run()
    assert list(config_of(tmp_path / "one")["headrace"]["task"]["heads"]) == ["weather", "pairs"]


def test_a_score_can_be_a_task(run):
    matrix = run(order=("weather", "wetness"))
    assert matrix.answers[0][0] is not None
    assert matrix.answers[1][1] is None, "a correlation is no share of right answers"
    assert -1 <= matrix.values[1, 1] <= 1


def test_replay_mixes_in_earlier_tasks_and_keeps_the_steps(run, tmp_path):
    steps = {"overrides": {"stage.max_steps": None, "stage.epochs": 2}}
    run("plain", **steps)
    run("replay", treatment=Treatment(replay=0.2), **steps)
    (plain,), (mixed,) = (
        records(tmp_path / name, "start")["pairs"] for name in ("plain", "replay")
    )
    assert mixed["steps"] == plain["steps"] == 2 * 240 / 16
    assert mixed["mixture"] == pytest.approx({"weather": 0.2, "pairs": 0.8})
    assert records(tmp_path / "replay", "start")["weather"][0]["mixture"] == {"weather": 1.0}


def test_joint_training_is_one_stage_with_as_many_steps(run, tmp_path):
    matrix = run(treatment=Treatment(joint=True))
    assert matrix.is_joint
    (start,) = records(tmp_path / "one", "start")["joint"]
    assert (start["steps"], start["languages"]) == (16, ["weather", "pairs"])


def test_interpolation_goes_from_the_model_before_to_that_of_the_stage(run):
    plain = run("plain")
    none, all_ = (run(str(share), treatment=Treatment(interpolation=share)) for share in (0.0, 1.0))
    assert np.array_equal(all_.values, plain.values)
    assert np.array_equal(none.values, plain.values[[0, 0]])
    assert not np.array_equal(plain.values[0], plain.values[1])


def test_stages_that_runs_have_in_common_are_trained_once(run, small_tasks, group, tmp_path):
    plans = [
        plan_sequence(
            small_tasks.base, small_tasks.tasks, ("weather", "pairs"), tmp_path / name,
            overrides=overrides, seed=1,
        )
        for name, overrides in (
            ("plain", {}),
            ("penalty", {"later_stages.penalty": {"type": "l2_sp", "weight": 10.0}}),
            ("rate", {"optimizer.params.lr": 1e-4}),
        )
    ]  # fmt: skip
    shared = SharedStages(tmp_path / "shared")
    shared.expect(plan.config for plan in plans)
    alone = run("alone", overrides={})
    plain, penalty, rate = (
        run(plan.output.name, shared=shared, keep_weights=False, overrides=overrides)
        for plan, overrides in zip(
            plans,
            (
                {},
                {"later_stages.penalty": {"type": "l2_sp", "weight": 10.0}},
                {"optimizer.params.lr": 1e-4},
            ),
            strict=True,
        )
    )
    assert np.array_equal(plain.values, alone.values)
    assert np.array_equal(penalty.values[0], plain.values[0])
    assert list(records(tmp_path / "penalty")) == ["pairs"], "the first stage was there"
    assert list(records(tmp_path / "rate")) == ["weather", "pairs"]
    assert not list((tmp_path / "shared").iterdir()), "nobody needs anything any more"
    assert rate.values.shape == (2, 2)


def test_the_scores_at_the_start_are_those_of_the_network_with_a_new_head(
    run, small_tasks, tmp_path
):
    run("slow", overrides={"optimizer.params.lr": 1e-12})
    plan = plan_sequence(
        small_tasks.base, small_tasks.tasks, ("weather", "pairs"), tmp_path / "start",
        overrides={}, seed=1,
    )  # fmt: skip
    content = json.loads((tmp_path / "slow" / MATRIX_FILE).read_text(encoding="utf-8"))
    assert score_start(plan, "test") == content["splits"]["test"]["values"][0]


def test_everything_wrong_with_a_sequence_is_said(run, small_tasks, tmp_path):
    with pytest.raises(ConfigError) as caught:
        run(order=("weather", "weather", "pears"))
    assert {problem.what for problem in caught.value.problems} == {
        "no such task", "a task stands twice",
    }  # fmt: skip
    assert "pairs" in str(caught.value)
    with pytest.raises(ConfigError, match=r"stages\.0\.epochs: the sequence sets this itself"):
        run(overrides={"headrace.stages.0.epochs": 2})
    base = json.loads(json.dumps(small_tasks.base))
    base["headrace"]["stages"] *= 2
    with pytest.raises(ConfigError, match="exactly one stage"):
        plan_sequence(base, small_tasks.tasks, ("weather",), tmp_path, overrides={}, seed=0)
    shutil.rmtree(tmp_path / "one", ignore_errors=True)
    with pytest.raises(ConfigError, match="no test data"):
        small_tasks.tasks["weather"].__class__("a", "b").of("test")
