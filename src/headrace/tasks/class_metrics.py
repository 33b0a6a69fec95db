"""Scores of sequence classification: of labels, and of numbers (regression).

All are computed from counts, or from the pairs of numbers themselves, with exact sums: they do not
depend on the order of the samples, nor on how many processes shared them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

COUNTS_VERSION = 1
"""Version of the form that :meth:`SequenceScores.counts` gives."""

_WHOLE = ""
"""The name of all samples together."""


class SequenceScores:
    """Labels, or scores, of samples beside what a model says, by subset.

    The samples of a source are all of one kind.
    """

    def __init__(self) -> None:
        self._groups = {_WHOLE: _Group()}

    def add_label(self, label: str, predicted: str, *, subset: str | None = None) -> None:
        """Count one sample that has a label."""
        for group in self._groups_of(subset):
            group.labels[label, predicted] += 1

    def add_score(self, score: float, predicted: float, *, subset: str | None = None) -> None:
        """Count one sample that has a score."""
        for group in self._groups_of(subset):
            group.scores.append((score, predicted))

    def counts(self) -> dict[str, Any]:
        """All counts as a JSON-able object, for :meth:`merge` in another process."""
        groups = {name: group.counts() for name, group in self._groups.items()}
        return {"version": COUNTS_VERSION, "groups": groups}

    def merge(self, counts: Mapping[str, Any]) -> None:
        """Add the ``counts()`` of another object; ``ValueError`` if it is of another version."""
        if counts["version"] != COUNTS_VERSION:
            raise ValueError("the counts belong to another version")
        for name, group in counts["groups"].items():
            self._groups.setdefault(name, _Group()).merge(group)

    def result(self) -> dict[str, Any]:
        """All scores as a JSON-able object: one entry of ``metrics`` in ``results.json``.

        Of labels ``accuracy``, ``macro_f1``, ``matthews``, ``majority`` (the accuracy of always
        giving the most frequent label) and ``by_label``; of scores ``spearman``, ``pearson`` and
        ``mean_squared_error``.  A score whose denominator is 0 is 0, and so is a correlation with
        what is no number.
        """
        result = self._groups[_WHOLE].result()
        result["subsets"] = {
            name: self._groups[name].result() for name in sorted(self._groups) if name != _WHOLE
        }
        return result

    def _groups_of(self, subset: str | None) -> list[_Group]:
        names = [_WHOLE] if subset is None else [_WHOLE, subset]
        return [self._groups.setdefault(name, _Group()) for name in names]


class _Group:
    """Samples by their label and the predicted one, and pairs of score and predicted score."""

    def __init__(self) -> None:
        self.labels: Counter[tuple[str, str]] = Counter()
        self.scores: list[tuple[float, float]] = []

    def counts(self) -> dict[str, Any]:
        labels = [[label, predicted, n] for (label, predicted), n in sorted(self.labels.items())]
        return {"labels": labels, "scores": [list(pair) for pair in self.scores]}

    def merge(self, counts: Mapping[str, Any]) -> None:
        for label, predicted, samples in counts["labels"]:
            self.labels[label, predicted] += samples
        self.scores += [(score, predicted) for score, predicted in counts["scores"]]

    def result(self) -> dict[str, Any]:
        if self.scores:
            return _result_of_scores(self.scores)
        return _result_of_labels(self.labels) if self.labels else {"samples": 0}


def _result_of_labels(pairs: Mapping[tuple[str, str], int]) -> dict[str, Any]:
    gold: Counter[str] = Counter()
    predicted: Counter[str] = Counter()
    for (label, answer), samples in pairs.items():
        gold[label] += samples
        predicted[answer] += samples
    by_label = {
        label: _of_one_label(gold[label], predicted[label], pairs.get((label, label), 0))
        for label in sorted({*gold, *predicted})
    }
    total = gold.total()
    correct = sum(samples for (label, answer), samples in pairs.items() if label == answer)
    return {
        "accuracy": correct / total,
        "macro_f1": math.fsum(entry["f1"] for entry in by_label.values()) / len(by_label),
        "matthews": _matthews(gold, predicted, correct),
        "samples": total,
        "majority": max(gold.values()) / total,
        "by_label": by_label,
    }


def _of_one_label(gold: int, predicted: int, correct: int) -> dict[str, float]:
    return {
        "precision": correct / predicted if predicted else 0.0,
        "recall": correct / gold if gold else 0.0,
        "f1": 2 * correct / (gold + predicted),
        "gold": gold,
        "predicted": predicted,
        "correct": correct,
    }


def _matthews(gold: Mapping[str, int], predicted: Mapping[str, int], correct: int) -> float:
    """The correlation coefficient of any number of labels (Gorodkin 2004); whole numbers inside."""
    total = sum(gold.values())
    both = correct * total - sum(samples * predicted.get(name, 0) for name, samples in gold.items())
    spreads = [total**2 - sum(n**2 for n in counts.values()) for counts in (gold, predicted)]
    return both / math.sqrt(spreads[0] * spreads[1]) if all(spreads) else 0.0


def _result_of_scores(pairs: list[tuple[float, float]]) -> dict[str, Any]:
    gold, predicted = np.array(pairs, dtype=np.float64).T
    is_number = bool(np.isfinite(predicted).all())
    return {
        "spearman": _correlation(_ranks(gold), _ranks(predicted)) if is_number else 0.0,
        "pearson": _correlation(gold, predicted) if is_number else 0.0,
        "mean_squared_error": math.fsum((predicted - gold) ** 2) / len(pairs),
        "samples": len(pairs),
    }


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 1 on; equal values share the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return ranks


def _correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Pearson's correlation; 0 where one side is constant."""
    sides = []
    for values in (first, second):
        if values.min() == values.max():
            return 0.0
        centred = values - math.fsum(values) / len(values)
        sides.append(centred / np.abs(centred).max())
    squares = [math.fsum(side**2) for side in sides]
    value = math.fsum(sides[0] * sides[1]) / math.sqrt(squares[0] * squares[1])
    return max(-1.0, min(1.0, value))
