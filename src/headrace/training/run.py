"""A whole run: every check first, then stage after stage, then the results."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout
from transformers import PreTrainedModel

from headrace.config import RunConfig
from headrace.config.checks import batch_arithmetic
from headrace.encoding.report import render_table
from headrace.errors import ConfigError, Problem, StopRequested, UserError
from headrace.training.anchors import check_held, check_precision
from headrace.training.branch_run import train_branch
from headrace.training.checkpoints import Checkpoints
from headrace.training.data import (
    OpenedData,
    RunData,
    open_data,
)
from headrace.training.distributed import (
    World,
    barrier,
    failing_together,
    gather_json,
    process_group,
)
from headrace.training.encoding import encode_watched
from headrace.training.loggers.registry import check_loggers
from headrace.training.model import check_attention, check_length, empty_model
from headrace.training.offload import check_offload
from headrace.training.order import problems_of_orders
from headrace.training.packed_inputs import PackedInputs, check_packing
from headrace.training.param_groups import check_groups
from headrace.training.precision import Precision, choose_precision, least_capability
from headrace.training.quarantine import agree_on_quarantine, read_quarantine
from headrace.training.results import collect_results, environment, write_json
from headrace.training.same_run import check_same_run, report_changes
from headrace.training.selection import choose_samples, write_note
from headrace.training.signals import StopFlag
from headrace.training.stages import Branch, choose_branches, expand_stages
from headrace.training.starts import check_start_folders, problems_of_saved_models
from headrace.training.takedowns import agree_on_removed
from headrace.training.watch.job import Job, watched_job

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
    gc.freeze()  # a collection behind each branch need not go through every imported library
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
    agree_on_removed(data, world)
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
