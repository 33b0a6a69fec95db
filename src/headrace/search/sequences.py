"""What a search makes large: p_s + p_o of tasks that are trained one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headrace.config.load import SECTION
from headrace.errors import ConfigError, Problem, UserError
from headrace.forgetting.run_document import LATER_STAGES, TaskData
from headrace.forgetting.sequence import Group, SequencePlan, plan_sequence, run_sequence
from headrace.forgetting.shared_stages import SharedStages
from headrace.search.claims import Claim
from headrace.search.rates import distribution_of, space_of
from headrace.search.sampling import rungs
from headrace.search.study import Part, Space, Study
from headrace.search.study_file import StudyFile
from headrace.training.distributions import write_distribution
from headrace.training.run import check_run
from headrace.training.selectors import Network
from headrace.training.stages import expand_stages

DISTRIBUTION_FILE = "distribution.json"
_CHECK_FOLDER = "check"
_GROUPS = "stage.param_groups"


def epochs_of(base: Mapping[str, Any]) -> int:
    """Epochs of the stage of a base config, which each task is trained for."""
    epochs = _stage(base).get("epochs", 1)
    return epochs if type(epochs) is int else 1


def _stage(base: Mapping[str, Any]) -> Mapping[str, Any]:
    """The first stage of a base config, empty where it has none: its check says what is wrong."""
    section = base.get(SECTION)
    stages = section.get("stages") if isinstance(section, Mapping) else None
    stage = stages[0] if isinstance(stages, list) and stages else None
    return stage if isinstance(stage, Mapping) else {}


def tasks_of(file: StudyFile) -> dict[str, TaskData]:
    """The tasks of a study for the runner; test data is not looked at."""
    return {
        name: TaskData(folders.train, folders.validation, folders.validation)
        for name, folders in file.tasks.items()
    }


def find_space(file: StudyFile, base: Mapping[str, Any]) -> Space:
    """Find the groups of a new study in the network of its base config.

    Raises:
        UserError: with everything that is wrong with the config, its data and the groups.
    """
    if file.pruner.type != "none" and "max_steps" in _stage(base):
        raise ConfigError(
            Problem(
                "rungs are counted in epochs, which max_steps cuts off",
                "pruner.type",
                file.pruner.type,
                "Take max_steps out of the base config, or set it to none",
            )
        )
    plan = _plan(file, base, file.pairs[0], {})
    _, network = check_run(plan.config, expand_stages(plan.config), 1)
    return space_of(file, Network(network).layout("base"), str(network.config.model_type))


def check_sequences(study: Study) -> None:
    """Check the data of all pairs, and the groups in the network, before any trial.

    Raises:
        UserError: with the problems of all pairs.
    """
    problems: dict[Problem, None] = {}
    middle = (study.file.range[0] * study.file.range[1]) ** 0.5
    for part in study.parts:
        folder = study.folder / _CHECK_FOLDER / part.name
        overrides = _groups(study, part, dict.fromkeys(part.groups, middle), folder)
        try:
            plan = _plan(study.file, study.base, part.tasks, overrides, folder)
            check_run(plan.config, expand_stages(plan.config), 1)
        except UserError as error:
            problems.update(dict.fromkeys(error.problems))
    if problems:
        raise ConfigError(list(problems))


def _plan(
    file: StudyFile,
    base: Mapping[str, Any],
    order: Any,
    overrides: Mapping[str, Any],
    folder: Path | None = None,
) -> SequencePlan:
    return plan_sequence(
        base,
        tasks_of(file),
        order,
        folder or Path(file.output) / _CHECK_FOLDER,
        overrides=overrides,
        seed=file.seeds[0],
    )


def _groups(study: Study, part: Part, rates: Mapping[str, float], folder: Path) -> dict[str, Any]:
    """Overrides that train with these rates; their distribution is written to the folder."""
    path = folder / DISTRIBUTION_FILE
    space = study.space.flat() if part.is_flat else study.space
    write_distribution(
        path,
        distribution_of(space, rates, study=f"trial of {study.file.name}", seeds=study.file.seeds),
    )
    return {_GROUPS: {"distribution": str(path)}}


class SequenceObjective:
    """Trains the tasks of a pair one after the other with the rates of a trial.

    A rung is a whole run with fewer epochs of the stages behind the first; the first stage is
    trained once.  Only validation data is looked at.
    """

    def __init__(self, study: Study, group: Group) -> None:
        self._study = study
        self._group = group

    def __call__(self, claim: Claim, epochs: int) -> float:
        """p_s + p_o, the mean over the seeds of the study.

        Raises:
            DivergedError: if a loss is no number.
            StopRequested: after a stop signal; the same call goes on.
        """
        overrides = _groups(self._study, claim.part, claim.rates, claim.folder)
        values = [self._value(claim, overrides, seed, epochs) for seed in self._study.file.seeds]
        return sum(values) / len(values)

    def release(self, claim: Claim) -> None:
        """Delete what was kept for the next rung."""
        for seed in self._study.file.seeds:
            self._shared(claim, seed).clear()

    def _shared(self, claim: Claim, seed: int) -> SharedStages:
        return SharedStages(claim.folder / f"seed-{seed}" / "shared")

    def _value(self, claim: Claim, overrides: Mapping[str, Any], seed: int, epochs: int) -> float:
        study = self._study
        folder = claim.folder / f"seed-{seed}" / f"epochs-{epochs}"
        settings = {**overrides, f"{LATER_STAGES}epochs": epochs}
        tasks, order = tasks_of(study.file), claim.part.tasks
        later = [step for step in rungs(study.file.pruner, study.epochs) if step > epochs]
        shared = self._shared(claim, seed) if study.file.pruner.type != "none" else None
        if shared is not None:
            plan = plan_sequence(study.base, tasks, order, folder, overrides=settings, seed=seed)
            shared.expect([plan.config] * (1 + len(later)))
        matrix = run_sequence(
            study.base,
            tasks,
            order,
            folder,
            overrides=settings,
            seed=seed,
            splits="validation",
            score=study.file.score,
            group=self._group,
            shared=shared,
            keep_weights=False,
        )
        return float(matrix.measure("p") or 0.0)
