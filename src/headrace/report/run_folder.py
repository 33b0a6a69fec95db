"""Reads a run folder: ``config.json``, ``metrics.jsonl``, ``results.json``.

A run folder is read while its run is still going, after a crash, or when parts of it were copied.
So everything except the folder itself may be missing, the last line of ``metrics.jsonl`` may be
torn, and a line in the middle may be damaged where a killed process was started again.  What
cannot be read is counted and shown, never guessed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from headrace.errors import Problem, UserError
from headrace.report.records import (
    Branch,
    Result,
    Stage,
    StageSettings,
    Start,
    TrainPoint,
    Validation,
    as_mapping,
    as_number,
    as_text,
    as_texts,
)
from headrace.report.terms import Terms, terms_of

UNBRANCHED = "all"
"""Name of the one branch of a stage without ``for_each``."""


@dataclass(frozen=True)
class RunFolder:
    """Everything a report says about one run."""

    path: Path
    name: str
    created: str | None
    task: str | None
    label_set: str | None
    environment: Mapping[str, str]
    config: Mapping[str, Any] | None
    """The resolved config, or None where there is no ``config.json``."""
    stages: tuple[Stage, ...]
    unreadable_lines: tuple[int, ...] = ()
    """Line numbers (from 1) of ``metrics.jsonl`` that are not a JSON object."""
    described_scores: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What ``results.json`` says about the scores of its task, by name."""

    @cached_property
    def terms(self) -> Terms:
        """What the run is measured by."""
        scored = (scores for branch in self.branches for scores in branch.scores.values())
        there = {name for scores in scored for name in scores.values}
        return terms_of(self.task, there, self.described_scores)

    @property
    def branches(self) -> tuple[Branch, ...]:
        """All branches of all stages, in the order in which they are planned."""
        return tuple(branch for stage in self.stages for branch in stage.branches)

    @property
    def finished(self) -> bool:
        """Whether every planned branch has a result."""
        return bool(self.branches) and all(branch.result for branch in self.branches)


@dataclass
class _Events:
    """What ``metrics.jsonl`` says about one branch; a step logged twice keeps the last record."""

    starts: list[Start] = field(default_factory=list)
    training: dict[int, TrainPoint] = field(default_factory=dict)
    validations: dict[int, Validation] = field(default_factory=dict)


def read_run_folder(run_dir: Path) -> RunFolder:
    """Read the run folder ``run_dir``.

    Raises :class:`~headrace.errors.UserError` when it is not a folder, holds none of the three
    files, or when ``config.json`` or ``results.json`` (which are written whole) are not JSON.
    """
    run_dir = Path(run_dir)
    if not run_dir.is_dir():
        raise UserError(
            Problem(
                "there is no such run folder",
                str(run_dir),
                remedy="Give the folder that training wrote, the one with metrics.jsonl.",
            )
        )
    names = ("config.json", "metrics.jsonl", "results.json")
    if not any((run_dir / name).is_file() for name in names):
        raise UserError(
            Problem(
                f"this is not a run folder: it holds none of {', '.join(names)}",
                str(run_dir),
                remedy="Give the folder that training wrote.",
            )
        )
    problems: list[Problem] = []
    config = _read_object(run_dir / "config.json", problems)
    results = _read_object(run_dir / "results.json", problems) or {}
    if problems:
        raise UserError(problems)

    events, unreadable = _read_events(run_dir / "metrics.jsonl")
    found = {
        (result.stage, result.branch): result
        for result in map(Result.from_json, _objects(results.get("stages")))
    }
    settings = _stage_settings(config)
    stages = _assemble(run_dir, settings, events, found)
    environment = as_mapping(results.get("environment"))
    task = as_mapping(as_mapping(as_mapping(config).get("headrace")).get("task"))
    return RunFolder(
        path=run_dir,
        name=as_text(results.get("run")) or run_dir.resolve().name,
        created=as_text(results.get("created")),
        task=as_text(results.get("task")) or as_text(task.get("type")),
        label_set=as_text(results.get("label_set")) or _label_set(task),
        environment={str(key): str(value) for key, value in environment.items()},
        config=config,
        stages=stages,
        unreadable_lines=unreadable,
        described_scores={
            str(name): as_mapping(facts)
            for name, facts in as_mapping(results.get("scores")).items()
        },
    )


def _label_set(task: Mapping[str, Any]) -> str | None:
    """The label set that a config names; the labels of whole texts have no name."""
    return None if task.get("type") == "sequence_classification" else as_text(task.get("labels"))


def _read_object(path: Path, problems: list[Problem]) -> Mapping[str, Any] | None:
    """The JSON object in ``path``; None where the file is missing."""
    if not path.is_file():
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        line = f":{error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        problems.append(
            Problem("this is not JSON", f"{path}{line}", remedy="Restore or remove this file.")
        )
        return None
    if not isinstance(value, dict):
        problems.append(
            Problem("this is not a JSON object", str(path), remedy="Restore or remove this file.")
        )
        return None
    return value


def _objects(value: object) -> list[Mapping[str, Any]]:
    if not isinstance(value, list):
        return []
    return [item for item in value if isinstance(item, dict)]


def _read_events(path: Path) -> tuple[dict[tuple[str, str], _Events], tuple[int, ...]]:
    events: dict[tuple[str, str], _Events] = {}
    unreadable: list[int] = []
    if not path.is_file():
        return events, ()
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError:  # torn JSON, or bytes that are not UTF-8
                unreadable.append(number)
                continue
            if not isinstance(record, dict):
                unreadable.append(number)
                continue
            stage, step = as_text(record.get("stage")), as_number(record.get("step"))
            if stage is None or step is None:
                continue
            branch = as_text(record.get("branch")) or UNBRANCHED
            of_branch = events.setdefault((stage, branch), _Events())
            match record.get("kind"):
                case "start":
                    of_branch.starts.append(Start.from_json(record))
                case "train":
                    of_branch.training[int(step)] = TrainPoint.from_json(record)
                case "validation":
                    of_branch.validations[int(step)] = Validation.from_json(record)
    return events, tuple(unreadable)


def _stage_settings(config: Mapping[str, Any] | None) -> dict[str, StageSettings]:
    """The stages that the config plans, in order."""
    headrace = as_mapping(as_mapping(config).get("headrace"))
    training_languages = tuple(as_mapping(as_mapping(headrace.get("data")).get("train")))
    planned: dict[str, StageSettings] = {}
    for stage in _objects(headrace.get("stages")):
        name = as_text(stage.get("name"))
        if name is None:
            continue
        listed = stage.get("languages")
        languages = as_texts(listed) if isinstance(listed, Sequence) else ()
        if not languages or languages == ("all",):
            languages = training_languages
        mixture = as_mapping(stage.get("mixture"))
        planned[name] = StageSettings(
            languages=languages,
            for_each=as_text(stage.get("for_each")),
            start_from=as_text(stage.get("start_from")),
            epochs=as_number(stage.get("epochs")),
            keep_best=as_text(stage.get("keep_best")),
            temperature=as_number(mixture.get("temperature")),
        )
    return planned


def _assemble(
    run_dir: Path,
    settings: Mapping[str, StageSettings],
    events: Mapping[tuple[str, str], _Events],
    results: dict[tuple[str, str], Result],
) -> tuple[Stage, ...]:
    """Join plan, events and results; planned order first, then the order of first mention."""
    wanted: dict[str, dict[str, None]] = {}
    for name, plan in settings.items():
        branches: Iterable[str] = plan.languages if plan.for_each else (UNBRANCHED,)
        wanted[name] = dict.fromkeys(branches)
    for name, branch in [*events, *results]:
        wanted.setdefault(name, {})[branch] = None

    stages = []
    for name, branch_names in wanted.items():
        of_stage = []
        for branch in branch_names:
            seen = events.get((name, branch), _Events())
            result = results.get((name, branch)) or _read_branch_result(run_dir, name, branch)
            of_stage.append(
                Branch(
                    stage=name,
                    name=branch,
                    start=seen.starts[-1] if seen.starts else None,
                    restarts=max(len(seen.starts) - 1, 0),
                    training=tuple(seen.training[step] for step in sorted(seen.training)),
                    validations=tuple(seen.validations[step] for step in sorted(seen.validations)),
                    result=result,
                )
            )
        stages.append(Stage(name, settings.get(name, StageSettings()), tuple(of_stage)))
    return tuple(stages)


def _read_branch_result(run_dir: Path, stage: str, branch: str) -> Result | None:
    """The result of a finished branch whose run has not written ``results.json`` yet."""
    # Names come from files: one with a separator or ".." must not lead out of the run folder.
    if any(part in {"", ".", ".."} or Path(part).name != part for part in (stage, branch)):
        return None
    try:
        value = json.loads((run_dir / stage / branch / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(value, dict):
        return None
    return Result.from_json({"stage": stage, "branch": branch, **value})
