"""The experiment file: tasks, sequences, seeds and methods of an experiment about forgetting."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

from pydantic import Field

from headrace.config.messages import did_you_mean
from headrace.config.object_file import load_with_base, repeat_problems
from headrace.config.section import Name, Section
from headrace.errors import Problem
from headrace.forgetting.run_document import TaskData

Order = list[str]
TREATMENTS = ("replay", "interpolation")
"""Settings of a method that are no keys of a run config, and may be tuned like these."""


class TaskSection(Section):
    """The shards of a task, one folder (a fsspec URL) a split."""

    train: str
    """Shards to train on."""
    validation: str
    """Shards that values are chosen on, and the best model of a stage with `keep_best`."""
    test: str
    """Shards that scores are reported on; nothing is chosen on them."""

    def data(self) -> TaskData:
        """The same for the runner."""
        return TaskData(self.train, self.validation, self.test)


class TuningSection(Section):
    """How the values of tuned methods are chosen: each has the same number of runs for it."""

    sequences: list[Order] = Field(min_length=1)
    """Sequences to choose on, by p_s + p_o on validation data; none of `sequences`."""
    seeds: list[int] = Field([0], min_length=1)
    """Seeds of these runs."""
    values: int = Field(ge=2)
    """Sets of values that every tuned method tries."""


class MethodSection(Section):
    """A method: settings, and what is tuned."""

    title: str | None = None
    """Name in tables. Default: the key."""
    like: str | None = None
    """A method whose settings, chosen values included, this one starts from."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Dotted keys of the run config and their values; `stage.KEY` is a key of every stage,
    `later_stages.KEY` of every stage but the first."""
    tune: dict[str, list[Any]] | list[dict[str, Any]] = Field(default_factory=dict)
    """Lists of values by key, all combinations of which are tried, or a list of sets of values.
    Keys as in `set`, and `replay` and `interpolation`."""
    replay: float | None = Field(None, gt=0, lt=1)
    """Share of the samples of each later stage that are from earlier tasks."""
    interpolation: float | None = Field(None, ge=0, le=1)
    """Share of the weights of each later stage's model in a mixture with the model before it
    (WiSE-FT)."""
    joint: bool = False
    """Train all tasks together, in one stage."""

    def candidates(self) -> list[dict[str, Any]]:
        """The sets of values that are tried; one empty set for a method that is not tuned."""
        if isinstance(self.tune, list):
            return [dict(values) for values in self.tune] or [{}]
        return [
            dict(zip(self.tune, values, strict=True)) for values in product(*self.tune.values())
        ]

    @property
    def is_tuned(self) -> bool:
        """Whether values are chosen."""
        return bool(self.tune)


class ExperimentFile(Section):
    """An experiment file."""

    output: str | None = Field(None, min_length=1)
    """Folder of the experiment. Default: `runs/` and the name of the file."""
    base: str | dict[str, Any]
    """Run config that all runs share, or its path; it has one stage, the model of all stages."""
    tasks: dict[Name, TaskSection] = Field(min_length=1)
    """Tasks by name."""
    sequences: list[Order] = Field(min_length=1)
    """Sequences of tasks that methods are compared on."""
    shifts: list[Order] = Field([])
    """Sequences whose parts are one task under a shift: compared apart, in the layout of the
    paper's Table 4."""
    seeds: list[int] = Field(min_length=1)
    """Every method is trained with each of them on each sequence."""
    tuning: TuningSection | None = None
    """How values are chosen; required where a method has `tune`."""
    methods: dict[Name, MethodSection] = Field(min_length=1)
    """Methods by name."""
    reference: str | None = None
    """Method that the others are compared with, in pairs. Default: `flat_tuned`, if there is one,
    otherwise the first."""
    score: str | None = None
    """Score that R is made of. Default: the first that the kind of task has."""

    @property
    def reference_name(self) -> str:
        """The method that the others are compared with."""
        usual = "flat_tuned" if "flat_tuned" in self.methods else next(iter(self.methods))
        return self.reference or usual

    def title(self, method: str) -> str:
        """The name of a method in tables."""
        return self.methods[method].title or method.replace("_", " ")

    def in_order(self) -> Iterator[str]:
        """The methods, each behind the one that it is `like`."""
        done: dict[str, None] = {}

        def visit(name: str) -> None:
            like = self.methods[name].like
            if like is not None:
                visit(like)
            done.setdefault(name)

        for name in self.methods:
            visit(name)
        return iter(done)


def sequence_name(order: Sequence[str]) -> str:
    """The name of a sequence: ``qnli-med``."""
    return "-".join(order)


def load_experiment(path: Path) -> tuple[ExperimentFile, dict[str, Any]]:
    """Read and check an experiment file, and the base config that it names.

    Returns:
        The experiment, and the base config as plain data.

    Raises:
        ConfigError: with everything that is wrong with the file, each with its JSON path.
    """
    remedy = "Start from ds_configs/forgetting/experiment.json"
    return load_with_base(path, ExperimentFile, "experiment", remedy, _problems)


def _problems(experiment: ExperimentFile) -> list[Problem]:
    problems: list[Problem] = []
    tuning = experiment.tuning
    lists = {"sequences": experiment.sequences, "shifts": experiment.shifts}
    if tuning is not None:
        lists["tuning.sequences"] = tuning.sequences
    for where, orders in lists.items():
        for number, order in enumerate(orders):
            problems += _order_problems(experiment, order, f"{where}.{number}")
        problems += repeat_problems(
            list(map(sequence_name, orders)), where, "a sequence is given twice"
        )
    held_out = {sequence_name(order) for order in (*experiment.sequences, *experiment.shifts)}
    for number, order in enumerate(tuning.sequences if tuning else ()):
        if sequence_name(order) in held_out:
            problems.append(
                Problem(
                    "values would be chosen on a sequence that methods are compared on",
                    f"tuning.sequences.{number}",
                    sequence_name(order),
                    "Take it out of one of the two",
                )
            )
    problems += repeat_problems(experiment.seeds, "seeds", "a seed is given twice")
    problems += repeat_problems(
        tuning.seeds if tuning else [], "tuning.seeds", "a seed is given twice"
    )
    if experiment.reference is not None and experiment.reference not in experiment.methods:
        remedy = did_you_mean(experiment.reference, experiment.methods)
        problems.append(Problem("no such method", "reference", experiment.reference, remedy))
    for name, method in experiment.methods.items():
        problems += _method_problems(experiment, name, method)
    return problems


def _order_problems(experiment: ExperimentFile, order: Order, where: str) -> list[Problem]:
    problems = [
        Problem("no such task", where, task, did_you_mean(task, experiment.tasks))
        for task in order
        if task not in experiment.tasks
    ]
    if len(order) < 2:
        text = ", ".join(order)
        problems.append(Problem("a sequence has two tasks or more", where, text, "Add a task"))
    return problems + repeat_problems(order, where, "a task is trained twice")


def _method_problems(experiment: ExperimentFile, name: str, method: MethodSection) -> list[Problem]:
    where = f"methods.{name}"
    problems = _like_problems(experiment, name)
    tuning = experiment.tuning
    count = (
        len(method.tune) if isinstance(method.tune, list) else prod(map(len, method.tune.values()))
    )
    if method.is_tuned and tuning is None:
        remedy = "Add tuning with sequences and the number of values"
        problems.append(
            Problem("there is nothing to choose values on", f"{where}.tune", None, remedy)
        )
    elif method.is_tuned and tuning is not None and count != tuning.values:
        problems.append(
            Problem(
                f"every tuned method tries {tuning.values} sets of values",
                f"{where}.tune",
                str(count),
                "Give as many, or set tuning.values",
            )
        )
    if method.is_tuned:
        texts = [json.dumps(values, sort_keys=True) for values in method.candidates()]
        problems += repeat_problems(texts, f"{where}.tune", "a set of values is given twice")
    for values in method.candidates():
        problems += [
            Problem(
                "must be a share from 0 to 1", f"{where}.tune", f"{key} {value!r}", "Correct it"
            )
            for key in TREATMENTS
            if (value := values.get(key)) is not None
            and not (type(value) in (int, float) and 0 <= value <= 1)
        ]
    tuned = {key for values in method.candidates() for key in values}
    problems += [
        Problem("a key is both set and tuned", f"{where}.tune", key, "Keep one of them")
        for key in sorted(tuned & set(method.set))
    ]
    problems += [
        Problem(
            "this is a setting of the method itself", f"{where}.set", key, f"Write {where}.{key}"
        )
        for key in TREATMENTS
        if key in method.set
    ]
    return problems


def _like_problems(experiment: ExperimentFile, name: str) -> list[Problem]:
    where = f"methods.{name}.like"
    seen = [name]
    like = experiment.methods[name].like
    while like is not None:
        if like not in experiment.methods:
            if len(seen) > 1:
                return []  # said of that method
            return [Problem("no such method", where, like, did_you_mean(like, experiment.methods))]
        if like in seen:
            return [Problem("methods are like one another", where, like, "Leave one `like` out")]
        seen.append(like)
        like = experiment.methods[like].like
    return []


def settings_of(
    experiment: ExperimentFile, name: str, chosen: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """All settings of a method: those of the one it is `like`, its own, and its chosen values.

    Args:
        experiment: the experiment.
        name: of the method.
        chosen: values of tuned methods, by name; of those that it is `like`, and its own.
    """
    method = experiment.methods[name]
    settings = {} if method.like is None else settings_of(experiment, method.like, chosen)
    settings |= method.set
    for key in TREATMENTS:
        if (value := getattr(method, key)) is not None:
            settings[key] = value
    if method.joint:
        settings["joint"] = True
    return {**settings, **chosen.get(name, {})}
