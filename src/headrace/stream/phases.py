"""What a stage draws and from which position on: phases, their bounds, and epoch limits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import TypeAlias

from headrace.counts import counted
from headrace.errors import ConfigError, Problem
from headrace.stream.mixture import integer_weights, temperature_weights

MAX_PHASES = 64
"""Of a stage; a saved state has two characters for each, and stays below 1 KB."""


@dataclass(frozen=True)
class Phase:
    """What is drawn from a position of the stage on, until the next phase begins."""

    start: int
    """First position, counted over the whole stage."""
    temperature: float = 1.0
    """1 draws in proportion to size, 0 from all sources alike."""
    weights: Sequence[float] | None = None
    """One a source, in place of the temperature; 0 draws nothing from the source."""
    min_shares: Sequence[float | None] | None = None
    """Least share of each source, 0 to 1; None: no bound."""
    max_shares: Sequence[float | None] | None = None
    """Largest share of each source, 0 to 1; None: no bound."""


PhaseSettings: TypeAlias = tuple[list[int], list[Fraction] | None, list[Fraction] | None]
"""Integer weights, and where the phase has bounds, the least and the largest share of each."""


def sample_limits(
    names: Sequence[str],
    sizes: Sequence[int],
    max_epochs: Sequence[float | None] | None,
    where: str,
) -> tuple[int | None, ...]:
    """Samples of each source that may be drawn, None without limit; ``ConfigError`` below 1."""
    if max_epochs is None:
        return (None,) * len(sizes)
    problems = []
    limits: list[int | None] = []
    for name, size, epochs in zip(names, sizes, max_epochs, strict=True):
        usable = epochs is None or (math.isfinite(epochs) and epochs > 0)
        limits.append(None if epochs is None or not usable else math.floor(size * exact(epochs)))
        if not usable or limits[-1] == 0:
            problems.append(
                Problem(
                    f"a source of {counted(size, 'sample')} cannot be gone through this often",
                    f"{where}.max_epochs.{name}",
                    repr(epochs),
                    "Use a number that leaves one sample at least, or leave the source out",
                )
            )
    if problems:
        raise ConfigError(problems)
    return tuple(limits)


def check_starts(phases: Sequence[Phase], where: str) -> None:
    """``ConfigError`` where there are too many phases, or one does not begin after the last."""
    problems = []
    if len(phases) > MAX_PHASES:
        problems.append(
            Problem(
                f"a stage has at most {MAX_PHASES} phases",
                f"{where}.phases",
                f"{len(phases)}, the first included",
                "Use fewer, or several stages",
            )
        )
    for number, (earlier, later) in enumerate(pairwise(phases)):
        if later.start <= earlier.start:
            problems.append(
                Problem(
                    "a phase begins at a later position than the one before it",
                    f"{where}.phases.{number}",
                    f"position {later.start} after {earlier.start}",
                    "Order the phases, and let each begin at a position of its own",
                )
            )
    if problems:
        raise ConfigError(problems)


def settings_of_phases(
    names: Sequence[str], sizes: Sequence[int], phases: Sequence[Phase], where: str
) -> list[PhaseSettings]:
    """Weights and bounds of each phase; ``ConfigError`` that lists all that cannot be used."""
    settings: list[PhaseSettings] = []
    problems: list[Problem] = []
    for number, phase in enumerate(phases):
        place = where if number == 0 else f"{where}.phases.{number - 1}"
        try:
            if phase.weights is None:
                weights = temperature_weights(
                    sizes, phase.temperature, where=f"{place}.temperature"
                )
            else:
                weights = integer_weights(
                    phase.weights, where=f"{place}.weights", zero_allowed=len(phases) > 1
                )
        except ConfigError as error:
            problems += error.problems
            continue
        if phase.min_shares is None and phase.max_shares is None:
            settings.append((weights, None, None))
            continue
        bounds_problems, least, most = _bounds(names, weights, phase, place)
        problems += bounds_problems
        settings.append((weights, least, most))
    if not problems:
        problems = [
            Problem(
                "no phase draws from this source",
                f"{where}.weights.{name}",
                "0 everywhere",
                "Give it a weight in one of the phases, or leave it out of the stage",
            )
            for number, name in enumerate(names)
            if not any(weights[number] for weights, _, _ in settings)
        ]
    if problems:
        raise ConfigError(problems)
    return settings


def _bounds(
    names: Sequence[str], weights: Sequence[int], phase: Phase, where: str
) -> tuple[list[Problem], list[Fraction], list[Fraction]]:
    problems = []
    least = [Fraction(0)] * len(weights)
    most = [Fraction(1)] * len(weights)
    for key, given, bounds in (
        ("min_share", phase.min_shares, least),
        ("max_share", phase.max_shares, most),
    ):
        for number, share in enumerate(given or ()):
            if share is None:
                continue
            if not 0 <= share <= 1 or (share == 0 and bounds is most):
                problems.append(
                    Problem(
                        "a share lies between 0 and 1",
                        f"{where}.{key}.{names[number]}",
                        repr(share),
                        "Correct it; a weight of 0 draws nothing from a source",
                    )
                )
                continue
            bounds[number] = exact(share)
    for name, low, high, weight in zip(names, least, most, weights, strict=True):
        if low > high:
            problems.append(
                Problem(
                    "the least share of a source is above its largest",
                    f"{where}.min_share.{name}",
                    f"{float(low):g} > {float(high):g}",
                    "Lower it, or raise max_share",
                )
            )
        if low and not weight:
            problems.append(
                Problem(
                    "a source of weight 0 has a least share",
                    f"{where}.min_share.{name}",
                    f"{float(low):g}",
                    "Give it a weight, or no least share",
                )
            )
    if not problems:
        drawn = [number for number, weight in enumerate(weights) if weight]
        lowest = sum((least[number] for number in drawn), Fraction(0))
        highest = sum((most[number] for number in drawn), Fraction(0))
        if lowest > 1:
            problems.append(
                Problem(
                    "the least shares add up to more than 1",
                    f"{where}.min_share",
                    f"{float(lowest):g}",
                    "Lower them",
                )
            )
        if highest < 1:
            problems.append(
                Problem(
                    "the largest shares add up to less than 1",
                    f"{where}.max_share",
                    f"{float(highest):g} over {len(drawn)} sources",
                    "Raise them, or leave one source without",
                )
            )
    return problems, least, most


def exact(number: float) -> Fraction:
    """The decimal number that is written, not the binary one that stands for it: 0.3 is 3/10."""
    return Fraction(repr(float(number)))
