"""How far the probabilities of a classifier can be believed, and the temperature that mends them.

An item is a word, a question or a text; its confidence is the probability of the class that the
model gives it.  All figures are those of Guo et al., *On Calibration of Modern Neural Networks*,
ICML 2017: expected calibration error over equally wide bins, and one temperature that all logits
are divided by, fitted to the negative log-likelihood.  No answer changes by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
BINS = 15
LOWEST, HIGHEST = 0.05, 20.0
"""Bounds of a temperature: where no answer is wrong the best one is 0."""
FEWEST = 100
"""Items that a language needs to have a temperature of its own."""
_ROWS = 65_536
"""Items that are computed at once."""


def probabilities(scores: NDArray[Any], temperature: float = 1.0) -> Floats:
    """Return the softmax of ``scores / temperature`` over the last axis.

    Classes with minus infinity have the probability 0; a row without numbers stays so.
    """
    scaled = np.asarray(scores, dtype=np.float64) / temperature
    scaled = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    shares: Floats = scaled / scaled.sum(axis=-1, keepdims=True)
    return shares


def at_temperature(shares: Floats, temperature: float) -> Floats:
    """Return probabilities as the softmax gives them at a temperature, from those at 1."""
    if temperature == 1.0:
        return shares
    with np.errstate(divide="ignore"):
        return probabilities(np.log(shares), temperature)


@dataclass
class Reliability:
    """Confidences and outcomes, added up in bins of equal width, each without its lower end."""

    items: int = 0
    brier: float = 0.0
    """Sum over items and classes of (probability - outcome)²."""
    log_loss: float = 0.0
    """Sum of minus the logarithm of the probability of what is right, in nats."""
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))
    correct: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))
    confidence: Floats = field(default_factory=lambda: np.zeros(BINS))
    """Sum of the confidences in each bin."""

    def add(self, shares: Floats, gold: NDArray[np.int64]) -> None:
        """Count items: ``[items, classes]`` probabilities, and ``[items]`` the right classes."""
        if not len(gold):
            return
        rows = np.arange(len(gold))
        given = shares.argmax(-1)
        right = shares[rows, gold]
        self.brier += float((shares**2).sum() - 2 * right.sum() + len(gold))
        self.log_loss += _log_loss(right)
        self._fill(shares[rows, given], given == gold)

    def add_events(self, confidence: Floats, happened: NDArray[np.bool_]) -> None:
        """Count answers that are right or wrong as a whole, each with its own probability.

        Of two outcomes one counts: the Brier score is half of that of :meth:`add`.
        """
        if not len(confidence):
            return
        self.brier += float(((confidence - happened) ** 2).sum())
        self.log_loss += _log_loss(np.where(happened, confidence, 1 - confidence))
        self._fill(confidence, happened)

    def _fill(self, confidence: Floats, is_right: NDArray[np.bool_]) -> None:
        places = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
        self.items += len(confidence)
        self.counts += np.bincount(places, minlength=BINS)
        self.correct += np.bincount(places, weights=is_right, minlength=BINS).astype(np.int64)
        self.confidence += np.bincount(places, weights=confidence, minlength=BINS)

    def result(self) -> dict[str, Any]:
        """All figures as a JSON-able object; None where there are no items."""
        if not self.items:
            return {"items": 0}
        gaps = np.abs(self.correct - self.confidence)
        return {
            "items": self.items,
            "accuracy": float(self.correct.sum() / self.items),
            "confidence": float(self.confidence.sum() / self.items),
            "expected_calibration_error": float(gaps.sum() / self.items),
            "brier": self.brier / self.items,
            "negative_log_likelihood": self.log_loss / self.items,
            "bins": [
                {
                    "low": number / BINS,
                    "high": (number + 1) / BINS,
                    "items": int(self.counts[number]),
                    "accuracy": float(self.correct[number] / self.counts[number]),
                    "confidence": float(self.confidence[number] / self.counts[number]),
                }
                for number in range(BINS)
                if self.counts[number]
            ],
        }


def _log_loss(right: Floats) -> float:
    # the least number that is not 0, so that one item does not make the sum infinite
    return float(-np.log(np.maximum(right, np.finfo(np.float64).tiny)).sum())


@dataclass(frozen=True)
class Fitted:
    """A temperature and what it is fitted to."""

    temperature: float
    items: int
    before: float
    """Negative log-likelihood of an item at temperature 1, in nats."""
    after: float

    @property
    def is_at_bound(self) -> bool:
        """Whether the best temperature lies beyond the bounds."""
        return not LOWEST * 1.001 < self.temperature < HIGHEST / 1.001


def fit_temperature(
    answers: Iterable[tuple[NDArray[Any], NDArray[np.int64]]],
) -> Fitted | None:
    """Find the temperature with the least negative log-likelihood.

    Args:
        answers: ``[items, classes]`` logits and ``[items]`` right classes; those with different
            numbers of classes may be mixed.

    Returns:
        None without items.  The negative log-likelihood is convex in 1 / temperature, so that its
        derivative has one root, which is found by bisection.
    """
    parts = _by_classes(answers)
    items = sum(len(gold) for _, gold in parts)
    if not items:
        return None
    low, high = 1 / HIGHEST, 1 / LOWEST
    if _slope(parts, low) >= 0:
        high = low
    elif _slope(parts, high) <= 0:
        low = high
    while high - low > 1e-9 * high:
        middle = (low * high) ** 0.5
        if not low < middle < high:
            break
        low, high = (middle, high) if _slope(parts, middle) < 0 else (low, middle)
    temperature = 2 / (low + high)
    before, after = (
        sum(
            _log_loss(probabilities(scores, value)[np.arange(len(gold)), gold])
            for scores, gold in parts
        )
        / items
        for value in (1.0, temperature)
    )
    return Fitted(temperature, items, before, after)


def _by_classes(
    answers: Iterable[tuple[NDArray[Any], NDArray[np.int64]]],
) -> list[tuple[NDArray[Any], NDArray[np.int64]]]:
    """The same items in few arrays."""
    found: dict[int, list[tuple[NDArray[Any], NDArray[np.int64]]]] = {}
    for scores, gold in answers:
        found.setdefault(scores.shape[1], []).append((scores, gold))
    parts = []
    for members in found.values():
        scores = np.concatenate([one for one, _ in members])
        gold = np.concatenate([one for _, one in members])
        parts += [
            (scores[first : first + _ROWS], gold[first : first + _ROWS])
            for first in range(0, len(gold), _ROWS)
        ]
    return parts


def _slope(parts: Sequence[tuple[NDArray[Any], NDArray[np.int64]]], inverse: float) -> float:
    """Derivative of the summed negative log-likelihood by 1 / temperature."""
    total = 0.0
    for scores, gold in parts:
        wide = scores.astype(np.float64)
        shares = probabilities(wide, 1 / inverse)
        mean = np.where(shares > 0, shares * np.where(np.isfinite(wide), wide, 0), 0).sum(-1)
        total += float((mean - wide[np.arange(len(gold)), gold]).sum())
    return total


@dataclass(frozen=True)
class Temperatures:
    """The temperatures of a model."""

    overall: float = 1.0
    groups: Mapping[str, float] = field(default_factory=dict)
    """By language; of sequence classification by head."""

    def of(self, group: str | None) -> float:
        """That of a language or head; the overall one where it has none."""
        return self.groups.get(group or "", self.overall)
