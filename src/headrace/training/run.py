"""A whole run: every check first, then stage after stage, then the results."""

from __future__ import annotations

import gc
import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from filelock import FileLock, Timeout
from transformers import PreTrainedModel

from headrace.config import RunConfig
from headrace.config.checks import batch_arithmetic
from headrace.encoding.report import render_table
from headrace.errors import ConfigError, Problem, StopRequested, UserError
from headrace.stream.batching import Batches
from headrace.stream.feistel import derive_key
from headrace.stream.grouping import PackPlan
from headrace.training.anchors import check_held, check_precision, what_is_held
from headrace.training.anomalies import Anomalies
from headrace.training.anomaly_log import AnomalyLog, sample_names
from headrace.training.attention import attention_facts
from headrace.training.callbacks import Callbacks
from headrace.training.checkpoints import Checkpoints
from headrace.training.data import (
    BatchMaker,
    OpenedData,
    RunData,
    open_data,
    plan_batches,
)
from headrace.training.distributed import (
    World,
    barrier,
    failing_together,
    gather_json,
    leave_hangs_to_the_watch,
    process_group,
)
from headrace.training.encoding import encode_watched
from headrace.training.engine import deepspeed_section, open_engine
from headrace.training.export import finish_interrupted_export, write_export
from headrace.training.flops import network_flops, peak_flops
from headrace.training.loggers.logged_run import LoggedRun
from headrace.training.loggers.registry import check_loggers, make_loggers
from headrace.training.loggers.secrets import without_secrets
from headrace.training.loop import BranchTrainer
from headrace.training.model import build_model, check_attention, check_length, empty_model
from headrace.training.offload import check_offload
from headrace.training.order import problems_of_orders
from headrace.training.packed_inputs import PackedInputs, check_packing
from headrace.training.param_groups import check_groups, groups_of_branch
from headrace.training.penalty import Penalty
from headrace.training.precision import Precision, choose_precision, least_capability
from headrace.training.progress import Progress
from headrace.training.quarantine import agree_on_quarantine, read_quarantine
from headrace.training.results import collect_results, environment, write_json
from headrace.training.same_run import check_same_run, report_changes
from headrace.training.selection import choose_samples, write_note
from headrace.training.signals import StopFlag
from headrace.training.stages import Branch, choose_branches, expand_stages
from headrace.training.starts import check_start_folders, problems_of_saved_models
from headrace.training.throughput import Meter
from headrace.training.watch.job import Job, watched_job
from headrace.training.watch.stragglers import Pace, Stragglers
from headrace.training.withheld import Gradients

logger = logging.getLogger(__name__)


def train(config: RunConfig, *, stage: str | None = None, branch: str | None = None) -> None:
    """Train the stages of a config that are not complete yet.

    Args:
        config: checked run config.
        stage: only this stage.
        branch: only this branch (a language of a ``for_each`` stage).

    Raises:
        UserError: for everything that is wrong with the input, before any training.
        StopRequested: after a stop signal, with a checkpoint saved.
    """
    with StopFlag() as stop_flag, process_group() as world:
        with failing_together(world):
            chosen = choose_branches(expand_stages(config), stage, branch)
        train_in_group(config, chosen, world, stop_flag)


def train_in_group(
    config: RunConfig, chosen: list[Branch], world: World, stop_flag: StopFlag
) -> None:
    """Train branches in a process group that exists; several runs can follow each other in it."""
    with failing_together(world):
        opened, _ = check_run(config, chosen, world.size)
        check_attention(config.headrace.model, world.device)
        check_offload(config.deepspeed)
        if config.headrace.batching.type == "packed" and world.is_main:
            check_packing(config.headrace, opened.task, opened.tokenizer)
    lowest = least_capability(world)
    with failing_together(world):
        precision = choose_precision(
            config.headrace.precision, config.deepspeed, world.device, lowest
        )
        check_precision(chosen, config, precision)
    with watched_job(config.output, config.headrace.watch, world) as job:
        _train_watched(config, chosen, opened, precision, world, stop_flag, job)


def _train_watched(
    config: RunConfig,
    chosen: list[Branch],
    opened: OpenedData,
    precision: Precision,
    world: World,
    stop_flag: StopFlag,
    job: Job,
) -> None:
    """Prepare the data and train branch after branch, once the first checks are made."""
    job.activity.enter("choosing samples", endless=True)
    opened = choose_samples(config, chosen, opened, world, stop_flag)
    with failing_together(world):
        left_out = read_quarantine(config.output)
    data = encode_watched(opened, config, left_out, world, stop_flag, job)
    job.activity.enter("agreeing on the data")
    data = agree_on_quarantine(config, data, left_out, world)
    with failing_together(world):
        # only now: a config that the data refuses leaves no trace and can be corrected
        if world.is_main:
            report_changes(config)
            write_json(config.output / "config.json", config.resolved())
            write_note(config, opened)
    if world.is_main:
        logger.info("run folder: %s", config.output)
        logger.info("precision: %s (%s)", precision.name, precision.reason)
        report_truncation(data)
    for branch in chosen:
        if any(gather_json(stop_flag.received is not None, world)):
            raise StopRequested(
                f"stopped by a signal before {branch.title}, start the same command again to go on"
            )
        if not is_complete(branch, world):
            with only_here(branch, world):
                # another job may have finished it while this one waited for the lock
                if not is_complete(branch, world):
                    with job.activity.training(branch.title):
                        train_branch(config, branch, data, world, precision, stop_flag, job)
            gc.collect()  # the engine is in reference cycles: free it before the next one is made
        elif world.is_main:
            logger.info("%s is complete: %s", branch.title, branch.folder)
        job.activity.enter("collecting results", slow=True)
        Checkpoints(branch.folder / "checkpoints", world, config.headrace.checkpoint).end()
        if world.is_main:
            collect_results(
                config.name,
                config.output,
                expand_stages(config),
                task=opened.task,
                environment_facts=environment(world.size, world.device),
            )
        barrier(world)


def check_run(
    config: RunConfig, chosen: list[Branch], ranks: int
) -> tuple[OpenedData, PreTrainedModel]:
    """Make every check that comes before encoding and devices, for a start and for a dry run.

    Returns:
        The opened data, and the network without memory for its weights.

    Raises:
        UserError: with the problems of batch size, run folder, stages, data, tokenizer and labels;
            of the network, if these are in order.
    """
    problems: list[Problem] = []
    opened: OpenedData | None = None
    try:
        check_loggers(config.headrace.logging)
    except UserError as error:
        problems += error.problems
    try:
        batch_arithmetic(config.deepspeed, ranks)
    except UserError as error:
        problems += error.problems
    try:
        check_same_run(config)
        check_start_folders(chosen)
    except UserError as error:
        problems += error.problems
    try:
        opened = open_data(config)
        problems += problems_of_saved_models(config, chosen, opened.task)
        problems += problems_of_orders(config, filter(opened.is_known, chosen), opened.plan)
    except UserError as error:
        problems += error.problems
    if problems or opened is None:
        raise UserError(problems)
    network = empty_model(config.headrace.model, opened.task, opened.tokenizer)
    check_length(config.headrace.task.max_length, network.config)
    if found := opened.task.problems_of_network(network.config):
        raise ConfigError(found)
    if config.headrace.batching.type == "packed":
        PackedInputs(network)
    check_groups(network, config, chosen)
    check_held(network, config, opened, chosen)
    return opened, network


def is_complete(branch: Branch, world: World) -> bool:
    """Whether a branch has its result; one answer for all ranks, that of the main rank."""
    return bool(gather_json(world.is_main and branch.result_file.exists(), world)[0])


@contextmanager
def only_here(branch: Branch, world: World) -> Iterator[None]:
    """Keep other jobs from training the same branch at the same time.

    The lock belongs to the process: a killed job does not hold it.

    Raises:
        ConfigError: on every rank, if another job has it.
    """
    lock = FileLock(branch.folder / ".training.lock")
    with failing_together(world):
        if world.is_main:
            branch.folder.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(blocking=False)
            except Timeout:
                raise ConfigError(
                    Problem(
                        f"another process is training {branch.title}",
                        str(branch.folder),
                        remedy="Wait for it, or choose another headrace.output",
                    )
                ) from None
    try:
        yield
    finally:
        if world.is_main:
            lock.release()


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
        trainer = BranchTrainer(
            engine=engine,
            groups=groups,
            frozen=frozen,
            branch=branch,
            task=opened.task,
            world=world,
            seed=headrace.seed,
            plan=plan,
            batches=batches,
            validation={
                language: data.validation[language]
                for language in branch.languages
                if language in data.validation
            },
            total_steps=steps,
            checkpoints=checkpoints,
            log_every=headrace.logging.every_steps,
            callbacks=callbacks,
            stop_flag=stop_flag,
            export=export,
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


def report_truncation(data: RunData) -> None:
    """Log what the encoding cut off, by language; silent only where nothing was lost."""
    rows = [
        (f"{language} {split}", source.report)
        for split, sources in (("train", data.train), ("validation", data.validation))
        for language, source in sources.items()
        if not source.report.is_complete
    ]
    if rows:
        logger.warning("lost in encoding (raise headrace.task.max_length to keep it):")
        logger.warning("%s", render_table(rows))


def _digest(value: Any) -> str:
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=8).hexdigest()
