"""Training one task after the other, and scoring every model on every task.

A sequence is an ordinary run with a stage for each task (:mod:`headrace.forgetting.run_document`),
so its checkpoints, exports and logs are those of any run, and a killed sequence goes on where it
was.  The optimizer is new in each stage, since a stage starts from an export.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash

from headrace.config import RunConfig, load_run_config
from headrace.config.messages import did_you_mean
from headrace.errors import ConfigError, Problem, UserError
from headrace.forgetting.interpolate import interpolate
from headrace.forgetting.matrix import Matrix
from headrace.forgetting.run_document import (
    PLAIN,
    Splits,
    TaskData,
    Treatment,
    other_overrides,
    run_document,
)
from headrace.forgetting.scoring import TaskScore, score_tasks
from headrace.forgetting.shared_stages import SharedStages, what_decides
from headrace.shards.manifest import Manifest
from headrace.shards.reader import ShardReader
from headrace.stream.feistel import derive_key
from headrace.training.data import open_data
from headrace.training.distributed import World, failing_together, gather_json, process_group
from headrace.training.inference import TrainedModel, load_model
from headrace.training.model import build_model
from headrace.training.results import write_json
from headrace.training.run import train_in_group
from headrace.training.signals import StopFlag
from headrace.training.stages import expand_stages

MATRIX_FILE = "matrix.json"
_RUN_FOLDER = "run"
_CONFIG_FILE = "run.json"
_MIXED = "mixed"
_VERSION = 1
BATCH_SIZE = 32
"""Samples that are scored at once."""


@dataclass(frozen=True)
class Group:
    """The process group that sequences are trained in, one after the other."""

    world: World
    stop_flag: StopFlag


@contextmanager
def open_group() -> Iterator[Group]:
    """Join the process group and listen for stop signals, once for any number of sequences."""
    with StopFlag() as stop_flag, process_group() as world:
        yield Group(world, stop_flag)


@dataclass(frozen=True)
class SequencePlan:
    """A sequence that is checked and ready to be trained."""

    order: tuple[str, ...]
    tasks: Mapping[str, TaskData]
    output: Path
    treatment: Treatment
    config: RunConfig
    """Its run config, with the run folder in ``output``."""
    fingerprint: str
    """Of all that decides the matrix."""
    score: str | None = None
    """Score that R is made of; None: the first that the kind of task has."""

    def matrix(self, splits: Splits) -> Matrix | None:
        """R, if it has been computed.

        Raises:
            ConfigError: if it is that of another sequence.
        """
        path = self.output / MATRIX_FILE
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError:
            data = {}
        if data.get("version") != _VERSION or data.get("fingerprint") != self.fingerprint:
            raise ConfigError(
                Problem(
                    "the folder holds a sequence with other settings",
                    str(path),
                    remedy="Choose another output, or remove the folder",
                )
            )
        found = data["splits"].get(splits)
        return None if found is None else Matrix.from_json(found)


def run_sequence(
    base: Mapping[str, Any],
    tasks: Mapping[str, TaskData],
    order: Sequence[str],
    output: Path,
    *,
    overrides: Mapping[str, Any],
    seed: int,
    splits: Splits,
    treatment: Treatment = PLAIN,
    score: str | None = None,
    group: Group | None = None,
    shared: SharedStages | None = None,
    keep_weights: bool = True,
) -> Matrix:
    """Train a sequence of tasks as far as it is not trained yet, and score every model.

    Args:
        base: run config as plain data, with one stage as the model of all stages.
        tasks: shards of the tasks, by name.
        order: the tasks to train, each once.
        output: folder of the sequence: ``matrix.json``, and the run folder ``run``.
        overrides: dotted keys of the run config and their values; ``stage.KEY`` is a key of every
            stage, ``later_stages.KEY`` of all but the first.
        seed: of the run.
        splits: what the models are scored on.
        treatment: what is done beside training with other settings.
        score: score that R is made of.  Default: the first that the kind of task has.
        group: the process group; a process can open one only once.  Default: one is opened.
        shared: where stages are that other runs have trained already.
        keep_weights: keep the exported models when the matrix is there.

    Returns:
        R, which is in ``matrix.json`` too; the same on every rank.

    Raises:
        UserError: with what is wrong with config, tasks or data, before any training.
        StopRequested: after a stop signal; the same call goes on.
    """
    plan = plan_sequence(
        base, tasks, order, output, overrides=overrides, seed=seed, treatment=treatment, score=score
    )
    matrix = plan.matrix(splits)
    if matrix is not None:
        return matrix
    if group is not None:
        return carry_out(plan, splits, group, shared=shared, keep_weights=keep_weights)
    with open_group() as own:
        return carry_out(plan, splits, own, shared=shared, keep_weights=keep_weights)


def plan_sequence(
    base: Mapping[str, Any],
    tasks: Mapping[str, TaskData],
    order: Sequence[str],
    output: Path,
    *,
    overrides: Mapping[str, Any],
    seed: int,
    treatment: Treatment = PLAIN,
    score: str | None = None,
    manifests: Mapping[str, Manifest] | None = None,
) -> SequencePlan:
    """Check a sequence and make its run config; arguments as for :func:`run_sequence`.

    Args:
        base: see there.
        tasks: see there.
        order: see there.
        output: see there.
        overrides: see there.
        seed: see there.
        treatment: see there.
        score: see there.
        manifests: of all shards of these tasks by folder, if they have been read.

    Raises:
        UserError: with the problems of the order, the data's manifests and the config.
    """
    check_order(tasks, order)
    if manifests is None:
        manifests = read_manifests([tasks[task] for task in order])
    others = other_overrides(overrides)
    training = {task: manifests[tasks[task].train] for task in order}
    document = run_document(
        base, tasks, training, order, overrides=overrides, seed=seed, treatment=treatment
    )
    document["headrace"]["output"] = str(output / _RUN_FOLDER)
    output.mkdir(parents=True, exist_ok=True)
    path = output / _CONFIG_FILE
    write_json(path, document)
    config = load_run_config(path, [f"{key}={json.dumps(value)}" for key, value in others.items()])
    deciding = [
        *what_decides(config),
        {task: [manifests[url].fingerprint for url in tasks[task].folders] for task in order},
        treatment.interpolation,
        score,
    ]
    fingerprint = xxhash.xxh3_128_hexdigest(json.dumps(deciding, sort_keys=True).encode())
    return SequencePlan(tuple(order), tasks, output, treatment, config, fingerprint, score)


def check_order(tasks: Mapping[str, TaskData], order: Sequence[str]) -> None:
    """Check the tasks of a sequence.

    Raises:
        ConfigError: for no task, one that is not known, or one that stands twice.
    """
    name = "-".join(order)
    problems = [
        Problem("no such task", f"sequence {name}", task, did_you_mean(task, tasks))
        for task in order
        if task not in tasks
    ]
    if len(set(order)) != len(order):
        problems.append(Problem("a task stands twice", f"sequence {name}", remedy="Keep one"))
    if not order:
        problems.append(Problem("a sequence needs a task", "sequence", "[]", "Name its tasks"))
    if problems:
        raise ConfigError(problems)


def read_manifests(tasks: Iterable[TaskData]) -> dict[str, Manifest]:
    """The manifests of all shards of some tasks, by folder.

    Raises:
        UserError: with the problems of all of them.
    """
    manifests: dict[str, Manifest] = {}
    problems: list[Problem] = []
    for url in dict.fromkeys(url for task in tasks for url in task.folders):
        try:
            manifests[url] = ShardReader(url).manifest
        except UserError as error:
            problems += error.problems
    if problems:
        raise UserError(problems)
    return manifests


def carry_out(
    plan: SequencePlan,
    splits: Splits,
    group: Group,
    *,
    shared: SharedStages | None = None,
    keep_weights: bool = True,
) -> Matrix:
    """Train what is not trained yet, score every model, and write ``matrix.json``.

    Raises:
        UserError: with what is wrong with the data.
        StopRequested: after a stop signal.
    """
    world, config = group.world, plan.config
    if shared is not None and world.is_main:
        shared.take(config)
    train_in_group(config, expand_stages(config), world, group.stop_flag)
    found: list[Any] = []
    with failing_together(world):
        if world.is_main:  # the others wait: a model is scored in seconds
            matrix = _scored(plan, splits)
            _write_matrix(plan, splits, matrix)
            if shared is not None:
                shared.give(config)
            if not keep_weights:
                drop_weights(plan)
            found.append(matrix.as_json())
    return Matrix.from_json(next(iter(gather_json(found, world)[0])))


def drop_weights(plan: SequencePlan) -> None:
    """Delete the models of a sequence; its config, logs and scores stay."""
    for branch in expand_stages(plan.config):
        shutil.rmtree(branch.folder.parent, ignore_errors=True)
    shutil.rmtree(plan.output / _MIXED, ignore_errors=True)


def score_start(plan: SequencePlan, splits: Splits) -> list[float]:
    """The score of the model on each task before the first stage, for forward transfer.

    It does not depend on how the tasks are trained.

    Raises:
        UserError: with what is wrong with model or data.
    """
    opened, headrace = open_data(plan.config), plan.config.headrace
    seed = derive_key("weights", headrace.seed)
    network = build_model(headrace.model, opened.task, opened.tokenizer, seed=seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = TrainedModel(
        name="start",
        network=network.to(device).eval(),
        tokenizer=opened.tokenizer,
        task=opened.task,
        max_length=headrace.task.max_length,
        world=World(rank=0, size=1, device=device),
        facts={},
    )
    scores = _scores(model, plan, splits)
    return [scores[task].value for task in plan.order]


def _scored(plan: SequencePlan, splits: Splits) -> Matrix:
    values, answers = [], []
    for folder in _models(plan):
        scores = _scores(load_model(folder), plan, splits)
        values.append([scores[task].value for task in plan.order])
        answers.append(tuple(scores[task].answers for task in plan.order))
    known = any(part is not None for row in answers for part in row)
    return Matrix(plan.order, np.array(values), None, tuple(answers) if known else None)


def _scores(model: TrainedModel, plan: SequencePlan, splits: Splits) -> dict[str, TaskScore]:
    return score_tasks(
        model,
        {task: plan.tasks[task].of(splits) for task in plan.order},
        cache_dir=Path(plan.config.headrace.data.cache_dir).expanduser(),
        batch_size=BATCH_SIZE,
        score_name=plan.score,
    )


def _models(plan: SequencePlan) -> Iterator[Path]:
    """The model to score after each stage."""
    before: Path | None = None
    share = plan.treatment.interpolation
    for branch in expand_stages(plan.config):
        folder = branch.export_folder
        if share is not None and before is not None:
            folder = plan.output / _MIXED / branch.stage.name
            interpolate(before, branch.export_folder, folder, alpha=share)
        yield folder
        before = folder


def _write_matrix(plan: SequencePlan, splits: Splits, matrix: Matrix) -> None:
    path = plan.output / MATRIX_FILE
    known = json.loads(path.read_text(encoding="utf-8"))["splits"] if path.exists() else {}
    known[splits] = {**matrix.as_json(), "measures": matrix.measures()}
    write_json(path, {"version": _VERSION, "fingerprint": plan.fingerprint, "splits": known})
