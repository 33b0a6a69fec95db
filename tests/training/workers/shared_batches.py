"""Takes the same steps whatever the number of ranks, and writes their losses and gradients.

Arguments: a run config, the folder in which to write a file for each number of ranks, and these.
DeepSpeed reduces no gradients in fp64, so in fp64 a bare engine with the same arithmetic takes its
place; DeepSpeed itself computes in fp32.
"""

import multiprocessing
import os
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import deepspeed  # noqa: F401 (here, before the processes are forked)
import torch
import torch.distributed

from headrace.config import load_run_config
from headrace.stream.batching import BatchPlan
from headrace.stream.grouping import PackPlan, TokenBudgetPlan
from headrace.training.callbacks import Callbacks
from headrace.training.checkpoints import Checkpoints
from headrace.training.data import BatchMaker, encode_data, open_data, token_lengths
from headrace.training.distributed import free_port, process_group
from headrace.training.engine import open_engine
from headrace.training.loop import BranchTrainer
from headrace.training.model import build_model
from headrace.training.packed_inputs import PackedInputs
from headrace.training.param_groups import groups_of_branch
from headrace.training.precision import choose_precision
from headrace.training.signals import StopFlag
from headrace.training.stages import expand_stages

BATCH_SIZE = 11
"""A multiple of no number of ranks; the last batch of the 300 samples has 3."""
TOKENS = 230
PACK_LENGTH = 64
PACKS = 5


def make_plans(data, branch):
    order = data.opened.plan(branch, 3, data.train)
    lengths = token_lengths(data.train[language] for language in branch.languages)
    plans = {
        "samples": BatchPlan(order, lengths, batch_size=BATCH_SIZE),
        "tokens": TokenBudgetPlan(order, lengths, tokens_per_batch=TOKENS),
    }
    if data.opened.task.name == "token_classification":
        plans["packed"] = PackPlan(order, lengths, pack_length=PACK_LENGTH, batch_size=PACKS)
    return plans


class BareEngine:
    """What DeepSpeed does without ZeRO: gradients divided by accumulation steps and by ranks."""

    def __init__(self, model, accumulation, world):
        self.model = self.module = model
        self.accumulation, self.world = accumulation, world
        self.optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        self.calls = 0

    def __call__(self, **inputs):
        return self.model(**inputs)

    def backward(self, loss):
        (loss / self.accumulation).backward()

    def step(self):
        self.calls += 1
        if self.calls % self.accumulation:
            return
        for weights in self.model.parameters():
            if self.world.size > 1:
                torch.distributed.all_reduce(weights.grad)
            weights.grad /= self.world.size
        self.optimizer.step()
        self.optimizer.zero_grad()


@contextmanager
def engine_for(precision, model, groups, config, world, accumulation):
    if precision == "fp64":
        yield BareEngine(model.train(), accumulation, world)
        return
    chosen = choose_precision("config", config.deepspeed, world.device)
    with open_engine(model, groups, config, world, chosen) as engine:
        engine.train()
        yield engine


def take_steps(config, data, branch, plan, precision, accumulation, world):
    """Losses by step, and what each step took off the weights: with SGD, the gradient."""
    opened = data.opened
    model = build_model(config.headrace.model, opened.task, opened.tokenizer, seed=11)
    if precision == "fp64":
        model = model.double()
    packed = PackedInputs(model) if isinstance(plan, PackPlan) else None
    # DeepSpeed counts with these numbers, but looks at no batch
    section = {
        **config.deepspeed, "train_batch_size": world.size * accumulation,
        "train_micro_batch_size_per_gpu": 1, "gradient_accumulation_steps": accumulation,
    }  # fmt: skip
    config = type(config)(section, config.headrace, config.name, config.output)
    batches = BatchMaker(
        data, plan, branch, rank=world.rank, world_size=world.size,
        micro_batch_size=-(-BATCH_SIZE // accumulation), accumulation=accumulation,
    )  # fmt: skip
    groups = groups_of_branch(model, config, replace(branch, learning_rate=1.0))
    with engine_for(precision, model, groups, config, world, accumulation) as engine:
        trainer = BranchTrainer(
            engine=engine, groups=groups, branch=branch, task=opened.task, world=world, seed=3,
            plan=plan, batches=batches, total_steps=3,
            checkpoints=Checkpoints(config.output, world),
            log_every=1, callbacks=Callbacks([]), stop_flag=StopFlag(),
            pack_inputs=packed,
        )  # fmt: skip
        losses, gradients = [], []
        last = plan.steps_before(1) - 1
        for step in (0, 1, last):
            before = flat_weights(model)
            batch = batches.make(step)
            assert len(batch.micro_batches) == accumulation
            losses.append(trainer.train_step(batch)[0].loss)
            gradients.append(before - flat_weights(model))
    return losses, gradients


def flat_weights(model):
    return torch.cat([weights.detach().flatten() for weights in model.parameters()])


def take_all_steps(config_path, world):
    config = load_run_config(config_path)
    data = encode_data(open_data(config), config)
    branch = expand_stages(config)[0]
    return {
        (kind, *how): take_steps(config, data, branch, plan, *how, world)
        for kind, plan in make_plans(data, branch).items()
        for how in (("fp64", 1), ("fp64", 2), ("fp32", 2))
    }


def run_rank(rank, ranks, port, config_path, folder):
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(ranks), MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )  # fmt: skip
    with process_group() as world:
        taken = take_all_steps(config_path, world)
        if world.is_main:
            torch.save(taken, folder / f"{ranks}.pt")


if __name__ == "__main__":
    # processes of their own, forked so that the libraries are imported once
    context = multiprocessing.get_context("fork")
    for ranks in map(int, sys.argv[3:]):
        arguments = (ranks, free_port(), sys.argv[1], Path(sys.argv[2]))
        processes = [context.Process(target=run_rank, args=(i, *arguments)) for i in range(ranks)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        if any(process.exitcode for process in processes):
            sys.exit(f"a rank of {ranks} failed")
