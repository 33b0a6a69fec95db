"""A sequence of tasks as a run config: one stage a task, each from the model before it."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from headrace.config.load import SECTION
from headrace.errors import ConfigError, Problem
from headrace.shards.manifest import Manifest

Splits = Literal["validation", "test"]
EVERY_STAGE = "stage."
LATER_STAGES = "later_stages."
JOINT_STAGE = "joint"
"""Name of the only stage of joint training."""
_MADE_HERE = tuple(
    f"{SECTION}.{key}"
    for key in ("stages", "output", "seed", "name", "data.train", "data.validation")
)


@dataclass(frozen=True)
class TaskData:
    """The shards of a task."""

    train: str
    validation: str
    """What stages keep their best model by, and what values are chosen on."""
    test: str | None = None
    """What scores are reported on, and nothing is chosen on.  None: it is not looked at yet."""

    def of(self, splits: Splits) -> str:
        """The folder of one of the two that models are scored on.

        Raises:
            ConfigError: if it is not known.
        """
        folder = self.test if splits == "test" else self.validation
        if folder is None:
            raise ConfigError(Problem("the task has no test data", "tasks", remedy="Name its test"))
        return folder

    @property
    def folders(self) -> tuple[str, ...]:
        """All that there are."""
        return (self.train, self.validation, *([] if self.test is None else [self.test]))


@dataclass(frozen=True)
class Treatment:
    """What is done beside training with other settings."""

    replay: float = 0.0
    """Share of each later stage's samples that are from the earlier tasks, in equal parts.  The
    stage has as many steps as without."""
    joint: bool = False
    """Train all tasks together in one stage, for as many epochs."""
    interpolation: float | None = None
    """Score, after each later stage, the model between the one scored before and that of the stage:
    this share of the weights is of the stage's (WiSE-FT).  Training is as without."""


PLAIN = Treatment()
"""Training, and nothing beside."""


def run_document(
    base: Mapping[str, Any],
    tasks: Mapping[str, TaskData],
    manifests: Mapping[str, Manifest],
    order: Sequence[str],
    *,
    overrides: Mapping[str, Any],
    seed: int,
    treatment: Treatment,
) -> dict[str, Any]:
    """The run config of a sequence, as plain data; overrides of other keys are not in it yet.

    Args:
        base: run config with one stage, the model of all.
        tasks: the shards of all tasks.
        manifests: of their training shards.
        order: the tasks to train.
        overrides: only those with a prefix (:func:`of_stages`) are looked at.
        seed: of the run.
        treatment: what is done beside.

    Raises:
        ConfigError: if the base has not exactly one stage, or the steps of replay cannot be known.
    """
    document: dict[str, Any] = copy.deepcopy(dict(base))
    section = document.get(SECTION)
    stages = section.get("stages") if isinstance(section, dict) else None
    if (
        not isinstance(section, dict)
        or not isinstance(stages, list)
        or len(stages) != 1
        or not isinstance(stages[0], dict)
    ):
        raise ConfigError(
            Problem(
                "the base config needs exactly one stage, the model of all stages",
                f"{SECTION}.stages",
                remedy="Leave one of them; names, languages and start_from are set by the sequence",
            )
        )
    template = {key: value for key, value in stages[0].items() if key not in _OF_THE_SEQUENCE}
    every, later = of_stages(overrides, EVERY_STAGE), of_stages(overrides, LATER_STAGES)
    _merge(template, every)
    if treatment.joint:
        stages = [_joint_stage(template, order, document, manifests)]
    else:
        stages = []
        for place, task in enumerate(order):
            stage = copy.deepcopy(template)
            if place:
                _merge(stage, later)
                stage["start_from"] = order[place - 1]
            if place and treatment.replay:
                _add_replay(stage, order[: place + 1], treatment.replay, document, manifests)
            stages.append({"name": task, "languages": [task], **stage})
    section["stages"] = stages
    section["seed"] = seed
    _keep_heads(section, order)
    data = section["data"] = {**section.get("data", {}), "validation": {}}
    data["train"] = {task: tasks[task].train for task in order}
    if any(stage.get("keep_best", "validation_loss") == "validation_loss" for stage in stages):
        data["validation"] = {task: tasks[task].validation for task in order}
    return document


_OF_THE_SEQUENCE = ("name", "languages", "start_from", "for_each")


def of_stages(overrides: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The overrides whose key begins with ``stage.`` (all stages) or ``later_stages.``."""
    return {
        key.removeprefix(prefix): value
        for key, value in overrides.items()
        if key.startswith(prefix)
    }


def other_overrides(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The overrides of keys of the run config.

    Raises:
        ConfigError: for keys that a sequence sets itself.
    """
    others = {
        key: value
        for key, value in overrides.items()
        if not key.startswith((EVERY_STAGE, LATER_STAGES))
    }
    taken = [
        key
        for key in others
        if any(key == made or key.startswith(f"{made}.") for made in _MADE_HERE)
    ]
    if taken:
        raise ConfigError(
            [
                Problem(
                    "the sequence sets this itself",
                    key,
                    remedy="Keys of stages are written stage.KEY (all) or later_stages.KEY",
                )
                for key in taken
            ]
        )
    return others


def _keep_heads(section: dict[str, Any], order: Sequence[str]) -> None:
    """Leave the heads of other tasks out of the section ``task``."""
    task = section.get("task")
    heads = task.get("heads") if isinstance(task, dict) else None
    if not isinstance(task, dict) or not isinstance(heads, dict):
        return
    task["heads"] = {
        name: head
        for name, head in heads.items()
        if not isinstance(head, dict) or set(head.get("sources", ())) & set(order)
    }
    for head in task["heads"].values():
        if isinstance(head, dict):
            head["sources"] = [name for name in head.get("sources", ()) if name in order]


def _merge(stage: dict[str, Any], values: Mapping[str, Any]) -> None:
    """Set dotted keys."""
    for dotted, value in values.items():
        node = stage
        *parents, last = dotted.split(".")
        for part in parents:
            if not isinstance(node.get(part), dict):
                node[part] = {}
            node = node[part]
        node[last] = copy.deepcopy(value)


def _joint_stage(
    template: Mapping[str, Any],
    order: Sequence[str],
    document: Mapping[str, Any],
    manifests: Mapping[str, Manifest],
) -> dict[str, Any]:
    stage = {"name": JOINT_STAGE, "languages": list(order), **copy.deepcopy(dict(template))}
    if stage.get("max_steps") is not None:
        stage["max_steps"] = sum(_steps(template, task, document, manifests) for task in order)
    return stage


def _add_replay(
    stage: dict[str, Any],
    seen: Sequence[str],
    share: float,
    document: Mapping[str, Any],
    manifests: Mapping[str, Manifest],
) -> None:
    """Mix earlier tasks into a stage, which keeps its number of steps."""
    *earlier, task = seen
    steps = _steps(stage, task, document, manifests)
    weights = {name: share / len(earlier) for name in earlier}
    stage["languages"] = list(seen)
    stage["mixture"] = {**stage.get("mixture", {}), "weights": {**weights, task: 1 - share}}
    stage["max_steps"] = steps


def _steps(
    stage: Mapping[str, Any],
    task: str,
    document: Mapping[str, Any],
    manifests: Mapping[str, Manifest],
) -> int:
    """Steps of a stage that trains one task alone."""
    batch_size = document.get("train_batch_size")
    if document[SECTION].get("batching", {}).get("type", "samples") != "samples" or not batch_size:
        raise ConfigError(
            Problem(
                "replay, and joint training with max_steps, need a known number of steps",
                f"{SECTION}.batching.type",
                remedy="Set train_batch_size, and batches of samples",
            )
        )
    steps = int(stage.get("epochs", 1)) * math.ceil(manifests[task].samples / int(batch_size))
    limit = stage.get("max_steps")
    return steps if limit is None else min(steps, int(limit))
