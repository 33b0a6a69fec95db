"""The same seed gives the same losses, also across a stop and a resume, at every ZeRO stage."""

import json
from pathlib import Path

import pytest

WORKER = Path(__file__).parent / "workers" / "several_runs.py"

pytestmark = pytest.mark.slow

NO_DROPOUT = {"headrace.model.dropout": 0.0}
FEW_STEPS = [{"name": "multilingual", "epochs": 1, "max_steps": 12}]


@pytest.fixture(scope="module")
def runs(small_corpus, launcher, read_losses, tmp_path_factory):
    """Losses of every run: (ZeRO stage, first | again | stopped) -> losses."""
    folder = tmp_path_factory.mktemp("resume")
    stages = [
        {"name": "multilingual", "epochs": 2, "max_steps": 22},
        {
            "name": "monolingual", "for_each": "language", "languages": ["zh"],
            "start_from": "multilingual", "epochs": 1,
        },
    ]  # fmt: skip
    jobs, outputs = [], {}
    for zero in range(4):
        for kind in ("first", "again", "stopped"):
            output = folder / f"zero{zero}-{kind}"
            config = small_corpus.write_config(
                folder / f"zero{zero}-{kind}.json",
                output,
                **{
                    "zero_optimization.stage": zero,
                    "train_micro_batch_size_per_gpu": 4,
                    "headrace.stages": stages,
                },
            )
            # the stop falls in the middle of an epoch, between two checkpoints
            jobs.append({"config": str(config), "stop_after": 7 if kind == "stopped" else None})
            outputs[zero, kind] = output
    # 16-bit weights; stage 2 shards the fp32 copies over the ranks, without ZeRO each has them all
    for zero, kind in ((2, "first"), (2, "stopped"), (0, "first")):
        output = folder / f"bf16-{zero}-{kind}"
        config = small_corpus.write_config(
            folder / f"bf16-{zero}-{kind}.json",
            output,
            **{
                "zero_optimization.stage": zero,
                "bf16.enabled": True,
                "headrace.stages": stages[:1],
            },
        )
        jobs.append({"config": str(config), "stop_after": 7 if kind == "stopped" else None})
        outputs[f"bf16-{zero}", kind] = output
    config = small_corpus.write_config(
        folder / "two_ranks.json",
        folder / "two_ranks",
        **{**NO_DROPOUT, "train_batch_size": 10, "headrace.stages": FEW_STEPS},
    )
    jobs.append({"config": str(config), "stop_after": None})
    outputs["two ranks"] = folder / "two_ranks"
    (folder / "jobs.json").write_text(json.dumps(jobs))
    finished = launcher.run(WORKER, str(folder / "jobs.json"))
    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]
    losses = {key: read_losses(output) for key, output in outputs.items()}
    return losses | {"folder": folder}


@pytest.mark.parametrize("zero", range(4))
def test_two_runs_with_the_same_seed_have_identical_losses(runs, zero):
    assert len(runs[zero, "first"]) > 25
    assert runs[zero, "first"] == runs[zero, "again"]


@pytest.mark.parametrize("zero", range(4))
def test_a_stopped_and_resumed_run_has_the_losses_of_an_uninterrupted_one(runs, zero):
    assert runs[zero, "first"] == runs[zero, "stopped"]


@pytest.mark.parametrize("zero", [1, 2, 3])
def test_every_zero_stage_trains_the_same_model(runs, zero):
    plain, sharded = runs[0, "first"], runs[zero, "first"]
    assert plain.keys() == sharded.keys()
    assert list(sharded.values()) == pytest.approx(list(plain.values()), rel=1e-4)


def test_bf16_resumes_to_the_bit_too(runs):
    assert len(runs["bf16-2", "first"]) > 20
    assert runs["bf16-2", "first"] == runs["bf16-2", "stopped"]


@pytest.mark.parametrize("zero", [0, 2])
def test_bf16_exports_its_fp32_weights(runs, zero):
    from safetensors.torch import load_file

    export = runs["folder"] / f"bf16-{zero}-first" / "multilingual" / "all" / "export"
    weights = load_file(export / "model.safetensors")
    assert {str(tensor.dtype) for tensor in weights.values()} == {"torch.float32"}
    rounded = [tensor for tensor in weights.values() if not tensor.bfloat16().float().equal(tensor)]
    assert rounded, "weights that were never more precise than bf16 are not the master copy"


def test_the_number_of_ranks_does_not_change_the_losses(runs, small_corpus, world, read_losses):
    """The two ranks of a batch have different numbers of labelled tokens."""
    from headrace.config import load_run_config
    from headrace.training.run import train_in_group
    from headrace.training.signals import StopFlag
    from headrace.training.stages import expand_stages

    output = runs["folder"] / "one_rank"
    config = load_run_config(
        small_corpus.write_config(
            runs["folder"] / "one_rank.json",
            output,
            **{**NO_DROPOUT, "train_batch_size": 10, "headrace.stages": FEW_STEPS},
        )
    )
    train_in_group(config, expand_stages(config), world, StopFlag())
    one, two = read_losses(output), runs["two ranks"]
    assert one.keys() == two.keys()
    assert list(two.values()) == pytest.approx(list(one.values()), rel=1e-4)
    first = ("multilingual", "all", 1, "train")
    assert two[first] == pytest.approx(one[first], abs=1e-6)
