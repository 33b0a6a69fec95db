"""The saved models that a run starts from: they have to be there, and to fit its task."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from headrace.config import RunConfig
from headrace.errors import ConfigError, Problem
from headrace.tasks.task import Task
from headrace.training.export import read_facts
from headrace.training.stages import Branch


def check_start_folders(chosen: list[Branch]) -> None:
    """Check that every model to start from exists or is going to be trained now.

    Raises:
        ConfigError: naming the stages that are missing.
    """
    coming = {item.export_folder for item in chosen}
    problems = [
        Problem(
            f"stage {item.stage.start_from} has no exported model yet",
            str(item.start_folder),
            remedy=f"Train it first: --stage {item.stage.start_from}",
        )
        for item in chosen
        if item.start_folder is not None
        and item.start_folder not in coming
        and not _is_finished(item.start_folder)
    ]
    if problems:
        raise ConfigError(problems)


def problems_of_saved_models(
    config: RunConfig, chosen: Iterable[Branch], task: Task
) -> list[Problem]:
    """Return what the task has against the exports that branches start from.

    Those of stages that are yet to be trained will have the task of the run.
    """
    folders: dict[Path, str] = {}
    if config.headrace.model.pretrained is not None:
        folder = Path(config.headrace.model.pretrained).expanduser()
        folders[folder] = "headrace.model.pretrained"
    for branch in chosen:
        if branch.start_folder is not None and _is_finished(branch.start_folder):
            folders[branch.start_folder] = f"stage {branch.stage.start_from}"
    return [
        problem
        for folder, where in folders.items()
        for problem in task.problems_of_saved(read_facts(folder), f"{where}: {folder}")
    ]


def _is_finished(export_folder: Path) -> bool:
    return (export_folder.parent / "result.json").exists()
