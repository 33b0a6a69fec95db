"""The mixture of a stage, phase by phase: what each gives, what it keeps, and what is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from headrace.config.messages import did_you_mean
from headrace.config.schema import MixtureConfig, PhaseConfig, StageConfig
from headrace.counts import counted
from headrace.errors import Problem

ByLanguage = float | Mapping[str, float] | None
"""One number for every language, or some languages' own."""


@dataclass(frozen=True)
class PhaseOfMixture:
    """What holds from an epoch on, with all that it keeps from the phases before."""

    where: str
    """Its path below the stage."""
    from_epoch: float
    temperature: float
    weights: Mapping[str, float] | None
    min_share: ByLanguage
    max_share: ByLanguage

    def weight(self, language: str) -> float:
        """The weight of a language, where the phase has weights; 0 for one it does not name."""
        return self.weights.get(language, 0.0) if self.weights is not None else 1.0


def phases_of(mixture: MixtureConfig) -> list[PhaseOfMixture]:
    """Return the phases of a mixture, the first from epoch 0."""
    phases = [
        PhaseOfMixture(
            "mixture",
            0.0,
            mixture.temperature,
            mixture.weights,
            mixture.min_share,
            mixture.max_share,
        )
    ]
    for number, phase in enumerate(mixture.phases):
        before = phases[-1]
        anew = phase.temperature is not None
        phases.append(
            PhaseOfMixture(
                f"mixture.phases.{number}",
                phase.from_epoch,
                before.temperature if phase.temperature is None else phase.temperature,
                phase.weights if anew or phase.weights is not None else before.weights,
                before.min_share if phase.min_share is None else phase.min_share,
                before.max_share if phase.max_share is None else phase.max_share,
            )
        )
    return phases


def numbers_by_language(given: ByLanguage, languages: Sequence[str]) -> list[float | None]:
    """Return the number of each language, None where it has none."""
    if isinstance(given, Mapping):
        return [given.get(language) for language in languages]
    return [given] * len(languages)


def check_mixture(stage: StageConfig, languages: Sequence[str], where: str) -> list[Problem]:
    """Check the mixture of a stage that draws from ``languages``; ``where`` is the stage."""
    mixture = stage.mixture
    problems = [
        *_check_names(mixture, languages, f"{where}.mixture"),
        *_check_numbers(mixture, f"{where}.mixture"),
    ]
    phases = phases_of(mixture)
    for phase, given in zip(phases[1:], mixture.phases, strict=True):
        if given.temperature is not None and given.weights is not None:
            problems.append(
                Problem(
                    "give either temperature or weights",
                    f"{where}.{phase.where}",
                    remedy="Keep one of them",
                )
            )
        if given.from_epoch >= stage.epochs:
            problems.append(
                Problem(
                    f"the stage is over after {counted(stage.epochs, 'epoch')}",
                    f"{where}.{phase.where}.from_epoch",
                    f"{given.from_epoch:g}",
                    "Begin the phase earlier, or raise the stage's epochs",
                )
            )
    for earlier, later in pairwise(phases[1:]):
        if later.from_epoch <= earlier.from_epoch:
            problems.append(
                Problem(
                    "a phase begins later than the one before it",
                    f"{where}.{later.where}.from_epoch",
                    f"{later.from_epoch:g} after {earlier.from_epoch:g}",
                    "Put the phases in order",
                )
            )
    if stage.for_each is not None:
        return problems + _check_branches(mixture, f"{where}.mixture")
    problems += [
        Problem(
            "nothing is drawn from this language",
            f"{where}.mixture.weights.{language}",
            "weight 0" if language in (mixture.weights or ()) else "no weight",
            "Give it a weight here or in a phase, or take it out of the stage's languages",
        )
        for language in languages
        if not any(phase.weight(language) for phase in phases)
    ]
    return problems


def _parts(mixture: MixtureConfig, where: str) -> Iterator[tuple[str, MixtureConfig | PhaseConfig]]:
    """The mixture and its phases, each with its path."""
    yield where, mixture
    for number, phase in enumerate(mixture.phases):
        yield f"{where}.phases.{number}", phase


def _check_names(mixture: MixtureConfig, languages: Sequence[str], where: str) -> list[Problem]:
    names = {
        "weights": "a weight",
        "min_share": "a share",
        "max_share": "a share",
        "max_epochs": "an epoch limit",
    }
    return [
        Problem(
            f"{what} for a language that the stage does not have",
            f"{place}.{key}.{language}",
            language,
            did_you_mean(language, languages),
        )
        for place, part in _parts(mixture, where)
        for key, what in names.items()
        if isinstance(given := getattr(part, key, None), Mapping)
        for language in given
        if language not in languages
    ]


def _check_numbers(mixture: MixtureConfig, where: str) -> list[Problem]:
    problems = []
    for place, part in _parts(mixture, where):
        for key in ("weights", "min_share", "max_share", "max_epochs"):
            given = getattr(part, key, None)
            rows = given.items() if isinstance(given, Mapping) else [(None, given)]
            for language, number in rows:
                remedy = _wrong_number(key, number)
                if remedy:
                    path = f"{place}.{key}" + (f".{language}" if language else "")
                    problems.append(Problem("out of range", path, f"{number:g}", remedy))
    return problems


def _wrong_number(key: str, number: float | None) -> str | None:
    """What to do about a number that cannot be used."""
    if number is None:
        return None
    if key == "weights":
        return None if 0 <= number < float("inf") else "Give 0 or more"
    if key == "min_share":
        return None if 0 <= number <= 1 else "Give 0 to 1"
    if key == "max_share":
        return None if 0 < number <= 1 else "Give more than 0, and 1 at most"
    return None if 0 < number < float("inf") else "Give more than 0"


def _check_branches(mixture: MixtureConfig, where: str) -> list[Problem]:
    """Each branch of a ``for_each`` stage has one language: there is nothing to share out."""
    return [
        Problem(
            "each branch of the stage has one language, so that there are no shares to set",
            f"{where}.{key}",
            remedy="Remove it, or for_each",
        )
        for key in ("min_share", "max_share", "phases")
        if getattr(mixture, key)
    ]
