"""Traces of steps by PyTorch's profiler, and DeepSpeed's own profiler of FLOPs in a run."""

import gzip
import json
import re

import pytest
import torch
from pydantic import ValidationError

from headrace.cli import main
from headrace.config import load_run_config
from headrace.config.logging import LoggingConfig
from headrace.training.callbacks import Callbacks
from headrace.training.profiling import StepProfiler
from headrace.training.run import train_in_group
from headrace.training.signals import StopFlag
from headrace.training.stages import expand_stages


def train(profiler, steps, first=0, total=20):
    """Each step multiplies once, squares of the size of its number."""
    with Callbacks([profiler]) as callbacks:
        callbacks.on_start({"steps": total}, first)
        for step in steps:
            torch.ones(step, step) @ torch.ones(step, step)
            callbacks.on_step({"step": step}, logged=False)


def multiplied(folder):
    """Sizes of the products in a trace, in order."""
    trace = json.loads(gzip.decompress((folder / "trace.json.gz").read_bytes()))
    events = trace["traceEvents"]
    products = [event for event in events if event.get("name") == "aten::mm"]
    products.sort(key=lambda event: event["ts"])
    return [event["args"]["Input Dims"][0][0] for event in products]


@pytest.mark.parametrize(
    ("steps", "first", "expected"),
    [
        (range(1, 12), 0, [3, 4, 5]),
        (range(4, 12), 3, [4, 5]),  # went on from a checkpoint in the middle
        (range(1, 5), 0, [3, 4]),  # stopped before the last of them
    ],
)
def test_the_trace_has_the_steps_and_no_others(tmp_path, steps, first, expected):
    train(StepProfiler(tmp_path / "profile", 3, 5), steps, first)
    assert multiplied(tmp_path / "profile") == expected
    assert "aten::mm" in (tmp_path / "profile" / "operators.txt").read_text()


def test_the_first_step_can_be_profiled(tmp_path):
    train(StepProfiler(tmp_path, 1, 2), range(1, 5))
    assert multiplied(tmp_path) == [1, 2]


def test_steps_that_never_come_are_said_so(tmp_path, caplog):
    train(StepProfiler(tmp_path / "profile", 21, 35), range(1, 21))
    assert "profile_steps begins with 21" in caplog.text
    assert not (tmp_path / "profile").exists()


@pytest.mark.parametrize("text", ["20", "5:3", "0:3", "a:b", "-1:4", "1:2:3"])
def test_a_range_that_is_none_is_refused(text):
    with pytest.raises(ValidationError):
        LoggingConfig(profile_steps=text)
    assert LoggingConfig(profile_steps="20:25").profiled == (20, 25)


def test_the_option_sets_the_key_of_the_config(small_corpus, tmp_path, capsys):
    path = small_corpus.write_config(tmp_path / "run.json", tmp_path / "out")
    assert main(["train", "--ds_config", str(path), "--profile-steps", "5:3"]) == 2
    assert "headrace.logging.profile_steps" in capsys.readouterr().err
    assert main(["train", "--ds_config", str(path), "--dry-run", "--profile-steps", "3:5"]) == 0


@pytest.mark.slow
def test_a_run_with_both_profilers(small_corpus, world, tmp_path, read_losses):
    """They change no loss."""
    runs = {}
    for name in ("plain", "profiled"):
        more = {}
        if name == "profiled":
            report = tmp_path / "flops.txt"
            more = {
                "flops_profiler": {
                    "enabled": True, "profile_step": 2, "output_file": str(report),
                },
                "headrace.logging.profile_steps": "2:3",
            }  # fmt: skip
        stages = [{"name": "one", "max_steps": 4, "keep_best": "last"}]
        path = small_corpus.write_config(
            tmp_path / f"{name}.json", tmp_path / name, **{"headrace.stages": stages, **more}
        )
        config = load_run_config(path)
        train_in_group(config, expand_stages(config), world, StopFlag())
        runs[name] = config.output
    assert read_losses(runs["plain"]) == read_losses(runs["profiled"])
    profile = runs["profiled"] / "one" / "all" / "profile"
    assert {path.name for path in profile.iterdir()} == {"trace.json.gz", "operators.txt"}
    assert re.search(r"fwd flops per GPU: +[\d.]+ M", report.read_text())
