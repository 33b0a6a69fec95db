"""Scores of multiple choice: how many samples were answered right, beside what chance gives."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

COUNTS_VERSION = 1
"""Version of the form that :meth:`ChoiceScores.counts` gives."""

_WHOLE = ""
"""The name of all samples together, in either kind of group."""
_KINDS = ("subsets", "questions")


class ChoiceScores:
    """Counts of samples and right answers by subset and question.

    Samples are counted by their number of choices, from which the chance level follows exactly,
    in whatever order and division they are added up.
    """

    def __init__(self) -> None:
        self._groups: dict[str, dict[str, _Group]] = {
            kind: {_WHOLE: _Group()} if kind == _KINDS[0] else {} for kind in _KINDS
        }

    def update(
        self,
        label: int,
        predicted: int,
        choices: int,
        *,
        subset: str | None = None,
        question: str | None = None,
    ) -> None:
        """Count one sample: the right choice, the chosen one, and how many there were."""
        names = (("subsets", _WHOLE), ("subsets", subset), ("questions", question))
        for kind, name in names:
            if name is not None:
                self._groups[kind].setdefault(name, _Group()).add(choices, label == predicted)

    def counts(self) -> dict[str, Any]:
        """All counts as a JSON-able object, for :meth:`merge` in another process."""
        groups = {
            kind: {name: group.counts() for name, group in members.items()}
            for kind, members in self._groups.items()
        }
        return {"version": COUNTS_VERSION, "groups": groups}

    def merge(self, counts: Mapping[str, Any]) -> None:
        """Add the ``counts()`` of another object; ``ValueError`` if it is of another version."""
        if counts["version"] != COUNTS_VERSION:
            raise ValueError("the counts belong to another version")
        for kind, members in counts["groups"].items():
            for name, group in members.items():
                self._groups[kind].setdefault(name, _Group()).merge(group)

    def result(self) -> dict[str, Any]:
        """All scores as a JSON-able object: one entry of ``metrics`` in ``results.json``.

        ``accuracy`` is the share of samples answered right, ``chance`` the mean of 1 / choices:
        the accuracy of guessing.  Both are 0 without a sample.
        """
        result = self._groups["subsets"][_WHOLE].result()
        for kind, members in self._groups.items():
            result[kind] = {
                name: members[name].result() for name in sorted(members) if name != _WHOLE
            }
        return result


class _Group:
    """Samples by their number of choices, and the right answers among all of them."""

    def __init__(self) -> None:
        self.samples: dict[int, int] = {}
        self.correct = 0

    def add(self, choices: int, is_correct: bool) -> None:
        self.samples[choices] = self.samples.get(choices, 0) + 1
        self.correct += is_correct

    def counts(self) -> dict[str, Any]:
        return {"samples": sorted(self.samples.items()), "correct": self.correct}

    def merge(self, counts: Mapping[str, Any]) -> None:
        self.correct += counts["correct"]
        for choices, samples in counts["samples"]:
            self.samples[choices] = self.samples.get(choices, 0) + samples

    def result(self) -> dict[str, Any]:
        total = sum(self.samples.values())
        # Exact: a sum of floats would depend on the order in which ranks are added up.
        guessed = sum((Fraction(n, choices) for choices, n in self.samples.items()), Fraction(0))
        return {
            "accuracy": self.correct / total if total else 0.0,
            "samples": total,
            "chance": float(guessed / total) if total else 0.0,
        }
