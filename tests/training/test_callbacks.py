"""The metrics file across a crash, and the numbers that TensorBoard gets."""

import json

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from headrace.training.loggers.metrics_file import MetricsFile
from headrace.training.loggers.tensorboard import TensorBoard


def record(kind, step, branch="all"):
    return {"kind": kind, "stage": "s", "branch": branch, "step": step, "loss": step / 10}


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_lines_behind_the_resumed_step_are_dropped_and_a_torn_line_too(tmp_path):
    path = tmp_path / "metrics.jsonl"
    first = MetricsFile(path)
    first.on_start(record("start", 0), 0)
    for step in range(1, 8):
        first.on_step(record("train", step), logged=True)
    first.on_validation(record("validation", 7))
    with path.open("a") as stream:
        stream.write('{"kind": "train", "st')  # killed while writing

    second = MetricsFile(path)
    second.on_start(record("start", 0), 5)
    second.on_step(record("train", 6), logged=True)
    lines = read(path)
    assert [line["step"] for line in lines if line["kind"] == "train"] == [1, 2, 3, 4, 5, 6]
    assert [line["kind"] for line in lines].count("start") == 1
    assert not [line for line in lines if line["kind"] == "validation"]


def test_other_branches_are_left_alone(tmp_path):
    path = tmp_path / "metrics.jsonl"
    other = MetricsFile(path)
    other.on_start(record("start", 0, "en"), 0)
    other.on_step(record("train", 9, "en"), logged=True)
    MetricsFile(path).on_start(record("start", 0, "hi"), 0)
    assert [(line["branch"], line["step"]) for line in read(path)] == [
        ("en", 0),
        ("en", 9),
        ("hi", 0),
    ]


def test_a_branch_that_starts_again_from_nothing_drops_its_validation_of_the_start(tmp_path):
    path = tmp_path / "metrics.jsonl"
    first = MetricsFile(path)
    first.on_start(record("start", 0), 0)
    first.on_validation(record("validation", 0))
    MetricsFile(path).on_start(record("start", 0), 0)
    assert [line["kind"] for line in read(path)] == ["start"]


def test_a_line_torn_by_another_job_costs_no_other_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    mine = MetricsFile(path)
    mine.on_start(record("start", 0, "hi"), 0)
    with path.open("a") as stream:
        stream.write('{"kind": "train", "stage": "s", "branch": "en"')
    mine.on_step(record("train", 1, "hi"), logged=True)
    assert json.loads(path.read_text().splitlines()[-1])["branch"] == "hi"


def test_steps_that_are_not_logged_are_not_written(tmp_path):
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    metrics.on_start(record("start", 0), 0)
    metrics.on_step(record("train", 1), logged=False)
    assert len(read(metrics.path)) == 1


def test_tensorboard_has_a_learning_rate_for_each_group(tmp_path):
    board = TensorBoard(tmp_path)
    board.on_start(record("start", 0), 0)
    for step in (1, 2):
        numbers = {"learning_rate": 0.5, "gradient_norm": None, "tokens_per_s": 9.0}
        rates = {"learning_rates": {"low": 0.25 / step, "head": 0.5}}
        line = {**record("train", step), **numbers, **rates, "loss_scale": None}
        board.on_step(line, logged=True)
    board.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [item.value for item in events.Scalars("learning_rate/low")] == [0.25, 0.125]
    assert [item.step for item in events.Scalars("learning_rate/head")] == [1, 2]
