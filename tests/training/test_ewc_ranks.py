"""Runs with penalties on two ranks: a stop and going on, and another number of ranks."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from headrace.config import load_run_config
from headrace.training.run import train_in_group
from headrace.training.stages import expand_stages

WORKER = Path(__file__).parent / "workers" / "several_runs.py"

pytestmark = pytest.mark.slow

FISHER = Path("first", "all", "fisher-21.safetensors")
STAGES = [
    {"name": "first", "languages": ["en"], "max_steps": 3, "keep_best": "last"},
    {
        "name": "second", "languages": ["hi"], "start_from": "first", "max_steps": 4,
        "keep_best": "last", "penalty": {"type": "ewc", "weight": 1e4, "samples": 21},
    },
]  # fmt: skip


class Never:
    """No signal arrives."""

    received = None


@pytest.fixture(scope="module")
def write(small_corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ewc")

    def write(name, **changes):
        return small_corpus.write_config(
            folder / f"{name}.json", folder / name,
            **{"headrace.stages": STAGES, "headrace.model.config.hidden_dropout_prob": 0.0,
               "headrace.model.config.attention_probs_dropout_prob": 0.0, **changes},
        )  # fmt: skip

    return write


@pytest.fixture(scope="module")
def alone(write, world):
    """The run in one process, without ZeRO."""
    config = load_run_config(write("alone"))
    train_in_group(config, expand_stages(config), world, Never())
    return config.output


@pytest.fixture(scope="module")
def runs(write, alone, launcher, tmp_path_factory):
    """Folders of runs on two ranks, all of one launch."""
    jobs, outputs = [], {}
    for zero in (0, 2, 3):
        for name, stop_after in ((f"zero{zero}", None), (f"zero{zero}-stopped", 7)):
            path = write(name, **{"zero_optimization.stage": zero})
            outputs[name] = path.with_suffix("")
            jobs.append({"config": str(path), "stop_after": stop_after})
    # a first stage that one process trained, with its Fisher information
    path = write("taken-over", **{"zero_optimization.stage": 3})
    outputs["taken-over"] = path.with_suffix("")
    shutil.copytree(alone / "first", outputs["taken-over"] / "first")
    jobs.append({"config": str(path), "stop_after": None})
    file = tmp_path_factory.mktemp("jobs") / "jobs.json"
    file.write_text(json.dumps(jobs))
    done = launcher.run(WORKER, str(file))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return outputs


def lines_of(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
    return [line for line in lines if line["kind"] == "train" and line["stage"] == "second"]


def exported(folder):
    return load_file(folder / "second" / "all" / "export" / "model.safetensors")


@pytest.mark.parametrize("zero", [0, 2, 3])
def test_a_stop_changes_no_loss_no_penalty_and_no_weight(runs, zero):
    whole, stopped = runs[f"zero{zero}"], runs[f"zero{zero}-stopped"]
    for key in ("loss", "penalty"):
        assert [line[key] for line in lines_of(whole)] == [line[key] for line in lines_of(stopped)]
    once, again = exported(whole), exported(stopped)
    assert all(torch.equal(once[name], again[name]) for name in once)


@pytest.mark.parametrize("name", ["zero0", "zero2", "zero3", "taken-over"])
def test_ranks_and_zero_stages_measure_and_learn_the_same_as_one_process(runs, alone, name):
    plain, found = load_file(alone / FISHER), load_file(runs[name] / FISHER)
    assert plain.keys() == found.keys()
    for key, value in plain.items():
        # the bias of an attention's keys has a gradient of 0, of which rounding is left
        assert (found[key] - value).norm() <= 2e-3 * value.norm() + 1e-12
    if name == "taken-over":
        assert (runs[name] / FISHER).read_bytes() == (alone / FISHER).read_bytes()
    ours, theirs = lines_of(runs[name]), lines_of(alone)
    assert len(ours) == 4
    for mine, other in zip(ours, theirs, strict=True):
        assert mine["loss"] == pytest.approx(other["loss"], rel=1e-4)
        assert mine["penalty"] == pytest.approx(other["penalty"], rel=1e-4)
    assert ours[-1]["penalty"] > 0
