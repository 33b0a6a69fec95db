"""The study file: what is searched, on which tasks, and how many trials it takes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from headrace.config.learning_rates import Select
from headrace.config.messages import did_you_mean
from headrace.config.object_file import load_with_base, repeat_problems
from headrace.config.section import Name, Section
from headrace.errors import Problem

FLAT = "flat"
"""Behind the name of a pair: its search with one rate for all parameters."""
_SAME_NAME = "two groups have the same name"
TRIALS_OF_A_BRACKET = 10
"""Hyperband has nothing to choose from with fewer."""


class PrunerConfig(Section):
    """When a trial ends early.

    A rung is a whole run with fewer epochs of the stages behind the first, so that every value
    that trials are compared by is p_s + p_o of a finished schedule.
    """

    type: Literal["none", "successive_halving", "hyperband"] = "none"
    """`successive_halving`: at each rung only the best go on. `hyperband`: several brackets, each
    with a first rung of its own. `none`: all trials are run whole."""
    min_epochs: int = Field(1, ge=1)
    """Epochs of the first rung."""
    reduction: int = Field(2, ge=2)
    """Each rung has this many times the epochs of the one before, and the best of this many
    trials goes on."""


class TaskFolders(Section):
    """The shards of a task. Test data is no part of a search."""

    train: str
    """Source that is trained on."""
    validation: str
    """Source that p_s and p_o are measured on."""


class SearchGroup(Section):
    """Parameters that share a learning rate."""

    name: Name
    """Name of the group."""
    select: Select
    """Its parameters, as in the section `param_groups` of a run config."""


def _range(value: Any) -> Any:
    numbers = value if isinstance(value, list) else []
    if len(numbers) == 2 and all(type(number) in (int, float) for number in numbers):
        low, high = map(float, numbers)
        if 0 < low < high < math.inf:
            return [low, high]
    raise ValueError("must be two positive numbers, the smaller one first")


class StudyFile(Section):
    """A study file, checked."""

    name: Name
    """Name of the study in reports and in the saved distribution."""
    output: str = Field(min_length=1)
    """Folder of the study, which all workers share."""
    base: str | dict[str, Any]
    """Run config with one stage, the model of the stages of all tasks; or a file that has it."""
    tasks: dict[Name, TaskFolders] = Field(min_length=2)
    """Tasks by name."""
    pairs: list[list[Name]] = Field(min_length=1)
    """Tasks that are trained one after the other; each pair is searched by itself."""
    split: Literal["paper-text", "paper-code"] | None = None
    """Ten groups as in the paper: embeddings, eight runs of layers, the rest. Needs a network of
    12 layers."""
    groups: list[SearchGroup] | None = Field(None, min_length=1)
    """Groups of one's own; a parameter belongs to the first that selects it. Default, without
    `split`: embeddings, each layer, the rest."""
    range: Annotated[list[float], BeforeValidator(_range)] = Field([1e-7, 1e-3])
    """Smallest and largest learning rate; the logarithm is searched."""
    trials: int = Field(50, ge=1)
    """Finished trials of each pair; may be raised later."""
    flat: bool = True
    """Search each pair with one rate for all parameters too, with as many trials: the control
    that says what the shape is worth."""
    sampler: Literal["gp", "tpe", "random"] = "gp"
    """How trials are chosen: Gaussian process, tree-structured Parzen estimator, or by chance."""
    sampler_seed: int = Field(0, ge=0)
    """Seed of the sampler."""
    pruner: PrunerConfig = Field(default_factory=PrunerConfig)
    """When a trial ends early."""
    seeds: list[int] = Field([1], min_length=1)
    """Seeds of the runs of a trial: its value is the mean over them."""
    score: str | None = None
    """Score that p_s and p_o are made of. Default: the first that the kind of task has."""
    beat_seconds: float = Field(30.0, gt=0)
    """Time between two signs of life of a worker."""
    stale_seconds: float = Field(600.0, gt=0)
    """A trial whose worker has given no sign of life for so long is taken for dead."""

    def pair_names(self) -> list[str]:
        """Names of the pairs: their tasks, joined by ``-``."""
        return ["-".join(pair) for pair in self.pairs]


MAY_CHANGE = ("trials", "beat_seconds", "stale_seconds", "output", "base")
"""Keys that a study may be continued with other values of; of the base the content counts."""


def load_study_file(path: Path) -> tuple[StudyFile, dict[str, Any]]:
    """Read and check a study file, and the base config that it names.

    Returns:
        The study file, and the base config as plain data.

    Raises:
        ConfigError: with everything that is wrong, each with its JSON path.
    """
    remedy = "Start from the example in docs/search.md"
    return load_with_base(path, StudyFile, "study", remedy, _problems)


def _problems(study: StudyFile) -> list[Problem]:
    problems = []
    for number, pair in enumerate(study.pairs):
        where = f"pairs.{number}"
        if len(pair) < 2:
            problems.append(
                Problem("a pair has two tasks, or more", where, ", ".join(pair), "Add a task")
            )
        problems += [
            Problem("no such task", where, task, did_you_mean(task, study.tasks))
            for task in pair
            if task not in study.tasks
        ]
        if len(set(pair)) < len(pair):
            problems.append(
                Problem("a task is trained twice", where, ", ".join(pair), "Name each task once")
            )
    problems += repeat_problems(
        study.pair_names(), "pairs", "two pairs have the same tasks in one order"
    )
    problems += repeat_problems(study.seeds, "seeds", "a seed is given twice")
    problems += repeat_problems([group.name for group in study.groups or ()], "groups", _SAME_NAME)
    if study.groups is not None and study.split is not None:
        what = "split makes groups of its own"
        problems.append(Problem(what, "split", study.split, "Leave out groups or split"))
    if study.sampler == "gp" and study.pruner.type != "none":
        problems.append(
            Problem(
                "the Gaussian process learns nothing from trials that end early",
                "pruner.type",
                study.pruner.type,
                'Set it to "none", or sampler to "tpe"',
            )
        )
    if study.stale_seconds < 3 * study.beat_seconds:
        problems.append(
            Problem(
                "a worker that misses a single beat would be taken for dead",
                "stale_seconds",
                f"{study.stale_seconds:g}",
                f"Set it to three times beat_seconds or more: {3 * study.beat_seconds:g}",
            )
        )
    return problems
