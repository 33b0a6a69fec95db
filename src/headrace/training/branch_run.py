"""One branch of a run: from its data and its config to the trained model and its result."""

from __future__ import annotations

import hashlib
import json
import logging
from typing import Any

import torch

from headrace.config import RunConfig
from headrace.stream.batching import Batches
from headrace.stream.feistel import derive_key
from headrace.stream.grouping import PackPlan
from headrace.training.anchors import what_is_held
from headrace.training.anomalies import Anomalies
from headrace.training.anomaly_log import AnomalyLog, sample_names
from headrace.training.attention import attention_facts
from headrace.training.callbacks import Callbacks
from headrace.training.checkpoints import Checkpoints
from headrace.training.data import (
    BatchMaker,
    RunData,
    plan_batches,
)
from headrace.training.distributed import (
    World,
    barrier,
    failing_together,
    leave_hangs_to_the_watch,
)
from headrace.training.engine import deepspeed_section, open_engine
from headrace.training.epoch_end import EpochEnd
from headrace.training.export import finish_interrupted_export, write_export
from headrace.training.flops import network_flops, peak_flops
from headrace.training.loggers.logged_run import LoggedRun
from headrace.training.loggers.registry import make_loggers
from headrace.training.loggers.secrets import without_secrets
from headrace.training.loop import BranchTrainer
from headrace.training.model import build_model
from headrace.training.packed_inputs import PackedInputs
from headrace.training.param_groups import groups_of_branch
from headrace.training.penalty import Penalty
from headrace.training.precision import Precision
from headrace.training.progress import Progress
from headrace.training.results import environment, write_json
from headrace.training.signals import StopFlag
from headrace.training.stages import Branch
from headrace.training.takedowns import FILE as REMOVED_FILE
from headrace.training.takedowns import Takedowns, removed_facts
from headrace.training.throughput import Meter
from headrace.training.watch.job import Job
from headrace.training.watch.stragglers import Pace, Stragglers
from headrace.training.withheld import Gradients

logger = logging.getLogger(__name__)


def train_branch(
    config: RunConfig,
    branch: Branch,
    data: RunData,
    world: World,
    precision: Precision,
    stop_flag: StopFlag,
    job: Job,
) -> None:
    """Train one branch and write its export and its result."""
    job.activity.enter("planning batches", slow=True)
    whole, data = data, data.of(branch)
    headrace = config.headrace
    opened = data.opened
    section = deepspeed_section(config, world, precision)
    with failing_together(world):
        plan = plan_batches(config, branch, data)
        steps = total_steps(branch, plan)
    batches = BatchMaker(
        data,
        plan,
        branch,
        rank=world.rank,
        world_size=world.size,
        micro_batch_size=section["train_micro_batch_size_per_gpu"],
        accumulation=section["gradient_accumulation_steps"],
        pin_memory=world.device.type == "cuda",
    )
    if world.is_main:
        finish_interrupted_export(branch.export_folder)
    barrier(world)
    job.activity.enter("making the model", slow=True)
    model = build_model(
        headrace.model,
        opened.task,
        opened.tokenizer,
        seed=derive_key("weights", headrace.seed),
        adapter_seed=derive_key("adapters", headrace.seed, branch.title),
        start_folder=branch.start_folder,
    )
    job.activity.enter("measuring what is held", endless=True)
    held = what_is_held(config, branch, whole, model, world)
    job.activity.enter("making the engine", slow=True)
    pack_inputs = None
    if isinstance(plan, PackPlan):
        pack_inputs = PackedInputs(model, is_causal=opened.task.is_causal)
    groups = groups_of_branch(model, config, branch)
    rounds = world.is_main and precision.name != "fp32"
    frozen = groups.frozen_weights(model) if rounds else {}
    parameters = sum(parameter.numel() for parameter in model.parameters())
    meter = Meter(
        world.device,
        world.size,
        flops=network_flops(model, headrace.task.max_length),
        peak_flops=headrace.logging.peak_flops or peak_flops(world.device, precision.name),
    )
    model_class, model_settings = type(model), model.config

    def export(state: dict[str, torch.Tensor], progress: Progress) -> None:
        with torch.device("meta"):
            shell = model_class(model_settings)
        facts = export_facts(config, branch, data, progress)
        write_export(branch.export_folder, shell, state, opened.tokenizer, facts, opened.task)

    attention = attention_facts(
        model,
        world.device,
        precision.name,
        asked_for=headrace.model.attention,
        is_packed=pack_inputs is not None,
    )
    if world.is_main:
        logger.info("attention: %s", " (".join(attention.values()) + ")")
    start_record = {
        "kind": "start",
        "stage": branch.stage.name,
        "branch": branch.name,
        "step": 0,
        "steps": steps,
        "epochs": branch.stage.epochs,
        "languages": list(branch.languages),
        "mixture": plan.plan.shares,
        "samples_per_epoch": plan.plan.samples_per_epoch,
        "batching": plan.kind,
        "batch_size": section["train_batch_size"],
        "world_size": world.size,
        "zero_stage": config.zero_stage,
        "precision": precision.name,
        **attention,
        "parameters": parameters,
        **removed_facts(data, branch.languages),
        **fingerprints(config, branch, data),
    }
    facts = {
        "config": without_secrets(config.resolved()),
        "environment": environment(world.size, world.device),
    }
    logged = LoggedRun(
        config.name, branch.title, config.output, branch.folder, opened.task.scores, facts
    )
    with (
        open_engine(model, groups, config, world, precision) as engine,
        Callbacks(make_loggers(headrace.logging, logged) if world.is_main else []) as callbacks,
    ):
        checkpoints = Checkpoints(branch.folder / "checkpoints", world, headrace.checkpoint)
        penalty = None if held is None else Penalty(engine, held)
        del held  # whole tensors, of which this rank needs its part alone
        anomalies = Anomalies(headrace.anomalies, scaled=precision.name == "fp16")
        epoch_end = EpochEnd(
            engine=engine,
            frozen=frozen,
            branch=branch,
            task=opened.task,
            world=world,
            plan=plan,
            batches=batches,
            validation={
                language: data.validation[language]
                for language in branch.languages
                if language in data.validation
            },
            total_steps=steps,
            callbacks=callbacks,
            stop_flag=stop_flag,
            export=export,
            activity=job.activity,
        )
        trainer = BranchTrainer(
            engine=engine,
            groups=groups,
            branch=branch,
            task=opened.task,
            world=world,
            seed=headrace.seed,
            plan=plan,
            batches=batches,
            total_steps=steps,
            checkpoints=checkpoints,
            log_every=headrace.logging.every_steps,
            callbacks=callbacks,
            stop_flag=stop_flag,
            epoch_end=epoch_end,
            takedowns=Takedowns(
                {language: opened.train[language] for language in branch.languages},
                branch.folder / REMOVED_FILE,
                world,
            ),
            pack_inputs=pack_inputs,
            penalty=penalty,
            meter=meter,
            anomalies=anomalies,
            anomaly_log=AnomalyLog(branch.folder, world, sample_names(data, branch, plan)),
            gradients=Gradients(engine) if anomalies.needs_gradient_norm else None,
            activity=job.activity,
            pace=Pace(world.device, shares_forward=config.zero_stage == 3),
            stragglers=Stragglers(job.hosts, headrace.watch),
        )
        leave_hangs_to_the_watch()
        progress = trainer.fit(start_record)
    if world.is_main:
        write_json(branch.result_file, branch_result(branch, progress, steps, meter))


def total_steps(branch: Branch, plan: Batches) -> int:
    """Return the optimizer steps of a branch.

    Raises:
        EncodingError: where the steps depend on lengths, and they cannot be counted.
    """
    steps, limit = 0, branch.stage.max_steps
    for epoch in range(branch.stage.epochs):
        steps = plan.steps_before(epoch + 1)
        if limit is not None and steps >= limit:
            return limit  # later epochs need not be counted
    return steps


def branch_result(branch: Branch, progress: Progress, steps: int, meter: Meter) -> dict[str, Any]:
    """Return the entry of ``results.json`` for a finished branch."""
    return {
        "stage": branch.stage.name,
        "branch": branch.name,
        "languages": list(branch.languages),
        "steps": steps,
        "best_step": progress.best_step,
        "validation_loss": progress.best_loss,
        "metrics": progress.best_metrics,
        "throughput": {
            **meter.summary(),
            "padding_share": 1 - progress.real_tokens / max(1, progress.computed_tokens),
            "training_seconds": progress.seconds,
        },
    }


def export_facts(
    config: RunConfig, branch: Branch, data: RunData, progress: Progress
) -> dict[str, Any]:
    """Return what is written beside an exported model."""
    task = data.opened.task
    return {
        "run": config.name,
        "stage": branch.stage.name,
        "branch": branch.name,
        "languages": list(branch.languages),
        "step": progress.best_step,
        "validation_loss": progress.best_loss,
        "metrics": progress.best_metrics,
        "task": task.name,
        **task.facts(),
        "max_length": config.headrace.task.max_length,
        **fingerprints(config, branch, data),
    }


def fingerprints(config: RunConfig, branch: Branch, data: RunData) -> dict[str, str]:
    """Return what tells this config and the training data of this branch from others."""
    sources = [data.train[language].fingerprint for language in branch.languages]
    return {
        "config_fingerprint": _digest(config.resolved()),
        "data_fingerprint": _digest(sources),
    }


def _digest(value: Any) -> str:
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=8).hexdigest()
