"""Stages and their branches: what is trained in which order, and where it lies."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from headrace.config import RunConfig
from headrace.config.checks import stage_languages
from headrace.config.learning_rates import ParamGroupsConfig, ScheduleConfig
from headrace.config.messages import did_you_mean
from headrace.config.schema import StageConfig
from headrace.errors import ConfigError, Problem

ONLY_BRANCH = "all"
"""Branch name of a stage without ``for_each``."""


@dataclass(frozen=True)
class Branch:
    """One training of one model: a stage, or one language of a ``for_each`` stage."""

    stage: StageConfig
    name: str
    """``all``, or the language of a ``for_each`` stage."""
    languages: tuple[str, ...]
    """Languages that are trained on, in a fixed order."""
    folder: Path
    """Where the branch keeps its checkpoints, export and result."""
    start_folder: Path | None
    """Exported model that it starts from; None: the config's ``model``."""
    learning_rate: float
    """Base learning rate."""
    schedule: ScheduleConfig
    """Learning rate over the steps."""
    param_groups: ParamGroupsConfig = field(default_factory=ParamGroupsConfig)
    """Parameters with learning rates of their own."""
    param_groups_path: str = "headrace.param_groups"
    """Where the config has them."""

    @property
    def title(self) -> str:
        """Name for people: ``stage`` or ``stage/language``."""
        return self.stage.name if self.name == ONLY_BRANCH else f"{self.stage.name}/{self.name}"

    @property
    def export_folder(self) -> Path:
        """Exported model of this branch."""
        return self.folder / "export"

    @property
    def result_file(self) -> Path:
        """Written last: a branch that has it is complete."""
        return self.folder / "result.json"


def expand_stages(config: RunConfig) -> list[Branch]:
    """Return every branch of every stage, in the order of training."""
    headrace = config.headrace
    by_name = {stage.name: stage for stage in headrace.stages}
    branches = []
    for number, stage in enumerate(headrace.stages):
        own_groups = stage.param_groups is not None
        languages = stage_languages(headrace, stage)
        parts = (
            [(language, (language,)) for language in languages]
            if stage.for_each
            else [(ONLY_BRANCH, languages)]
        )
        for name, members in parts:
            start = None
            if stage.start_from is not None:
                parent = by_name[stage.start_from]
                start = config.output / parent.name / (name if parent.for_each else ONLY_BRANCH)
                start = start / "export"
            branches.append(
                Branch(
                    stage=stage,
                    name=name,
                    languages=members,
                    folder=config.output / stage.name / name,
                    start_folder=start,
                    learning_rate=stage.learning_rate or config.learning_rate,
                    schedule=stage.schedule or headrace.schedule,
                    param_groups=stage.param_groups or headrace.param_groups,
                    param_groups_path=(
                        f"headrace.stages.{number}.param_groups"
                        if own_groups
                        else "headrace.param_groups"
                    ),
                )
            )
    return branches


def choose_branches(branches: list[Branch], stage: str | None, branch: str | None) -> list[Branch]:
    """Return the branches that a command asks for.

    Raises:
        ConfigError: for an unknown stage or branch.
    """
    stages = {item.stage.name for item in branches}
    if stage is not None and stage not in stages:
        raise ConfigError(Problem("no such stage", "--stage", stage, did_you_mean(stage, stages)))
    chosen = [item for item in branches if stage is None or item.stage.name == stage]
    names = {item.name for item in chosen}
    if branch is not None and branch not in names:
        raise ConfigError(
            Problem("no such branch", "--branch", branch, did_you_mean(branch, names))
        )
    return [item for item in chosen if branch is None or item.name == branch]
