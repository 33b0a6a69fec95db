"""A run that was stopped on two ranks goes on with one, and then with three."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from headrace.config import load_run_config
from headrace.errors import ConfigError, HeadraceError, UserError

WORKER = Path(__file__).parent / "workers" / "world_sizes.py"

pytestmark = pytest.mark.slow

STEPS = 15
RANKS = {2: 5, 1: 5, 3: None}
"""Ranks one after another, and the steps after which they are stopped."""
FP32, BF16 = 1e-5, 2e-3
"""How far the losses may be from those of a run that was never stopped, relatively."""
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
SGD = {"type": "SGD", "params": {"lr": 2e-3, "momentum": 0.9, "weight_decay": 0.01}}
TOKENS = {"type": "tokens", "tokens_per_batch": 300, "window_batches": 4}
PACKED = {"type": "packed", "pack_length": 64, "window_batches": 4}
STAGE = "zero_optimization.stage"
FEW = {f"zero{stage}": {STAGE: stage} for stage in (2, 3)}
MORE = {
    "zero0": {STAGE: 0},
    "zero1": {STAGE: 1},
    **{f"bf16-{stage}": {STAGE: stage, "bf16.enabled": True} for stage in range(4)},
    "sgd": {STAGE: 3, "optimizer": SGD, "zero_allow_untested_optimizer": True},
    "small_sub_groups": {"zero_optimization": {"stage": 3, "sub_group_size": 3000}},
    **{
        f"offload-{stage}": {
            "zero_optimization": {"stage": stage, "offload_optimizer": {"device": "cpu"}},
            "zero_force_ds_cpu_optimizer": False,
            "zero_allow_untested_optimizer": True,
            "optimizer": {"type": "AdamW", "params": {"lr": 2e-3, "torch_adam": True}},
        }
        for stage in (2, 3)
    },
    "micro_batches": {STAGE: 1, "train_micro_batch_size_per_gpu": 2},
    "tokens": {STAGE: 2, "headrace.batching": TOKENS},
    "packed": {STAGE: 1, "headrace.batching": PACKED},
    "stages": {STAGE: 1},
}
STAGES = (1, 3, 2)
"""ZeRO stages of the run called ``stages``, which changes it with the ranks."""
ALL = [*FEW, *(pytest.param(name, marks=pytest.mark.extended) for name in MORE)]


def train(cases, folder, corpus, launcher):
    """Train each case without a stop on two ranks, and on one number of ranks after another."""
    phases = [{"ranks": ranks, "jobs": []} for ranks in RANKS]

    def add(phase, name, stop_after=None, keep=None, **changes):
        config = corpus.write_config(
            folder / f"{name}-{phase['ranks']}.json",
            folder / name,
            **{
                "train_batch_size": 12,
                "headrace.model.dropout": 0.0,
                "headrace.param_groups": GROUPS,
                "headrace.stages": [
                    {
                        "name": "one", "epochs": 1, "max_steps": STEPS,
                        "schedule": {"type": "cosine"},
                    }
                ],
                **changes,
            },
        )  # fmt: skip
        phase["jobs"].append({"config": str(config), "stop_after": stop_after, "keep": keep})

    for name, changes in cases.items():
        add(phases[0], f"{name}-whole", **changes)
        for phase, (ranks, steps), stage in zip(phases, RANKS.items(), STAGES, strict=True):
            own = {**changes, STAGE: stage} if name == "stages" else changes
            add(phase, f"{name}-moved", steps, str(folder / f"{name}-{ranks}"), **own)
    (folder / "phases.json").write_text(json.dumps(phases))
    done = launcher.run_alone(WORKER, str(folder / "phases.json"))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def few(small_corpus, launcher, tmp_path_factory):
    return train(FEW, tmp_path_factory.mktemp("few"), small_corpus, launcher)


@pytest.fixture(scope="module")
def more(small_corpus, launcher, tmp_path_factory):
    return train(MORE, tmp_path_factory.mktemp("more"), small_corpus, launcher)


@pytest.fixture
def runs(request, name):
    return request.getfixturevalue("few" if name in FEW else "more")


def train_lines(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == "train"]


@pytest.mark.parametrize("name", ALL)
def test_the_losses_are_those_of_a_run_that_was_never_stopped(runs, name):
    whole, moved = train_lines(runs / f"{name}-whole"), train_lines(runs / f"{name}-moved")
    assert [line["step"] for line in moved] == list(range(1, STEPS + 1))
    assert [line["loss"] for line in moved] == pytest.approx(
        [line["loss"] for line in whole], rel=BF16 if name.startswith("bf16") else FP32
    )
    if name != "stages":  # before the first change
        assert [line["loss"] for line in moved[:5]] == [line["loss"] for line in whole[:5]]


@pytest.mark.parametrize("name", ALL)
def test_every_group_keeps_its_learning_rate(runs, name):
    for line in train_lines(runs / f"{name}-moved"):
        done = (line["step"] - 1) / STEPS
        cosine = 0.5 * (1 + math.cos(math.pi * done))
        assert line["learning_rates"] == pytest.approx(
            {"embeddings": 1e-4 * cosine, "first": 5e-4 * (1 - done), "last": 1e-4 * cosine,
             "head": 5e-3},
            rel=1e-12,
        )  # fmt: skip


@pytest.mark.parametrize("name", ALL)
def test_the_trained_weights_are_nearly_the_same(runs, name):
    """A state of Adam that is lost or mixed up moves weights by whole learning rates."""
    path = "one/all/export/model.safetensors"
    whole, moved = (load_file(runs / f"{name}-{kind}" / path) for kind in ("whole", "moved"))
    assert whole.keys() == moved.keys()
    far = {key: (whole[key] - moved[key]).abs().max().item() for key in whole}
    assert max(far.values()) < (5e-3 if name.startswith("bf16") else 1e-4), far


SHARDED = ["zero2", "zero3", *(pytest.param(name, marks=pytest.mark.extended) for name in
                               ("zero1", "bf16-1", "bf16-2", "bf16-3"))]  # fmt: skip


@pytest.mark.parametrize("name", SHARDED)
@pytest.mark.parametrize("ranks", [2, 1])
def test_the_states_are_those_of_a_universal_checkpoint_of_deepspeed(runs, name, ranks, tmp_path):
    from deepspeed.checkpoint import ds_to_universal

    from headrace.training.resharding import SavedShards

    folder = max((runs / f"{name}-{ranks}").glob("step-*")) / "state"
    options = {"num_extract_workers": 1, "num_merge_workers": 1, "keep_temp_folder": False}
    places = {"input_folder": str(folder), "output_folder": str(tmp_path / "universal")}
    ds_to_universal.main(
        SimpleNamespace(**options, **places, strict=True, inject_missing_state=True)
    )
    saved = SavedShards(folder, ranks=ranks, stage=int(name[-1]))
    assert len(saved.parameters) > 30
    for parameter, own in saved.parameters.items():
        for key, file in (
            ("weights", "fp32"),
            ("exp_avg", "exp_avg"),
            ("exp_avg_sq", "exp_avg_sq"),
        ):
            path = tmp_path / "universal" / "zero" / parameter / f"{file}.pt"
            theirs = torch.load(path, weights_only=False)
            theirs = theirs["param"] if isinstance(theirs, dict) else theirs
            assert torch.equal(own.read(key, 0, own.numel), theirs.flatten()), (parameter, key)


@pytest.fixture
def load_on_one_rank(few, small_corpus, world, tmp_path):
    """Loads a checkpoint of two ranks into an engine of one, at any ZeRO stage."""
    from headrace.training.checkpoints import Checkpoints
    from headrace.training.data import open_data
    from headrace.training.engine import full_precision_state, open_engine
    from headrace.training.model import build_model
    from headrace.training.param_groups import groups_of_branch
    from headrace.training.precision import choose_precision
    from headrace.training.stages import expand_stages

    def load(folder, stage):
        path = small_corpus.write_config(
            tmp_path / "run.json",
            tmp_path / "run",
            **{STAGE: stage, "train_batch_size": 12, "headrace.param_groups": GROUPS},
        )
        config = load_run_config(path)
        opened = open_data(config)
        model = build_model(config.headrace.model, opened.task, opened.tokenizer, seed=99)
        groups = groups_of_branch(model, config, expand_stages(config)[0])
        precision = choose_precision("config", config.deepspeed, world.device)
        with open_engine(model, groups, config, world, precision) as engine:
            checkpoints = Checkpoints(folder, world)
            state = checkpoints.load(engine, checkpoints.agree_on_newest())
            groups.check(engine.optimizer, state["learning_rates"])
            return full_precision_state(engine), engine.global_steps

    return load


@pytest.mark.parametrize("name", FEW)
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_the_weights_are_those_that_deepspeed_finds_in_the_checkpoint(
    few, name, stage, load_on_one_rank, caplog
):
    """Frozen ones too: those of the engine begin otherwise.  Loading writes nothing."""
    caplog.set_level("INFO")
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

    folder = few / f"{name}-2"
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    ours, steps = load_on_one_rank(folder, stage)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    theirs = get_fp32_state_dict_from_zero_checkpoint(str(next(folder.glob("step-*"))), "state")
    assert steps == 5
    assert "was written with world_size 2" in caplog.text
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("name", ["zero2"])
def test_a_checkpoint_of_zero_is_refused_by_a_run_without(runs, name, load_on_one_rank):
    with pytest.raises(UserError, match="zero_stage 2, this run has 0"):
        load_on_one_rank(runs / f"{name}-2", 0)


def test_a_checkpoint_that_is_divided_in_other_ways_is_refused(few, tmp_path):
    from headrace.training.resharding import SavedShards

    folder = next((few / "zero2-2").glob("step-*")) / "state"
    with pytest.raises(UserError, match="2 optimizer files of 3 ranks"):
        SavedShards(folder, ranks=3, stage=2)
    copy = tmp_path / "state"
    copy.mkdir()
    for path in folder.iterdir():
        content = torch.load(path, weights_only=False)
        if "optim" in path.name:
            mapping = content["optimizer_state_dict"]["param_slice_mappings"][0]
            mapping.pop(next(iter(mapping)))
        torch.save(content, copy / path.name)
    with pytest.raises(UserError, match=r"parts of .* are missing or there twice"):
        SavedShards(copy, ranks=2, stage=2)


def test_weights_in_another_order_than_deepspeed_says_are_noticed(few):
    from headrace.training.resharding import Flat, Piece, SavedShards

    folder = next((few / "zero2-2").glob("step-*")) / "state"
    saved = SavedShards(folder, ranks=2, stage=2)
    one, other = (f"bert.encoder.layer.0.attention.self.{part}.weight" for part in ("key", "value"))
    flat = Flat(0, 32 * 32, [Piece(one, 0, 0, 32 * 32)])
    key = saved.fill(flat, "weights")
    assert key.shape == (32 * 32,)
    saved.parameters[one] = saved.parameters[other]
    with pytest.raises(HeadraceError, match="lie in another order"):
        saved.fill(flat, "weights")


@given(
    numels=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    ranks=st.integers(1, 7),
    others=st.integers(1, 7),
)
def test_what_is_cut_up_for_some_ranks_is_read_whole_by_others(numels, ranks, others):
    from headrace.training.resharding import SavedParameter, _cut_up

    whole = {str(n): torch.randn(numel) for n, numel in enumerate(numels)}
    sizes = {name: tensor.numel() for name, tensor in whole.items()}
    saved = {name: SavedParameter() for name in whole}
    for rank in range(ranks):
        flat = torch.full((sum(-(-numel // ranks) for numel in numels),), math.nan)
        pieces = _cut_up(sizes, rank, ranks)
        for piece in pieces:
            part = whole[piece.name][piece.start : piece.start + piece.numel]
            flat[piece.offset : piece.offset + piece.numel] = part
        for piece in pieces:
            saved[piece.name].pieces.append((piece, {"weights": flat}))
    assert {name: item.numel for name, item in saved.items()} == sizes
    again = {name: [] for name in whole}
    for rank in range(others):
        for piece in _cut_up(sizes, rank, others):
            again[piece.name].append(saved[piece.name].read("weights", piece.start, piece.numel))
    assert all(torch.equal(torch.cat(again[name]), whole[name]) for name in whole)


def test_a_run_may_divide_its_batches_otherwise_but_not_change_them(small_corpus, tmp_path):
    from headrace.training.same_run import check_same_run

    output = tmp_path / "out"
    path = small_corpus.write_config(
        tmp_path / "run.json",
        output,
        **{"train_batch_size": 12, "train_micro_batch_size_per_gpu": 6, STAGE: 1},
    )
    output.mkdir()
    (output / "config.json").write_text(json.dumps(load_run_config(path).resolved()))
    others = ["train_micro_batch_size_per_gpu=2", "gradient_accumulation_steps=2", f"{STAGE}=3"]
    check_same_run(load_run_config(path, others))
    with pytest.raises(ConfigError, match="train_batch_size"):
        check_same_run(load_run_config(path, ["train_batch_size=24"]))
    with pytest.raises(ConfigError, match=r"zero_optimization\.overlap_comm"):
        check_same_run(load_run_config(path, ["zero_optimization.overlap_comm=false"]))
