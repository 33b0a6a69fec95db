"""Parameter groups on two ranks: every ZeRO stage, optimizers, stops, frozen layers."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

WORKER = Path(__file__).parent / "workers" / "several_runs.py"

pytestmark = pytest.mark.slow

STEPS = 8
GROUPS = {
    "groups": [
        {"name": "words", "select": {"regex": "word_embeddings"}, "freeze": True},
        {"name": "embeddings", "select": "embeddings", "lr": 1e-4},
        {
            "name": "first", "select": {"layers": 0}, "lr_mult": 0.25, "weight_decay": 0.1,
            "schedule": {"type": "linear"},
        },
        {"name": "last", "select": {"layers": "-1:"}, "lr": 1e-4},
        {"name": "head", "select": "head", "lr": 5e-3, "schedule": {"type": "constant"}},
    ]
}  # fmt: skip
STAGES = [
    {"name": "groups", "epochs": 1, "max_steps": STEPS, "schedule": {"type": "cosine"}},
    {
        "name": "decay", "start_from": "groups", "epochs": 1, "max_steps": 4,
        "learning_rate": 1e-3, "param_groups": {"llrd": 0.5},
        "schedule": {"type": "wsd", "decay_steps": 2},
    },
]  # fmt: skip
OPTIMIZERS = {"Adam": {"torch_adam": True}, "AdamW": {}, "SGD": {"momentum": 0.9}, "Adagrad": {}}


@pytest.fixture(scope="module")
def runs(small_corpus, launcher, tmp_path_factory):
    """Folders of all runs: name -> run folder; one launch for all of them."""
    folder = tmp_path_factory.mktemp("groups")
    jobs, outputs = [], {}

    def add(name, stop_after=None, **changes):
        outputs[name] = folder / name
        config = small_corpus.write_config(
            folder / f"{name}.json",
            folder / name,
            **{"headrace.param_groups": GROUPS, "headrace.stages": STAGES, **changes},
        )
        jobs.append({"config": str(config), "stop_after": stop_after})

    for zero in range(4):
        stage = {"zero_optimization.stage": zero}
        add(f"zero{zero}", **stage)
        add(f"zero{zero}-stopped", stop_after=5, **stage)
    bf16 = {"zero_optimization.stage": 2, "bf16.enabled": True, "headrace.stages": STAGES[:1]}
    add("bf16", **bf16)
    add("bf16-stopped", stop_after=5, **bf16)
    for name, params in OPTIMIZERS.items():
        optimizer = {"type": name, "params": {"lr": 2e-3, "weight_decay": 0.01, **params}}
        changes = {"optimizer": optimizer, "zero_optimization.stage": 0}
        add(name, stop_after=5, **changes, **{"headrace.stages": STAGES[:1]})
    (folder / "jobs.json").write_text(json.dumps(jobs))
    done = launcher.run(WORKER, str(folder / "jobs.json"))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return outputs


def train_lines(folder, stage):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return [item for item in records if item["kind"] == "train" and item["stage"] == stage]


ALL = [f"zero{zero}{end}" for zero in range(4) for end in ("", "-stopped")]
ALL += ["bf16", "bf16-stopped", *OPTIMIZERS]


@pytest.mark.parametrize("name", ALL)
def test_every_step_has_the_rates_of_the_config_also_behind_a_stop(runs, name):
    lines = train_lines(runs[name], "groups")
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    for line in lines:
        done = (line["step"] - 1) / STEPS
        cosine = 0.5 * (1 + math.cos(math.pi * done))
        assert line["learning_rates"] == pytest.approx(
            {"embeddings": 1e-4 * cosine, "first": 5e-4 * (1 - done), "last": 1e-4 * cosine,
             "head": 5e-3},
            rel=1e-12,
        )  # fmt: skip
        assert line["learning_rate"] == 5e-3


@pytest.mark.parametrize("zero", range(4))
def test_a_stage_has_groups_of_its_own(runs, zero):
    lines = train_lines(runs[f"zero{zero}"], "decay")
    for line, factor in zip(lines, [1.0, 1.0, 1.0, 0.5], strict=True):
        assert line["learning_rates"] == pytest.approx(
            {"embeddings": factor * 1.25e-4, "layer-0": factor * 2.5e-4,
             "layer-1": factor * 5e-4, "rest": factor * 1e-3},
            rel=1e-12,
        )  # fmt: skip


@pytest.mark.parametrize("name", ["zero0", "zero1", "zero2", "zero3", "bf16"])
def test_a_stop_changes_no_loss_and_no_weight(runs, name):
    stopped = runs[f"{name}-stopped"]
    for stage in ("groups", "decay"):
        losses = [line["loss"] for line in train_lines(runs[name], stage)]
        assert losses == [line["loss"] for line in train_lines(stopped, stage)]
    path = Path("groups", "all", "export", "model.safetensors")
    whole, again = load_file(runs[name] / path), load_file(stopped / path)
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[key], again[key]) for key in whole)


@pytest.mark.parametrize("zero", [1, 2, 3])
def test_zero_stages_learn_the_same(runs, zero):
    ours = [line["loss"] for line in train_lines(runs[f"zero{zero}"], "groups")]
    plain = [line["loss"] for line in train_lines(runs["zero0"], "groups")]
    assert ours == pytest.approx(plain, rel=1e-4)


@pytest.mark.parametrize("name", [f"zero{zero}" for zero in range(4)])
def test_frozen_weights_are_exported_as_they_were_and_the_others_are_not(runs, name):
    """The second stage trains them, from the same start in each run."""
    path = Path("export", "model.safetensors")
    first = load_file(runs[name] / "groups" / "all" / path)
    second = load_file(runs[name] / "decay" / "all" / path)
    plain = load_file(runs["SGD"] / "groups" / "all" / path)
    for key in first:
        frozen = "word_embeddings" in key
        assert torch.equal(first[key], plain[key]) is frozen, key
        assert not frozen or not torch.equal(first[key], second[key])
