"""What chooses the trials of a search, and what ends them early."""

from __future__ import annotations

import math
import warnings
from typing import Any, Literal
from zlib import crc32

import numpy as np
import optuna
from optuna.pruners import BasePruner, HyperbandPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler

from headrace.errors import Problem
from headrace.search.study_file import TRIALS_OF_A_BRACKET, PrunerConfig


class SamplerByNumber(BaseSampler):  # type: ignore[misc]  # Optuna has no types here
    """A sampler whose draws for a trial follow from the seed, the pair and its number.

    Samplers of several workers with one seed would all draw the same; with none, a search by one
    worker could not be repeated.
    """

    def __init__(self, kind: Literal["gp", "tpe", "random"], seed: int) -> None:
        self._kind = kind
        self._seed = seed
        self._sampler: Any = RandomSampler(seed=seed)

    def before_trial(self, study: Any, trial: Any) -> None:
        """Make the sampler of a trial; called before anything is drawn for it."""
        part = crc32(study.study_name.encode())  # pairs do not begin with the same rates
        state = np.random.SeedSequence([self._seed, part, trial.number]).generate_state(1)
        self._sampler = _sampler(self._kind, int(state[0]))
        self._sampler.before_trial(study, trial)

    def infer_relative_search_space(self, study: Any, trial: Any) -> Any:
        """What is drawn together."""
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(self, study: Any, trial: Any, search_space: Any) -> Any:
        """Draw together."""
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(self, study: Any, trial: Any, name: str, distribution: Any) -> Any:
        """Draw one."""
        return self._sampler.sample_independent(study, trial, name, distribution)


def _sampler(kind: str, seed: int) -> Any:
    if kind == "random":
        return RandomSampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if kind == "gp":
            return GPSampler(seed=seed)
        # trials that others run at this moment count as bad, so that workers do not meet
        return TPESampler(seed=seed, multivariate=True, constant_liar=True)


def make_pruner(config: PrunerConfig, epochs: int) -> BasePruner:
    """The pruner of a study.

    Args:
        config: which one.
        epochs: of a whole trial.
    """
    if config.type == "successive_halving":
        return SuccessiveHalvingPruner(
            min_resource=config.min_epochs, reduction_factor=config.reduction
        )
    if config.type == "hyperband":
        return HyperbandPruner(
            min_resource=config.min_epochs,
            max_resource=epochs,
            reduction_factor=config.reduction,
        )
    return NopPruner()


def rungs(config: PrunerConfig, epochs: int) -> list[int]:
    """Epochs of the runs of a trial, the whole one last."""
    found = []
    step = config.min_epochs
    while config.type != "none" and step < epochs:
        found.append(step)
        step *= config.reduction
    return [*found, epochs]


def brackets(config: PrunerConfig, epochs: int) -> int:
    """How many brackets Hyperband has."""
    if config.type != "hyperband" or epochs <= config.min_epochs:
        return 1
    return math.floor(math.log(epochs / config.min_epochs, config.reduction)) + 1


def check_pruner(config: PrunerConfig, epochs: int, trials: int) -> list[Problem]:
    """What is wrong with a pruner for trials of so many epochs."""
    if config.type == "none":
        return []
    if config.min_epochs >= epochs:
        return [
            Problem(
                f"the first rung has to end before the {epochs} epochs of a whole trial",
                "pruner.min_epochs",
                str(config.min_epochs),
                "Give the stage of the base config more epochs, or set pruner.type to none",
            )
        ]
    needed = TRIALS_OF_A_BRACKET * brackets(config, epochs)
    if config.type == "hyperband" and trials < needed:
        return [
            Problem(
                f"Hyperband has {brackets(config, epochs)} brackets here and needs "
                f"{TRIALS_OF_A_BRACKET} trials for each",
                "trials",
                str(trials),
                f"Give {needed} or more, or use successive_halving",
            )
        ]
    return []


def first_rung(study: Any, trial: Any, config: PrunerConfig) -> int:
    """Epochs below which a trial of this bracket is never ended, and so need not be run."""
    if config.type != "hyperband":
        return config.min_epochs
    trial.should_prune()  # makes the brackets
    bracket: int = study.pruner._get_bracket_id(study, trial)
    return int(config.min_epochs * config.reduction**bracket)
