"""Combining the trials of a search into one distribution of learning rates, with intervals.

Equation (1) of Kenneweg et al., "Intelligent Learning Rate Distribution to reduce Catastrophic
Forgetting in Transformers": within a pair of tasks, the geometric mean of the rates of all trials,
the trial of rank r weighted by b ** -r; over pairs, the plain geometric mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BASE = 1.8
"""b of equation (1)."""
RESAMPLES = 2000
LEVEL = 0.95
"""Share of the resamples that an interval holds."""
LEAST_TRIALS = 10
"""Trials that every pair must have for intervals."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Trials:
    """The finished trials of one pair of tasks."""

    rates: Array
    """Learning rates, (trials, groups)."""
    values: Array
    """What they reached, (trials,): more is better."""


@dataclass(frozen=True)
class Bounds:
    """Between which rates the combined ones may lie; each array is (groups, 2): lower, upper."""

    rates: Array
    """Of each rate."""
    ratios: Array
    """Of each rate over the geometric mean of all rates."""
    simultaneous: Array
    """The same at the level 1 - (1 - ``LEVEL``) / groups (Bonferroni)."""

    @property
    def deviates(self) -> NDArray[np.bool_]:
        """Whether the interval of a group's ratio leaves out 1, (groups,)."""
        return _leaves_out_one(self.ratios)

    @property
    def is_identified(self) -> bool:
        """Whether the trials tell the distribution from a flat rate.

        Of many groups some interval leaves out 1 by chance, so the simultaneous ones decide.
        """
        return bool(_leaves_out_one(self.simultaneous).any())


@dataclass(frozen=True)
class Combined:
    """One learning rate for each group, and how sure it is."""

    rates: Array
    """(groups,)."""
    by_pair: Array
    """What equation (1) gives for each pair, (pairs, groups)."""
    by_trials: Bounds | None
    """Bootstrap over the trials of each pair; None where one has fewer than ``LEAST_TRIALS``. They
    hold what they say only if trials were drawn by chance: a sampler that learns gathers its
    trials in one place, and the bootstrap takes that for certainty."""
    by_pairs: Bounds | None
    """Student's t over the pairs, each a search of its own; None of a single pair."""

    @property
    def ratios(self) -> Array:
        """Each rate over the geometric mean of all, (groups,)."""
        found: Array = self.rates / np.exp(np.log(self.rates).mean())
        return found


def ranks(values: Array) -> Array:
    """Rank of each value, 1 for the largest; equal values share the mean of their ranks.

    Args:
        values: (trials,).
    """
    _, place, counts = np.unique(-values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[place].astype(np.float64)


def rank_weights(values: Array, base: float = BASE) -> Array:
    """b ** -rank of each trial, over their sum, (trials,)."""
    places = ranks(values)
    weights = base ** (places.min() - places)  # the common factor cancels, and nothing overflows
    shares: Array = weights / weights.sum()
    return shares


def weighted_geometric_mean(trials: Trials, base: float = BASE) -> Array:
    """Equation (1) for one pair, (groups,).

    Args:
        trials: at least one.
        base: b, 1 or more; larger values give the best trials more weight.
    """
    means: Array = np.exp(rank_weights(trials.values, base) @ np.log(trials.rates))
    return means


def combine(
    pairs: Sequence[Trials], *, base: float = BASE, resamples: int = RESAMPLES, seed: int = 0
) -> Combined:
    """Combine the trials of all pairs, and bootstrap the result.

    Each resample draws as many trials as there are, with replacement, within each pair; a trial
    that is drawn twice has two equal ranks.  The bounds are quantiles of what the resamples give,
    in logarithms.  Since so few trials have weight (3.5, whatever their number, at b = 1.8), such
    quantiles are too narrow: as Hesterberg (2015), *What Teachers Should Know About the
    Bootstrap*, proposes for small samples, deviations are made larger by sqrt(n / (n - 1)), here
    with n = 1 / (sum of the squared weights).

    Args:
        pairs: each with at least one trial and the same groups.
        base: b of equation (1).
        resamples: how many.
        seed: of the draws.
    """
    by_pair = np.stack([weighted_geometric_mean(trials, base) for trials in pairs])
    rates: Array = np.exp(np.log(by_pair).mean(axis=0))
    if min(len(trials.values) for trials in pairs) < LEAST_TRIALS:
        return Combined(rates, by_pair, None, _bounds_by_pairs(by_pair))
    generator = np.random.default_rng(seed)
    drawn = np.log(rates) + np.mean(
        [_deviations(trials, base, resamples, generator) for trials in pairs], axis=0
    )
    relative = drawn - drawn.mean(axis=1, keepdims=True)
    return Combined(
        rates,
        by_pair,
        Bounds(
            rates=np.exp(_interval(drawn, LEVEL)),
            ratios=np.exp(_interval(relative, LEVEL)),
            simultaneous=np.exp(_interval(relative, _simultaneous(len(rates)))),
        ),
        _bounds_by_pairs(by_pair),
    )


def _bounds_by_pairs(by_pair: Array) -> Bounds | None:
    """Intervals of the means over pairs, from how far the pairs differ."""
    from scipy.stats import t

    count, groups = by_pair.shape
    if count < 2:
        return None
    logs = np.log(by_pair)
    relative = logs - logs.mean(axis=1, keepdims=True)

    def interval(values: Array, level: float) -> Array:
        spread = values.std(axis=0, ddof=1) / np.sqrt(count) * t.ppf((1 + level) / 2, count - 1)
        middle = values.mean(axis=0)
        bounds: Array = np.exp(np.stack([middle - spread, middle + spread], axis=1))
        return bounds

    return Bounds(
        rates=interval(logs, LEVEL),
        ratios=interval(relative, LEVEL),
        simultaneous=interval(relative, _simultaneous(groups)),
    )


def _simultaneous(groups: int) -> float:
    return 1 - (1 - LEVEL) / groups


def _deviations(
    trials: Trials, base: float, resamples: int, generator: np.random.Generator
) -> Array:
    """How far the logarithm of each rate of one pair lies off in resamples, (resamples, groups)."""
    count = len(trials.values)
    found = np.empty((resamples, trials.rates.shape[1]))
    for number in range(resamples):
        chosen = generator.integers(count, size=count)
        resample = Trials(trials.rates[chosen], trials.values[chosen])
        found[number] = np.log(weighted_geometric_mean(resample, base))
    weighty = 1 / np.square(rank_weights(trials.values, base)).sum()
    widened: Array = (found - np.log(weighted_geometric_mean(trials, base))) * np.sqrt(
        weighty / (weighty - 1)
    )
    return widened


def _interval(drawn: Array, level: float) -> Array:
    """Quantiles of the resamples, (groups, 2)."""
    outside = (1 - level) / 2
    bounds: Array = np.quantile(drawn, [outside, 1 - outside], axis=0).T
    return bounds


def _leaves_out_one(intervals: Array) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = (intervals[:, 1] < 1) | (intervals[:, 0] > 1)
    return found
