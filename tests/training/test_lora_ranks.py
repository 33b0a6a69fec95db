"""Adapters on two ranks: every ZeRO stage, stops, and what is exported."""

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForTokenClassification

from headrace.config import load_run_config
from headrace.stream.feistel import derive_key
from headrace.training.data import open_data
from headrace.training.model import build_model

WORKER = Path(__file__).parent / "workers" / "several_runs.py"

pytestmark = pytest.mark.slow

RANK = 3
LORA = {"rank": RANK, "alpha": 9, "dropout": 0.1}
STAGES = [
    {"name": "first", "epochs": 1, "max_steps": 6, "keep_best": "last"},
    {
        "name": "second", "epochs": 1, "max_steps": 6, "keep_best": "last", "start_from": "first",
        "param_groups": {
            "groups": [
                {"name": "low", "select": {"layers": 0}, "freeze": True},
                {"name": "others", "select": "rest"},
            ]
        },
    },
]  # fmt: skip
STAGED = [f"zero{zero}" for zero in range(4)]
STEPS = [("first", "all", step, "train") for step in range(1, 7)]
STEPS += [("second", "all", step, "train") for step in range(1, 7)]


@pytest.fixture(scope="module")
def runs(small_corpus, launcher, tmp_path_factory):
    """Folders of all runs: name -> run folder; one launch for all of them."""
    folder = tmp_path_factory.mktemp("lora")
    jobs, outputs = [], {}

    def add(name, stop_after=None, **changes):
        outputs[name] = folder / name
        changes = {
            "headrace.model.lora": LORA, "headrace.stages": STAGES,
            "headrace.data.validation": {}, "headrace.schedule": {"type": "constant"}, **changes,
        }  # fmt: skip
        config = small_corpus.write_config(folder / f"{name}.json", folder / name, **changes)
        jobs.append({"config": str(config), "stop_after": stop_after})

    for zero in range(4):
        add(f"zero{zero}", **{"zero_optimization.stage": zero})
        stopped = {"zero_optimization.stage": zero, "headrace.stages": STAGES[:1]}
        add(f"zero{zero}-stopped", stop_after=3, **stopped)
    add("bf16", **{"zero_optimization.stage": 2, "bf16.enabled": True})
    (folder / "jobs.json").write_text(json.dumps(jobs))
    done = launcher.run(WORKER, str(folder / "jobs.json"))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return outputs


def exported(run, stage):
    return load_file(run / stage / "all" / "export" / "model.safetensors")


@pytest.fixture(scope="module")
def start(runs):
    """Weights of the plain network before the first step: name -> tensor."""
    config = load_run_config(runs["zero0"].with_suffix(".json"))
    opened = open_data(config)
    plain = config.headrace.model.model_copy(update={"lora": None})
    network = build_model(plain, opened.task, opened.tokenizer, seed=derive_key("weights", 3))
    return {name: parameter.detach() for name, parameter in network.named_parameters()}


@pytest.mark.parametrize("name", STAGED)
def test_a_stop_changes_no_loss_and_no_weight(runs, read_losses, name):
    whole, stopped = runs[name], runs[f"{name}-stopped"]
    losses = read_losses(whole)
    assert list(losses) == STEPS
    assert read_losses(stopped) == {step: losses[step] for step in STEPS[:6]}
    ours, theirs = exported(whole, "first"), exported(stopped, "first")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("name", STAGED[1:])
def test_zero_stages_learn_the_same(runs, read_losses, name):
    assert read_losses(runs[name]) == pytest.approx(read_losses(runs["zero0"]), rel=1e-4)
    plain, ours = exported(runs["zero0"], "second"), exported(runs[name], "second")
    assert all(torch.allclose(ours[key], plain[key], atol=1e-4) for key in plain)


@pytest.mark.parametrize("name", [*STAGED, "bf16"])
def test_exports_are_plain_networks_that_load_without_peft(runs, start, name, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    folder = runs[name] / "second" / "all" / "export"
    assert exported(runs[name], "second").keys() == start.keys()
    assert not list(folder.glob("adapter*"))
    _, loading = AutoModelForTokenClassification.from_pretrained(folder, output_loading_info=True)
    assert not any(loading.values())


@pytest.mark.parametrize("name", [*STAGED, "bf16"])
def test_a_stage_adds_matrices_of_the_rank_to_linear_layers_and_changes_the_head_alone(
    runs, start, name
):
    """The second stage has new adapters, on the merged weights of the first."""
    first, second = exported(runs[name], "first"), exported(runs[name], "second")
    adapted = 0
    for key, before in start.items():
        matrix = key.startswith("bert.encoder.") and before.dim() == 2
        if key.startswith("classifier."):
            assert not torch.equal(first[key], before)
            assert not torch.equal(second[key], first[key])
        elif not matrix:
            assert torch.equal(first[key], before), key
            assert torch.equal(second[key], before), key
        else:
            adapted += 1
            changes = [first[key] - before]
            if ".layer.0." in key:  # its adapters are frozen in the second stage
                assert torch.equal(second[key], first[key])
            else:
                changes += [second[key] - first[key], second[key] - before]
            ranks = [int(torch.linalg.matrix_rank(one, rtol=1e-3)) for one in changes]
            assert ranks == [RANK, RANK, 2 * RANK][: len(changes)], key
    assert adapted == 12


@pytest.mark.extended
def test_adapters_go_on_with_other_numbers_of_ranks(small_corpus, launcher, tmp_path, read_losses):
    phases = [{"ranks": ranks, "jobs": []} for ranks in (2, 1, 3)]

    def add(phase, name, stop_after=None, **changes):
        config = small_corpus.write_config(
            tmp_path / f"{name}-{phase['ranks']}.json",
            tmp_path / name,
            **{
                "train_batch_size": 12,
                "headrace.model.dropout": 0.0,
                "headrace.model.lora": {"rank": RANK},
                "headrace.data.validation": {},
                "headrace.stages": [{**STAGES[0], "max_steps": 9}],
                **changes,
            },
        )
        phase["jobs"].append({"config": str(config), "stop_after": stop_after, "keep": None})

    for zero in range(4):
        add(phases[0], f"whole{zero}", **{"zero_optimization.stage": zero})
        for phase, steps in zip(phases, (3, 3, None), strict=True):
            add(phase, f"moved{zero}", steps, **{"zero_optimization.stage": zero})
    (tmp_path / "phases.json").write_text(json.dumps(phases))
    done = launcher.run_alone(WORKER.with_name("world_sizes.py"), str(tmp_path / "phases.json"))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    for zero in range(4):
        whole, moved = (read_losses(tmp_path / f"{name}{zero}") for name in ("whole", "moved"))
        assert len(whole) == 9
        assert moved == pytest.approx(whole, rel=1e-5)
