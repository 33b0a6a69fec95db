"""Penalties on two ranks, at every ZeRO stage and precision, against plain PyTorch."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from headrace.config import load_run_config
from headrace.training.data import BatchMaker, encode_data, open_data, plan_batches
from headrace.training.layers import head_parameters
from headrace.training.model import build_model
from headrace.training.run import train_in_group
from headrace.training.stages import expand_stages

WORKER = Path(__file__).parent / "workers" / "penalised_steps.py"

pytestmark = pytest.mark.slow

STEPS = 4
WEIGHT = 3.0
RATE = 0.05
CLIP = 0.25
"""Below the norm of the gradients: every step is clipped."""
NETWORK = {
    "model_type": "bert", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 64, "max_position_embeddings": 64, "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}  # fmt: skip
SGD = {"type": "SGD", "params": {"lr": RATE, "momentum": 0.9, "weight_decay": 0.01}}
PLAIN_SGD = {"type": "SGD", "params": {"lr": RATE, "weight_decay": 0.0}}
ADAM = {"type": "AdamW", "params": {"lr": 1e-3, "weight_decay": 0.01}}
PRECISIONS = {
    "bf16": {"bf16.enabled": True},
    "bf16-fp32": {"bf16.enabled": True, "data_types.grad_accum_dtype": "fp32"},
    "fp16": {"fp16.enabled": True, "fp16.loss_scale": 0, "fp16.initial_scale_power": 10},
}
SIXTEEN = ["bf16-zero0", "bf16-zero2", "bf16-fp32-zero3", "fp16-zero1", "fp16-zero3"]
MORE_SIXTEEN = ["bf16-zero1", "bf16-zero3", "bf16-fp32-zero2", "fp16-zero2"]
FISHER = Path("first", "all", "fisher-21.safetensors")
STAGES = [
    {"name": "first", "languages": ["en"], "max_steps": 3, "keep_best": "last"},
    {
        "name": "second", "languages": ["hi"], "start_from": "first", "max_steps": 4,
        "keep_best": "last", "penalty": {"type": "ewc", "weight": 1e4, "samples": 21},
    },
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("penalties")


@pytest.fixture(scope="module")
def plain(small_corpus, folder):
    """The config in fp32 with its data, and what is held: other weights than those of the start."""
    path = write_config(small_corpus, folder, "plain")
    config = load_run_config(path)
    data = encode_data(open_data(config), config)
    model = fresh_model(config, data)
    random = torch.Generator().manual_seed(5)
    held, head = {}, head_parameters(model)
    for name, value in model.named_parameters():
        if name not in head:
            noise = torch.randn(value.shape, generator=random)
            held[f"anchor.{name}"] = value.detach() + 0.02 * noise
            held[f"importance.{name}"] = torch.rand(value.shape, generator=random) ** 2
    save_file(held, folder / "ewc.safetensors")
    save_file(
        {name: value for name, value in held.items() if name.startswith("anchor.")},
        folder / "l2_sp.safetensors",
    )
    return config, data


class Never:
    """No signal arrives."""

    received = None
    asked = False


def write_run(small_corpus, folder, name, **changes):
    """A run of two stages, the second with EWC."""
    changes = {"headrace.model.config": NETWORK, "headrace.stages": STAGES, **changes}
    return small_corpus.write_config(folder / f"{name}.json", folder / name, **changes)


def write_config(small_corpus, folder, name, **changes):
    return small_corpus.write_config(
        folder / f"{name}.json", folder / name,
        **{"optimizer": SGD, "gradient_clipping": CLIP, "zero_allow_untested_optimizer": True,
           "headrace.model.config": NETWORK, "headrace.schedule": {"type": "constant"},
           "train_micro_batch_size_per_gpu": 4, **changes},
    )  # fmt: skip


class Jobs:
    """Runs on two ranks that are gathered first, and done in one launch."""

    def __init__(self, small_corpus, folder):
        self.corpus, self.folder, self.jobs = small_corpus, folder, []

    def steps(self, name, held, steps=STEPS, weight=WEIGHT, **changes):
        """Some steps with what is held."""
        path = write_config(self.corpus, self.folder, name, **changes)
        self.jobs.append(
            {"config": str(path), "held": held and str(self.folder / f"{held}.safetensors"),
             "weight": weight, "steps": steps, "output": str(self.folder / name)}
        )  # fmt: skip

    def step_in_16_bits(self, name):
        """One step with a penalty, and the same without."""
        precision, _, zero = name.rpartition("-zero")
        changes = {**PRECISIONS[precision], "zero_optimization.stage": int(zero)}
        changes |= {"gradient_clipping": 0.0, "optimizer": PLAIN_SGD}
        self.steps(name, "ewc", steps=1, **changes)
        self.steps(f"{name}-free", None, steps=1, **changes)

    def run(self, name, zero, stop_after=None):
        """A whole run of two stages, that is stopped by looking at it so often."""
        path = write_run(self.corpus, self.folder, name, **{"zero_optimization.stage": zero})
        self.jobs.append({"config": str(path), "stop_after": stop_after})

    def launch(self, launcher, file):
        """Do them all; the results are in the folder."""
        file.write_text(json.dumps(self.jobs))
        done = launcher.run(WORKER, str(file))
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.fixture(scope="module")
def alone(small_corpus, folder, world):
    """A run of two stages in one process, without ZeRO."""
    config = load_run_config(write_run(small_corpus, folder, "alone"))
    train_in_group(config, expand_stages(config), world, Never())
    return config.output


@pytest.fixture(scope="module")
def launched(small_corpus, plain, alone, folder, launcher):
    """The folder with the results of all runs but the extended ones."""
    jobs = Jobs(small_corpus, folder)
    for zero in range(4):
        jobs.steps(f"ewc-zero{zero}", "ewc", **{"zero_optimization.stage": zero})
    jobs.steps("l2_sp-zero1", "l2_sp", **{"zero_optimization.stage": 1})
    jobs.steps("adam-zero3", "ewc", **{"zero_optimization.stage": 3, "optimizer": ADAM})
    for name in SIXTEEN:
        jobs.step_in_16_bits(name)
    for zero in (2, 3):
        jobs.run(f"zero{zero}", zero)
        jobs.run(f"zero{zero}-stopped", zero, stop_after=7)
    # a first stage that one process trained, with its Fisher information
    shutil.copytree(alone / "first", folder / "taken-over" / "first")
    jobs.run("taken-over", 0)
    jobs.launch(launcher, folder / "jobs.json")
    return folder


@pytest.fixture(scope="module")
def launched_more(small_corpus, plain, folder, launcher):
    """The same for the extended ones."""
    jobs = Jobs(small_corpus, folder)
    for name in MORE_SIXTEEN:
        jobs.step_in_16_bits(name)
    for zero in (1, 3):
        changes = {**PRECISIONS["fp16"], "zero_optimization.stage": zero, "optimizer": PLAIN_SGD}
        jobs.steps(f"overflow-zero{zero}", "ewc", steps=3, weight=1e7, **changes)
    jobs.launch(launcher, folder / "more_jobs.json")
    return folder


def result(folder, name):
    """Weights after the steps, and the logs of both ranks."""
    logs = [json.loads((folder / f"{name}-rank{rank}.json").read_text()) for rank in range(2)]
    return load_file(folder / f"{name}.safetensors"), logs


def fresh_model(config, data):
    opened = data.opened
    return build_model(config.headrace.model, opened.task, opened.tokenizer, seed=11)


def bare_loop(config, data, held, optimizer):
    """What anybody would write: one process, the penalty in the loss, the mean loss of the batch.

    Returns the weights after the steps, and of each step the penalty and the norm.
    """
    branch = expand_stages(config)[0]
    batches = BatchMaker(
        data, plan_batches(config, branch, data), branch,
        rank=0, world_size=1, micro_batch_size=16, accumulation=1,
    )  # fmt: skip
    model = fresh_model(config, data).train()
    named = dict(model.named_parameters())
    plain = [p for n, p in named.items() if "bias" not in n and "norm" not in n.lower()]
    exempt = [p for n, p in named.items() if "bias" in n or "norm" in n.lower()]
    groups = [{"params": plain}, {"params": exempt, "weight_decay": 0.0}]
    settings = dict(optimizer["params"])
    make = {"SGD": torch.optim.SGD, "AdamW": torch.optim.AdamW}[optimizer["type"]]
    stepper = make(groups, **settings)
    log = []
    for step in range(STEPS):
        (batch,) = batches.make(step).micro_batches
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten())
        penalty = 0.0
        for name, value in named.items():
            if f"anchor.{name}" in held:
                importance = held.get(f"importance.{name}", torch.ones(()))
                distance = value - held[f"anchor.{name}"]
                penalty = penalty + 0.5 * WEIGHT * (importance * distance**2).sum()
        (loss + penalty).backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        stepper.step()
        stepper.zero_grad()
        log.append({"penalty": penalty.item(), "norm": norm.item()})
    return {name: value.detach() for name, value in named.items()}, log


def furthest(one, other):
    return max((one[name] - other[name]).abs().max().item() for name in other)


@pytest.mark.parametrize(
    ("kind", "zero"), [("ewc", 0), ("ewc", 1), ("ewc", 2), ("ewc", 3), ("l2_sp", 1)]
)
def test_steps_equal_those_of_plain_pytorch_with_the_penalty_in_the_loss(
    launched, plain, kind, zero
):
    """SGD moves by the gradient: weights differ by rounding where gradients do."""
    config, data = plain
    held = load_file(launched / f"{kind}.safetensors")
    expected, log = bare_loop(config, data, held, SGD)
    found, (main, second) = result(launched, f"{kind}-zero{zero}")
    start = {name: value.detach() for name, value in fresh_model(config, data).named_parameters()}
    assert furthest(start, expected) > 1e-3
    assert furthest(found, expected) < 1e-6
    for step in range(STEPS):
        together = main[step]["penalty"] + second[step]["penalty"]
        assert together == pytest.approx(log[step]["penalty"], rel=1e-5)
        assert log[step]["norm"] > 2 * CLIP
        if zero:
            assert main[step]["norm"] == pytest.approx(log[step]["norm"], rel=1e-5)


def test_steps_of_adamw_equal_those_of_plain_pytorch(launched, plain):
    config, data = plain
    expected, _ = bare_loop(config, data, load_file(launched / "ewc.safetensors"), ADAM)
    assert furthest(result(launched, "adam-zero3")[0], expected) < 2e-5


@pytest.mark.parametrize("name", SIXTEEN)
def test_in_16_bits_the_penalty_moves_the_full_precision_weights(launched, plain, name):
    check_16_bits(launched, *plain, name)


@pytest.mark.extended
@pytest.mark.parametrize("name", MORE_SIXTEEN)
def test_it_does_so_at_the_other_stages(launched_more, plain, name):
    check_16_bits(launched_more, *plain, name)


@pytest.mark.extended
@pytest.mark.parametrize("zero", [1, 3])
def test_a_penalty_beyond_fp16_is_an_overflow_like_any_other(launched_more, plain, zero):
    """The step is skipped on both ranks, and no weight moves."""
    found, logs = result(launched_more, f"overflow-zero{zero}")
    assert logs[0][0]["skipped"] == logs[1][0]["skipped"] == 1
    for parameter, value in fresh_model(*plain).named_parameters():
        assert torch.equal(found[parameter], value.detach().half().float())


def check_16_bits(folder, config, data, name):
    """One step with it and one without: the difference is its gradient, but for rounding.

    The sum of both gradients is rounded to 16 bits, unless they are accumulated in 32.
    """
    held = load_file(folder / "ewc.safetensors")
    found, logs = result(folder, name)
    free, _ = result(folder, f"{name}-free")
    assert all(step["skipped"] == 0 for log in logs for step in log)
    digits = {"bf16": 2**-8, "fp16": 2**-10, "bf16-fp32": 1e-6}[name.rpartition("-zero")[0]]
    dtype = torch.float16 if name.startswith("fp16") else torch.bfloat16
    for parameter, value in fresh_model(config, data).named_parameters():
        value = value.detach().to(dtype).float()  # where the engine starts
        moved = free[parameter] - found[parameter]
        if f"anchor.{parameter}" not in held:
            assert not moved.any()
            continue
        gradient = (value - free[parameter]).abs() / RATE
        force = WEIGHT * held[f"importance.{parameter}"] * (
            value - held[f"anchor.{parameter}"]
        )  # fmt: skip
        allowed = digits * (gradient + 2 * force.abs()) + 2e-6 / RATE
        assert ((moved / RATE - force).abs() <= allowed).all(), parameter


def lines_of(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
    return [line for line in lines if line["kind"] == "train" and line["stage"] == "second"]


def exported(folder):
    return load_file(folder / "second" / "all" / "export" / "model.safetensors")


@pytest.mark.parametrize("zero", [2, 3])
def test_a_stop_changes_no_loss_no_penalty_and_no_weight(launched, zero):
    whole, stopped = launched / f"zero{zero}", launched / f"zero{zero}-stopped"
    for key in ("loss", "penalty"):
        assert [line[key] for line in lines_of(whole)] == [line[key] for line in lines_of(stopped)]
    once, again = exported(whole), exported(stopped)
    assert all(torch.equal(once[name], again[name]) for name in once)


@pytest.mark.parametrize("name", ["zero2", "zero3", "taken-over"])
def test_ranks_and_zero_stages_measure_and_learn_the_same_as_one_process(launched, alone, name):
    plain, found = load_file(alone / FISHER), load_file(launched / name / FISHER)
    assert plain.keys() == found.keys()
    for key, value in plain.items():
        # the bias of an attention's keys has a gradient of 0, of which rounding is left
        assert (found[key] - value).norm() <= 2e-3 * value.norm() + 1e-12
    if name == "taken-over":
        assert (launched / name / FISHER).read_bytes() == (alone / FISHER).read_bytes()
    ours, theirs = lines_of(launched / name), lines_of(alone)
    assert len(ours) == 4
    for mine, other in zip(ours, theirs, strict=True):
        assert mine["loss"] == pytest.approx(other["loss"], rel=1e-4)
        assert mine["penalty"] == pytest.approx(other["penalty"], rel=1e-4)
    assert ours[-1]["penalty"] > 0
