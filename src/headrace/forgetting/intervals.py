"""Bootstrap intervals of the measures of a method, and of its differences to another one.

Two things are left to chance: the seed (order of the data, new weights, dropout) and which samples
are in the test data.  Seeds are always drawn again; test samples too where it is known which of
them were answered right.  Methods are compared in pairs: with the same seed on the same sequence,
on the same samples.  Sequences are not drawn again: the intervals are for these sequences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from headrace.forgetting.matrix import Matrix, measure_weights

Runs = Mapping[tuple[str, int], Matrix]
"""The matrices of a method, by name of the sequence and seed."""

RESAMPLES = 5_000
LEVEL = 0.95
_BLOCK = 1_000
"""Resamples that are computed at once."""


@dataclass(frozen=True)
class Estimate:
    """A mean over sequences and seeds."""

    mean: float
    low: float | None
    """Lower end of the interval; None for a single seed without answers."""
    high: float | None
    seeds: int
    sequences: int

    @property
    def is_apart_from_zero(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def estimate(
    runs: Runs, measure: str, other: Runs | None = None, *, resamples: int = RESAMPLES
) -> Estimate | None:
    """The mean of a measure over runs, or of its differences to other runs, with its interval.

    Args:
        runs: of one method.
        measure: one of :data:`headrace.forgetting.matrix.MEASURES`.
        other: of the method that is taken off.
        resamples: draws of the bootstrap.

    Returns:
        Mean and percentile interval (95 %) over the seeds that all sequences have, and that both
        methods have; a sequence that lacks the measure, or a method's run, takes no part.  None if
        nothing is left.
    """
    pairs = _paired(runs, other, measure)
    if not pairs:
        return None
    sequences = sorted({sequence for sequence, _ in pairs})
    seeds = sorted({seed for _, seed in pairs})
    values = np.array([[pairs[sequence, seed] for sequence in sequences] for seed in seeds])
    drawn = _drawn(runs, other, measure, sequences, seeds, values, resamples)
    low, high = None, None
    if drawn is not None:
        tail = 100 * (1 - LEVEL) / 2
        low, high = (float(end) for end in np.percentile(drawn, [tail, 100 - tail]))
    return Estimate(float(values.mean()), low, high, len(seeds), len(sequences))


def _paired(runs: Runs, other: Runs | None, measure: str) -> dict[tuple[str, int], float]:
    """Values by sequence and seed: all sequences have the same seeds."""
    values: dict[tuple[str, int], float] = {}
    for key, matrix in runs.items():
        value = matrix.measure(measure)
        if other is not None:
            against = other[key].measure(measure) if key in other else None
            value = None if value is None or against is None else value - against
        if value is not None:
            values[key] = value
    seeds = [
        {seed for name, seed in values if name == sequence}
        for sequence in {name for name, _ in values}
    ]
    common = set.intersection(*seeds) if seeds else set()
    return {key: value for key, value in values.items() if key[1] in common}


def _drawn(
    runs: Runs,
    other: Runs | None,
    measure: str,
    sequences: Sequence[str],
    seeds: Sequence[int],
    values: NDArray[np.float64],
    resamples: int,
) -> NDArray[np.float64] | None:
    """The bootstrapped means, (resamples,); None where there is nothing to draw."""
    noise = _sample_terms(runs, other, measure, sequences, seeds)
    if len(seeds) == 1 and noise is None:
        return None
    by_seed = _counts("seeds", len(seeds), resamples) / len(seeds)
    if noise is None:
        drawn: NDArray[np.float64] = by_seed @ values.mean(axis=1)
        return drawn
    total = np.zeros(resamples)
    for task, terms in noise.items():
        count = terms.shape[1]
        for first in range(0, resamples, _BLOCK):
            part = slice(first, first + _BLOCK)
            by_sample = _counts(task, count, resamples)[part].astype(np.float32)
            means = by_sample @ terms.T.astype(np.float32) / count
            total[part] += (by_seed[part] * means).sum(axis=1)
    return total


@lru_cache(maxsize=64)
def _counts(what: str, count: int, resamples: int) -> NDArray[np.uint16]:
    """How often each of ``count`` things is drawn, (resamples, count).

    The same for everything that is estimated: methods are compared on the same draws.
    """
    generator = np.random.default_rng([crc32(what.encode()), count])
    drawn = np.empty((resamples, count), dtype=np.uint16)
    for first in range(0, resamples, _BLOCK):
        size = min(_BLOCK, resamples - first)
        drawn[first : first + size] = generator.multinomial(count, np.full(count, 1 / count), size)
    return drawn


def _sample_terms(
    runs: Runs,
    other: Runs | None,
    measure: str,
    sequences: Sequence[str],
    seeds: Sequence[int],
) -> dict[str, NDArray[np.float64]] | None:
    """What each test sample adds to the mean measure: by task (seeds, samples).

    None where that is not known of every entry of R that counts.
    """
    by_task: dict[str, NDArray[np.float64]] = {}
    for sequence in sequences:
        for row, seed in enumerate(seeds):
            for sign, source in ((1.0, runs), (-1.0, other)):
                if source is None:
                    continue
                matrix = source[sequence, seed]
                weights = measure_weights(measure, len(matrix.values), len(matrix.order))
                if weights is None or matrix.answers is None or measure == "forward_transfer":
                    return None
                for stage, task in np.argwhere(weights):
                    answers = matrix.answers[stage][task]
                    if answers is None:
                        return None
                    name = matrix.order[task]
                    terms = by_task.setdefault(name, np.zeros((len(seeds), len(answers))))
                    if terms.shape[1] != len(answers):
                        return None
                    terms[row] += sign * weights[stage, task] * answers / len(sequences)
    return by_task
