"""The same seed gives the same losses, also across a stop and a resume, at every ZeRO stage."""

import json
from functools import cache
from pathlib import Path

import pytest

WORKER = Path(__file__).parent / "workers" / "several_runs.py"

pytestmark = pytest.mark.slow

KINDS = [pytest.param("tokens", marks=pytest.mark.extended), "packed"]
NO_DROPOUT = {"headrace.model.dropout": 0.0}
FILLED = {
    "tokens": {"type": "tokens", "tokens_per_batch": 300, "window_batches": 4},
    "packed": {"type": "packed", "pack_length": 64, "window_batches": 4},
}
FEW_STEPS = [{"name": "multilingual", "epochs": 1, "max_steps": 12}]
STAGES = [
    {"name": "multilingual", "epochs": 2, "max_steps": 22},
    {
        "name": "monolingual", "for_each": "language", "languages": ["zh"],
        "start_from": "multilingual", "epochs": 1,
    },
]  # fmt: skip


def add_job(jobs, small_corpus, output, *, stop_after=None, stop_between=None, **changes):
    """Write the config of a run beside its folder, and note that it is to be trained."""
    config = small_corpus.write_config(
        output.with_suffix(".json"), output, **{"headrace.stages": STAGES, **changes}
    )
    jobs.append({"config": str(config), "stop_after": stop_after, "stop_between": stop_between})


def train(jobs, launcher, folder):
    """All runs one after the other, in one launch of two ranks."""
    (folder / "jobs.json").write_text(json.dumps(jobs))
    finished = launcher.run(WORKER, str(folder / "jobs.json"))
    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]


def at_zero(stage):
    return {"zero_optimization.stage": stage, "train_micro_batch_size_per_gpu": 4}


@pytest.fixture(scope="module")
def runs(small_corpus, launcher, read_losses, tmp_path_factory):
    """Losses of every run: (ZeRO stage, first | again | stopped) -> losses."""
    folder = tmp_path_factory.mktemp("resume")
    jobs, outputs = [], {}

    def add(key, name, **how):
        outputs[key] = folder / name
        add_job(jobs, small_corpus, outputs[key], **how)

    # before ZeRO 3, whose linear layers DeepSpeed leaves behind in the process
    add((0, "again"), "zero0-again", **at_zero(0))
    # in the first validation, by a signal to one rank
    add((1, "broken off"), "zero1-broken-off", stop_between=1, **at_zero(1))
    for zero in range(4):
        add((zero, "first"), f"zero{zero}-first", **at_zero(zero))
        # the stop falls in the middle of an epoch, between two checkpoints
        add((zero, "stopped"), f"zero{zero}-stopped", stop_after=7, **at_zero(zero))
    # 16-bit weights; stage 2 shards the fp32 copies over the ranks, without ZeRO each has them all
    for zero, kind in ((2, "first"), (2, "stopped"), (0, "first")):
        add(
            (f"bf16-{zero}", kind),
            f"bf16-{zero}-{kind}",
            stop_after=7 if kind == "stopped" else None,
            **{
                "zero_optimization.stage": zero,
                "bf16.enabled": True,
                "headrace.stages": STAGES[:1],
            },
        )
    few = {**NO_DROPOUT, "train_batch_size": 10, "headrace.stages": FEW_STEPS}
    add("two ranks", "two_ranks", **few)
    train(jobs, launcher, folder)
    losses = {key: read_losses(output) for key, output in outputs.items()}
    return losses | {"folder": folder}


@pytest.fixture(scope="module")
def filled(small_corpus, launcher, read_losses, tmp_path_factory):
    """Losses of runs with a kind of batches that are filled by length, and their folder."""

    @cache
    def run(kind):
        folder = tmp_path_factory.mktemp(kind)
        changes = {
            "zero_optimization.stage": 1,
            "train_batch_size": 8,
            "train_micro_batch_size_per_gpu": 2,
            "headrace.batching": FILLED[kind],
            "headrace.stages": [{"name": "multilingual", "epochs": 2}],
        }
        jobs = []
        add_job(jobs, small_corpus, folder / "first", **changes)
        # in the second epoch
        add_job(jobs, small_corpus, folder / "stopped", stop_after=60, **changes)
        train(jobs, launcher, folder)
        return folder, *(read_losses(folder / name) for name in ("first", "stopped"))

    return run


def test_two_runs_with_the_same_seed_have_identical_losses(runs):
    assert len(runs[0, "first"]) > 25
    assert runs[0, "first"] == runs[0, "again"]


@pytest.mark.extended
def test_so_they_have_when_weights_are_sharded(runs, small_corpus, launcher, read_losses, tmp_path):
    """As the runs have that are stopped on the way, see below."""
    jobs = []
    for zero in (1, 2, 3):
        add_job(jobs, small_corpus, tmp_path / f"zero{zero}", **at_zero(zero))
    train(jobs, launcher, tmp_path)
    for zero in (1, 2, 3):
        assert len(runs[zero, "first"]) > 25
        assert runs[zero, "first"] == read_losses(tmp_path / f"zero{zero}")


@pytest.mark.parametrize("zero", range(4))
def test_a_stopped_and_resumed_run_has_the_losses_of_an_uninterrupted_one(runs, zero):
    assert len(runs[zero, "first"]) > 25
    assert runs[zero, "first"] == runs[zero, "stopped"]


def test_a_run_that_is_stopped_in_a_validation_by_a_signal_to_one_rank_has_them_too(runs):
    assert runs[1, "first"] == runs[1, "broken off"]


@pytest.mark.parametrize("zero", [1, 2, 3])
def test_every_zero_stage_trains_the_same_model(runs, zero):
    plain, sharded = runs[0, "first"], runs[zero, "first"]
    assert plain.keys() == sharded.keys()
    assert list(sharded.values()) == pytest.approx(list(plain.values()), rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_batches_filled_by_length_resume_to_the_bit(filled, kind):
    folder, first, stopped = filled(kind)
    lines = (folder / "first" / "metrics.jsonl").read_text().splitlines()
    start, *records = [json.loads(line) for line in lines]
    steps = [record for record in records if record["kind"] == "train"]
    validations = [record for record in records if record["kind"] == "validation"]
    assert start["batching"] == kind
    assert steps[-1]["step"] == len(steps) == start["steps"] > 60
    assert first == stopped
    assert [record["epoch"] for record in validations] == [1.0, 2.0]
    first_epoch = validations[0]["step"]
    assert first_epoch < 60
    assert len(list((folder / "stopped").glob("multilingual/all/export/*"))) > 3


@pytest.mark.parametrize("kind", KINDS)
def test_batches_filled_by_length_are_nearly_full(filled, kind):
    lines = (filled(kind)[0] / "first" / "metrics.jsonl").read_text().splitlines()
    steps = [record for record in map(json.loads, lines) if record["kind"] == "train"]
    assert all(0 < record["fill_rate"] <= 1 for record in steps)
    assert sum(record["fill_rate"] for record in steps) > (0.65 if kind == "packed" else 0.8) * len(
        steps
    )
    if kind == "packed":  # every rank computes whole rows
        assert all(
            record["padding_share"] == pytest.approx(1 - record["fill_rate"])
            for record in steps
            if record["padding_share"] < 0.3  # the smaller last batch of an epoch leaves ranks idle
        )


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
