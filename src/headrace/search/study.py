"""A study on disk: its record, its journal, and one Optuna study for each pair of tasks.

The folder has ``study.json`` (what is searched; written once), ``journal.log`` (all trials) and
``trials`` (their run folders).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna

from headrace.config.learning_rates import SelectConfig
from headrace.errors import ConfigError, Problem
from headrace.search.sampling import check_pruner, make_pruner
from headrace.search.storage import open_journal
from headrace.search.study_file import FLAT, MAY_CHANGE, StudyFile

RECORD_FILE = "study.json"
TRIALS_FOLDER = "trials"
ALL = "all"
"""Name of the only group of a flat search."""
_VERSION = 1


@dataclass(frozen=True)
class Space:
    """What has a learning rate of its own, in which network."""

    groups: Mapping[str, SelectConfig]
    """Parameters of each group, by its name; a parameter belongs to the first that selects it."""
    model_type: str
    """Kind of network, as ``transformers`` names it."""
    layers: Mapping[str, int]
    """Layers of each of its stacks."""

    def flat(self) -> Space:
        """The same network with one rate for all."""
        return Space({ALL: SelectConfig(part="rest")}, self.model_type, self.layers)

    def as_json(self) -> dict[str, Any]:
        """The space as plain data for :meth:`from_json`."""
        return {
            "groups": {
                name: select.model_dump(exclude_none=True) for name, select in self.groups.items()
            },
            "model_type": self.model_type,
            "layers": dict(self.layers),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Space:
        """The space that :meth:`as_json` wrote."""
        groups = {name: SelectConfig(**select) for name, select in data["groups"].items()}
        return cls(groups, data["model_type"], data["layers"])


@dataclass(frozen=True)
class Part:
    """The search of one pair of tasks: one Optuna study."""

    name: str
    """Name of the pair; of the control, with ``/flat`` behind it."""
    tasks: tuple[str, ...]
    """In the order of training."""
    groups: tuple[str, ...]
    """Names of the learning rates."""
    is_flat: bool
    study: Any
    """``optuna.Study``; its sampler is that of the worker."""


@dataclass(frozen=True)
class Study:
    """An open study."""

    file: StudyFile
    space: Space
    base: Mapping[str, Any]
    """Run config of all trials, as plain data."""
    epochs: int
    """Epochs of the stages behind the first in a whole trial."""
    folder: Path
    storage: Any
    """``optuna.storages.JournalStorage``."""
    parts: tuple[Part, ...]


def open_study(
    file: StudyFile, base: Mapping[str, Any], epochs: int, find_space: Callable[[], Space]
) -> Study:
    """Open the study of a study file, made where there is none.

    Args:
        file: the study file.
        base: its base config.
        epochs: of a whole trial.
        find_space: called without arguments for the :class:`Space` of a new study.

    Raises:
        ConfigError: if the folder holds a study of something else (each key that differs is
            named), the journal is damaged, or the pruner does not fit.
    """
    problems = check_pruner(file.pruner, epochs, file.trials)
    folder = Path(file.output)
    record = _read_record(folder / RECORD_FILE)
    settled = {
        key: value for key, value in file.model_dump(mode="json").items() if key not in MAY_CHANGE
    }
    if record is not None:
        problems += _differences(record, settled, dict(base), folder)
    if problems:
        raise ConfigError(problems)
    if record is None:
        space = find_space()
        new = {
            "version": _VERSION,
            "study": settled,
            "base": base,
            "epochs": epochs,
            "space": space.as_json(),
        }
        record = _write_record(folder / RECORD_FILE, new)
        problems = _differences(record, settled, dict(base), folder)  # another one was faster
        if problems:
            raise ConfigError(problems)
    space = Space.from_json(record["space"])
    storage = open_journal(folder)
    parts = []
    for flat in (False, True) if file.flat else (False,):
        for name, tasks in zip(file.pair_names(), file.pairs, strict=True):
            title = f"{name}/{FLAT}" if flat else name
            groups = (ALL,) if flat else tuple(space.groups)
            study = optuna.create_study(
                study_name=title,
                storage=storage,
                direction="maximize",
                load_if_exists=True,
                pruner=make_pruner(file.pruner, epochs),
            )
            parts.append(Part(title, tuple(tasks), groups, flat, study))
    study = Study(file, space, base, epochs, folder, storage, tuple(parts))
    _check_not_fewer(study)
    return study


def _read_record(path: Path) -> dict[str, Any] | None:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        record = None
    if not isinstance(record, dict) or record.get("version") != _VERSION:
        what = "this is no record of a study"
        raise ConfigError(Problem(what, str(path), remedy="Choose another output"))
    return record


def _write_record(path: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """Write the record unless another worker has been faster; return the one that is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.uname().nodename}.{os.getpid()}")
    partial.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    try:
        os.link(partial, path)
    except FileExistsError:
        pass
    finally:
        partial.unlink()
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _differences(
    record: Mapping[str, Any], settled: Mapping[str, Any], base: Mapping[str, Any], folder: Path
) -> list[Problem]:
    """What a folder's study has other values of."""
    remedy = f"Choose another output, or go on with the settings in {folder / RECORD_FILE}"
    problems = [
        Problem(
            f"the study in {folder} has another value here: {_short(record['study'].get(key))}",
            key,
            _short(value),
            remedy,
        )
        for key, value in settled.items()
        if record["study"].get(key) != value
    ]
    if record["base"] != base:
        keys = [
            key for key in {**base, **record["base"]} if base.get(key) != record["base"].get(key)
        ]
        problems.append(
            Problem(
                f"the trials of the study in {folder} have another run config",
                "base",
                "the difference is in " + ", ".join(sorted(keys)),
                remedy,
            )
        )
    return problems


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:79] + "…"


def _check_not_fewer(study: Study) -> None:
    """A study that has more finished trials than are asked for would not be what it says."""
    for part in study.parts:
        states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
        finished = len(part.study.get_trials(deepcopy=False, states=states))
        if finished > study.file.trials:
            what = f"{part.name} has {finished} finished trials already"
            raise ConfigError(
                Problem(what, "trials", str(study.file.trials), f"Give {finished} or more")
            )
