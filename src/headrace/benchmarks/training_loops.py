"""One epoch of our loop, and of the loop that anybody would write, with the time it takes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, TypeVar
from unittest import mock

import torch

from headrace.benchmarks.training_setup import (
    LEARNING_RATE,
    LOG_EVERY,
    MAX_GRADIENT_NORM,
    WEIGHT_DECAY,
    Setup,
)
from headrace.config.checkpoint import CheckpointConfig
from headrace.stream.feistel import derive_key
from headrace.stream.loader import Prefetcher
from headrace.tasks.task import IGNORED
from headrace.training.callbacks import Callback, Callbacks, Record
from headrace.training.checkpoints import Checkpoints
from headrace.training.distributed import World
from headrace.training.engine import open_engine
from headrace.training.loggers.metrics_file import MetricsFile
from headrace.training.loggers.tensorboard import TensorBoard
from headrace.training.loop import BranchTrainer
from headrace.training.param_groups import groups_of_branch
from headrace.training.precision import choose_precision
from headrace.training.schedules import learning_rate_factor
from headrace.training.signals import StopFlag

Item = TypeVar("Item")


@dataclass(frozen=True)
class Run:
    """One epoch; times and tokens are those of all steps but the first."""

    steps: int
    seconds: float
    cpu_seconds: float
    """Of all threads of the process: what else runs on the machine hardly shows in it."""
    real_tokens: int
    padding_share: float
    """Over the whole epoch."""
    losses: list[float] = field(default_factory=list)
    """Of every step, the first too; empty where they are not comparable."""
    data_wait: float = 0.0
    """Seconds in which the loop waited for a batch."""
    step_cpu_seconds: list[float] = field(default_factory=list)
    """``cpu_seconds`` step by step; empty where steps are not comparable."""


class StepClock:
    """A callback that takes the time from the end of the first step to the end of the last."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.seconds: list[float] = []
        """Wall time at the end of each step."""
        self.cpu_seconds: list[float] = []
        """CPU time of the process at the end of each step."""

    def on_start(self, record: Record, first_step: int) -> None:
        """Nothing to do: the first step is not timed."""

    def on_step(self, record: Record, *, logged: bool) -> None:
        """Take the time; this callback is the last, so that the writing of logs is in it."""
        self.losses.append(record["loss"])
        self.seconds.append(time.perf_counter())
        self.cpu_seconds.append(time.process_time())

    def on_validation(self, record: Record) -> None:
        """Nothing to do: there is no validation."""

    def close(self) -> None:
        """Nothing to close."""


class TimedPrefetcher(Prefetcher[Item]):
    """The prefetcher of a run that adds up how long it is waited for."""

    waits: list[float]

    def __iter__(self) -> TimedPrefetcher[Item]:
        self.waits = []
        return self

    def __next__(self) -> Item:
        started = time.perf_counter()
        item = super().__next__()
        self.waits.append(time.perf_counter() - started)
        return item


def headrace_run(setup: Setup, world: World, numbers: Iterator[int], *, zero_stage: int) -> Run:
    """Train for one epoch as a run does, with engine, prefetching, metrics file and TensorBoard.

    There is no validation and no checkpoint within the time.
    """
    config = setup.config(f"run-{next(numbers)}", zero_stage)
    precision = choose_precision("config", config.deepspeed, world.device)
    branch, clock = setup.branch, StepClock()
    model = setup.new_model()
    groups = groups_of_branch(model, config, branch)
    logs: list[Callback] = []
    if world.is_main:
        metrics = MetricsFile(config.output / "metrics.jsonl")
        logs = [metrics, TensorBoard(config.output / "tensorboard")]
    prefetchers: list[TimedPrefetcher[Any]] = []

    def timed(*arguments: Any) -> TimedPrefetcher[Any]:
        prefetchers.append(TimedPrefetcher(*arguments))
        return prefetchers[0]

    with (
        open_engine(model, groups, config, world, precision) as engine,
        Callbacks([*logs, clock]) as callbacks,
        mock.patch("headrace.training.loop.Prefetcher", timed),
    ):
        never = CheckpointConfig(every_steps=setup.steps)
        checkpoints = Checkpoints(config.output / "checkpoints", world, never)
        trainer = BranchTrainer(
            engine=engine,
            groups=groups,
            branch=branch,
            task=setup.data.opened.task,
            world=world,
            seed=setup.settings.seed,
            plan=setup.plan,
            batches=setup.batch_maker(),
            total_steps=setup.steps,
            checkpoints=checkpoints,
            log_every=LOG_EVERY,
            callbacks=callbacks,
            stop_flag=StopFlag(),
        )
        trainer.fit(
            {
                "kind": "start",
                "stage": branch.stage.name,
                "branch": branch.name,
                "step": 0,
                "steps": setup.steps,
            }
        )
    checkpoints.end()
    return Run(
        steps=setup.steps - 1,
        seconds=clock.seconds[-1] - clock.seconds[0],
        cpu_seconds=clock.cpu_seconds[-1] - clock.cpu_seconds[0],
        real_tokens=sum(batch.real_tokens for batch in setup.batches[1:]),
        padding_share=_padding_share(setup),
        losses=clock.losses,
        data_wait=sum(prefetchers[0].waits[1:]),
        step_cpu_seconds=[end - start for start, end in pairwise(clock.cpu_seconds)],
    )


def bare_run(setup: Setup) -> Run:
    """Train for one epoch without DeepSpeed and without Headrace, on batches that are ready.

    Each step draws the dropout masks of ours, so that the losses can be compared; setting the
    seed for that is not timed.  With several ranks it is PyTorch's DistributedDataParallel.
    """
    branch, steps, batches, world = setup.branch, setup.steps, setup.batches, setup.world
    model = setup.new_model().train().to(world.device)
    optimizer = _bare_optimizer(model)
    network: torch.nn.Module = model
    if world.size > 1:
        network = torch.nn.parallel.DistributedDataParallel(model)
    bf16 = torch.autocast(world.device.type, torch.bfloat16, enabled=setup.precision == "bf16")
    losses, step_cpu_seconds = [], []
    seconds = 0.0
    for step in range(steps):
        torch.manual_seed(
            derive_key("dropout", setup.settings.seed, branch.title, step, world.rank)
        )
        started = (time.perf_counter(), time.process_time())
        (tensors,) = batches[step].micro_batches
        inputs = {name: tensor.to(world.device) for name, tensor in tensors.items()}
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * learning_rate_factor(branch.schedule, step, steps)
        with bf16:
            loss = _bare_loss_sum(setup, network, inputs)
        loss = loss * (world.size / batches[step].labelled_tokens)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRADIENT_NORM)
        optimizer.step()
        optimizer.zero_grad()
        whole = loss.detach() / world.size
        if world.size > 1:
            torch.distributed.all_reduce(whole)
        losses.append(whole.item())
        if step > 0:
            seconds += time.perf_counter() - started[0]
            step_cpu_seconds.append(time.process_time() - started[1])
    return Run(
        steps=steps - 1,
        seconds=seconds,
        cpu_seconds=sum(step_cpu_seconds),
        real_tokens=sum(batch.real_tokens for batch in batches[1:]),
        padding_share=_padding_share(setup),
        losses=losses,
        step_cpu_seconds=step_cpu_seconds,
    )


def _bare_optimizer(model: torch.nn.Module) -> torch.optim.Optimizer:
    decay: list[torch.nn.Parameter] = []
    no_decay: list[torch.nn.Parameter] = []
    for name, parameter in model.named_parameters():
        exempt = "bias" in name or "norm" in name.lower()
        (no_decay if exempt else decay).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": decay, "weight_decay": WEIGHT_DECAY},
            {"params": no_decay, "weight_decay": 0.0},
        ],
        fused=True,
    )


def _bare_loss_sum(
    setup: Setup, network: torch.nn.Module, inputs: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    """The summed loss over a rank's labels.

    A masked token is 1 of 7: the head is computed at these alone, as ours does, so that the loops
    are compared and not the losses.
    """
    if setup.settings.task == "masked_lm":
        return setup.data.opened.task.loss_sum(network, inputs, training=True)[0]
    logits = network(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), inputs["labels"].flatten(), ignore_index=IGNORED, reduction="sum"
    )


def _padding_share(setup: Setup) -> float:
    """Of all ranks; a collective."""
    computed = torch.tensor(sum(batch.computed_tokens for batch in setup.batches))
    computed = computed.to(setup.world.device)
    if setup.world.size > 1:
        torch.distributed.all_reduce(computed)
    return 1 - sum(batch.real_tokens for batch in setup.batches) / int(computed)
