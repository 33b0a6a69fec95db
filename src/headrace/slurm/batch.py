"""Jobs that can be submitted, each with its batch script and the arguments of that."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from headrace.config import RunConfig
from headrace.errors import ConfigError, Problem
from headrace.slurm.records import FOLDER
from headrace.slurm.work import CHECK_FOLDER
from headrace.training.stages import Branch, expand_stages

SCRIPTS = Path("slurm")
"""Folder of the batch scripts, from the root of the repository."""

SCORES_FILE = "evaluation.json"
"""Of the job ``evaluate``, in the run folder."""


@dataclass(frozen=True)
class Batch:
    """A job to be submitted."""

    template: str
    """Name of the batch script, without its ending."""
    title: str
    """For people."""
    folder: Path
    """Where its log and its record go."""
    arguments: tuple[str, ...]
    """Of the batch script."""
    on_ranks: bool
    """Whether it uses all nodes that are asked for; otherwise one process on one node."""
    tasks: tuple[tuple[int, str], ...] = ()
    """Number and title of each task of an array."""
    lines: tuple[tuple[str, ...], ...] = ()
    """Options for each task from number 1 on, which the script finds in a file."""

    @property
    def script(self) -> Path:
        """The batch script."""
        return SCRIPTS / f"{self.template}.sbatch"

    @property
    def lines_file(self) -> Path:
        """The file of ``lines``; its name depends on them, so that a waiting array keeps its."""
        digest = hashlib.sha256(self.lines_text.encode()).hexdigest()[:8]
        return self.folder / FOLDER / f"tasks-{digest}.txt"

    @property
    def lines_text(self) -> str:
        """Tabs between words, for options may have blanks."""
        return "".join("\t".join(line) + "\n" for line in self.lines)

    @property
    def name(self) -> str:
        """Name of the job in the queue."""
        return re.sub(r"[^A-Za-z0-9._-]+", "-", f"{self.folder.name}-{self.title}")

    @property
    def log(self) -> Path:
        """Where the job writes, with SLURM's signs for its numbers."""
        number = "%A_%a" if self.tasks else "%j"
        return self.folder / FOLDER / f"{self.name}-{number}.log"


def train_batch(config_path: str, config: RunConfig, options: Sequence[str], title: str) -> Batch:
    """One job that trains what its options choose."""
    return Batch("train", title, config.output, (config_path, *options), on_ranks=True)


def select_batch(config_path: str, config: RunConfig, options: Sequence[str]) -> Batch:
    """One job that chooses the samples of a run.

    Raises:
        ConfigError: if the config does not choose any.
    """
    if config.headrace.selection is None:
        remedy = "Add the section, or submit train"
        raise ConfigError(Problem("nothing is to be chosen", "headrace.selection", None, remedy))
    return Batch("select", "selection", config.output, (config_path, *options), on_ranks=True)


def check_batch(config_path: str | None, config: RunConfig | None, options: Sequence[str]) -> Batch:
    """One job that checks its nodes, for a run or for none."""
    if config_path is None or config is None:
        return Batch("check", "nodes", Path(CHECK_FOLDER), (), on_ranks=True)
    arguments = ("--ds_config", config_path, *options)
    return Batch("check", "check", config.output, arguments, on_ranks=True)


def branches_batch(
    config_path: str, config: RunConfig, options: Sequence[str], stage: str | None
) -> Batch:
    """An array with a task for each unfinished branch of a ``for_each`` stage.

    Raises:
        ConfigError: if it is not clear which stage is meant, or all of its branches are finished.
    """
    branches = [branch for branch in expand_stages(config) if branch.stage.for_each]
    names = list(dict.fromkeys(branch.stage.name for branch in branches))
    chosen = stage or (names[0] if len(names) == 1 else None)
    if chosen not in names:
        what = "no stage with for_each" if stage or not names else "several stages with for_each"
        remedy = f"Give one of {', '.join(names)}" if names else "Submit train"
        raise ConfigError(Problem(what, "--stage", stage, remedy))
    branches = [branch for branch in branches if branch.stage.name == chosen]
    lines = [
        ("--ds_config", config_path, *options, "--stage", chosen, "--branch", branch.name)
        for branch in branches
    ]
    tasks = [
        (number, branch.title)
        for number, branch in enumerate(branches, start=1)
        if not branch.result_file.exists()
    ]
    return _array(chosen, config.output, lines, tasks)


def sweep_batch(
    config_path: str, output: Path, items: Sequence[tuple[str, Sequence[str], bool]]
) -> Batch:
    """An array with a task for each unfinished run of a sweep.

    Args:
        config_path: config of all runs.
        output: folder of the sweep.
        items: name, overrides, and whether it is finished, of each run.
    """
    lines = [
        ("--ds_config", config_path, *(word for text in overrides for word in ("--set", text)))
        for _, overrides, _ in items
    ]
    tasks = [
        (number, name) for number, (name, _, finished) in enumerate(items, start=1) if not finished
    ]
    return _array("sweep", output, lines, tasks)


def _array(
    title: str, folder: Path, lines: list[tuple[str, ...]], tasks: list[tuple[int, str]]
) -> Batch:
    if not tasks:
        remedy = "There is nothing to submit"
        raise ConfigError(Problem("all of it is finished", str(folder), title, remedy))
    batch = Batch(
        "train_array", title, folder, (), on_ranks=True, tasks=tuple(tasks), lines=tuple(lines)
    )
    wrong = [word for line in lines for word in line if "\t" in word or "\n" in word]
    if wrong:
        remedy = "Leave out tabs and line ends"
        raise ConfigError(Problem("no option of a task", "--set", json.dumps(wrong[0]), remedy))
    return batch


def search_batch(study_path: str, folder: Path, workers: int) -> Batch:
    """An array of workers of a search."""
    if workers < 1:
        raise ConfigError(Problem("a positive whole number is needed", "--workers", str(workers)))
    tasks = tuple((number, f"worker {number}") for number in range(1, workers + 1))
    return Batch("search_array", "search", folder, (study_path,), on_ranks=False, tasks=tasks)


def evaluate_batch(config: RunConfig, stage: str | None = None) -> Batch:
    """One job that scores the models of a stage on the validation data of their languages.

    Raises:
        ConfigError: for an unknown stage, and if there is no such data.
    """
    stages = [item.name for item in config.headrace.stages]
    if stage is not None and stage not in stages:
        remedy = f"Give one of {', '.join(stages)}"
        raise ConfigError(Problem("no such stage", "--stage", stage, remedy))
    chosen = stage or stages[-1]
    languages = dict.fromkeys(
        language
        for branch in expand_stages(config)
        if branch.stage.name == chosen
        for language in branch.languages
    )
    data = config.headrace.data
    words = [f"{name}={data.validation[name]}" for name in languages if name in data.validation]
    if not words:
        remedy = "Submit it by hand, with the data to score on: see slurm/evaluate.sbatch"
        raise ConfigError(
            Problem(
                f"no data for the languages of {chosen}", "headrace.data.validation", "", remedy
            )
        )
    arguments = [
        str(config.output), "--data", *words, "--stage", chosen, "--cache", data.cache_dir,
        "--json", str(config.output / SCORES_FILE),
    ]  # fmt: skip
    return Batch("evaluate", "evaluation", config.output, tuple(arguments), on_ranks=False)


def build_batch(recipe_path: str, folder: Path) -> Batch:
    """One job that builds a corpus, on all of its nodes."""
    return Batch("build", "build", folder, (recipe_path, str(folder)), on_ranks=True)


def report_batch(config: RunConfig) -> Batch:
    """One job that writes the report of a run."""
    return Batch("report", "report", config.output, (str(config.output),), on_ranks=False)


def chain(config_path: str, config: RunConfig, options: Sequence[str]) -> list[Batch]:
    """Return all jobs of a run, in their order: each waits for the one before.

    Selection, a job for each stage or an array for its branches, evaluation, report; stages that
    are finished are left out.
    """
    batches = []
    if config.headrace.selection is not None:
        batches.append(select_batch(config_path, config, options))
    by_stage: dict[str, list[Branch]] = {}
    for branch in expand_stages(config):
        by_stage.setdefault(branch.stage.name, []).append(branch)
    for name, branches in by_stage.items():
        if all(branch.result_file.exists() for branch in branches):
            continue
        if branches[0].stage.for_each:
            batches.append(branches_batch(config_path, config, options, name))
        else:
            batches.append(train_batch(config_path, config, [*options, "--stage", name], name))
    if config.headrace.data.validation:
        batches.append(evaluate_batch(config))
    return [*batches, report_batch(config)]
