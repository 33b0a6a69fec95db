"""What a job works on: the folder of its results, and how far they are."""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.counts import counted
from headrace.slurm.records import FOLDER

if TYPE_CHECKING:
    from headrace.training.stages import Branch

COMMAND_MODULE = "headrace.cli"
CHECK_FOLDER = "runs/check"
"""Of checks without a run."""
CHECKPOINT_MARKER = "COMPLETE"
"""As in :mod:`headrace.training.checkpoint_marker`, which takes longer to import."""


@dataclass(frozen=True)
class Work:
    """What the command of a job works on."""

    folder: Path
    """Where records and logs go: the run folder, or what takes its place."""
    progress: Callable[[], dict[str, Any]]
    """How far it is: plain data that changes when something was achieved that lasts."""
    check: tuple[str, ...] = ()
    """Options of ``headrace check`` for the nodes that work on it; none: their shared folder."""
    once: bool = False
    """Whether a fault is an answer, and no reason to start again."""


def work_of(words: Sequence[str], folder: Path | None = None) -> Work:
    """Return what a command line works on.

    Args:
        words: ``python -m headrace.cli train …``, or any other command.
        folder: of the results of other commands.

    Raises:
        ConfigError: if its run config or study file cannot be read.
        ValueError: for another command without a folder.
    """
    if COMMAND_MODULE in words:
        name, *options = words[list(words).index(COMMAND_MODULE) + 1 :]
        module = importlib.import_module(f"headrace.commands.{name}")
        parser = argparse.ArgumentParser(prog=f"headrace {name}")
        module.configure(parser)
        arguments = parser.parse_args(options)
        found = _WORKS.get(name)
        if found is not None:
            return found(arguments)
    if folder is None:
        raise ValueError(f"no folder is given, and none follows from {' '.join(words)}")
    return _in_folder(folder)


def _train(arguments: argparse.Namespace) -> Work:
    from headrace.config import load_run_config
    from headrace.training.stages import choose_branches, expand_stages

    config = load_run_config(arguments.ds_config, arguments.set, thorough=False)
    overrides = (word for text in arguments.set for word in ("--set", text))
    check = ("--ds_config", arguments.ds_config, *overrides)
    if arguments.select_only and config.headrace.selection is not None:
        cache = Path(config.headrace.selection.cache_dir).expanduser()
        return Work(config.output, lambda: files_in(cache), check)
    branches = choose_branches(expand_stages(config), arguments.stage, arguments.branch)
    return Work(config.output, lambda: progress_of_branches(branches), check)


def _build(arguments: argparse.Namespace) -> Work:
    return _in_folder(Path(arguments.output))


def _check(arguments: argparse.Namespace) -> Work:
    if arguments.ds_config is None:
        return Work(Path(arguments.folder or CHECK_FOLDER), dict, once=True)
    from headrace.config import load_run_config

    config = load_run_config(arguments.ds_config, arguments.set, thorough=False)
    return Work(config.output, dict, once=True)


def _search(arguments: argparse.Namespace) -> Work:
    from headrace.search.study_file import load_study_file

    file, _ = load_study_file(Path(arguments.study))
    return _in_folder(Path(file.output))


def _evaluate(arguments: argparse.Namespace) -> Work:
    cache = Path(arguments.cache).expanduser()
    return Work(Path(arguments.model[0]), lambda: files_in(cache))


def _report(arguments: argparse.Namespace) -> Work:
    return _in_folder(Path(arguments.run_dir))


_WORKS: Mapping[str, Callable[[argparse.Namespace], Work]] = {
    "train": _train,
    "build": _build,
    "check": _check,
    "search": _search,
    "evaluate": _evaluate,
    "report": _report,
}


def _in_folder(folder: Path) -> Work:
    return Work(folder, lambda: files_in(folder))


def progress_of_branches(branches: Sequence[Branch]) -> dict[str, Any]:
    """Finished branches, and the steps in the newest checkpoints of the others."""
    finished = [branch for branch in branches if branch.result_file.exists()]
    steps = {
        branch.title: step
        for branch in branches
        if branch not in finished and (step := newest_step(branch.folder / "checkpoints"))
    }
    return {"finished": len(finished), "of": len(branches), "steps": steps}


def newest_step(checkpoints: Path) -> int:
    """Return the step of the newest complete checkpoint in a folder; 0 without one."""
    steps = [
        int(marker.parent.name.removeprefix("step-"))
        for marker in checkpoints.glob(f"step-*/{CHECKPOINT_MARKER}")
    ]
    return max(steps, default=0)


def files_in(folder: Path) -> dict[str, Any]:
    """Number and size of all files in a folder, but for records and logs of jobs."""
    count = size = 0
    for parent, folders, files in os.walk(folder):
        if Path(parent) == folder and FOLDER in folders:
            folders.remove(FOLDER)
        for name in files:
            try:
                size += (Path(parent) / name).stat().st_size
            except OSError:  # removed meanwhile
                continue
            count += 1
    return {"files": count, "bytes": size}


def check_command(words: Sequence[str], work: Work) -> list[str]:
    """Return the command that checks the nodes for another one, with the same Python."""
    words = list(words)
    place = words.index(COMMAND_MODULE) if COMMAND_MODULE in words else 0
    begin = words[place - 2 : place] if place else ["python", "-m"]  # without what starts workers
    options = work.check or ("--folder", str(work.folder))
    return [*begin, COMMAND_MODULE, "check", *options]


def described(progress: Mapping[str, Any]) -> str:
    """Progress in words."""
    if not progress:
        return "nothing that would be gone on with"
    if "finished" in progress:
        text = f"{progress['finished']} of {counted(progress['of'], 'branch', 'branches')} finished"
        steps = ", ".join(f"{name} at step {step}" for name, step in progress["steps"].items())
        return f"{text}; {steps}" if steps else text
    return f"{counted(progress['files'], 'file')}, {progress['bytes']:,} bytes"
