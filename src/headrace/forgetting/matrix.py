"""The matrix R of a sequence of tasks, and the measures that are made of it.

``R[i, j]`` is the score on task j of the model after stage i.  Definitions: backward and forward
transfer as in Lopez-Paz and Ranzato (2017), *Gradient Episodic Memory*; forgetting as in Chaudhry
et al. (2018), *Riemannian Walk*; ``p_o`` and ``p_s`` as in Kenneweg et al. (2022), *Intelligent
Learning Rate Distribution*, for any number of tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

MEASURES: Mapping[str, str] = {
    "p_o": "p_o",
    "p_s": "p_s",
    "p": "p_s + p_o",
    "average": "Mean of all tasks",
    "backward_transfer": "Backward transfer",
    "forward_transfer": "Forward transfer",
    "forgetting": "Forgetting",
}
"""Measures by the names of :meth:`Matrix.measure`, with their titles."""

Answers = tuple[tuple["NDArray[np.bool_] | None", ...], ...]
"""By stage and task: which samples were answered right, in the order of the source."""


@dataclass(frozen=True)
class Matrix:
    """Scores of the model after each stage on each task.

    Raises:
        ValueError: for a shape that no sequence has.
    """

    order: tuple[str, ...]
    """The tasks, in the order in which they were trained."""
    values: NDArray[np.float64]
    """R, (stages, tasks), fractions: one row a task, or a single row if they were trained
    together."""
    start: NDArray[np.float64] | None = None
    """(tasks,): scores of the model before the first stage."""
    answers: Answers | None = None
    """Where the score of a sample is right or wrong: the mean of each array is its entry of R."""

    def __post_init__(self) -> None:
        tasks = len(self.order)
        if not tasks or self.values.shape not in {(tasks, tasks), (1, tasks)}:
            raise ValueError(f"R of {tasks} tasks has the shape {self.values.shape}")
        if self.start is not None and self.start.shape != (tasks,):
            raise ValueError(f"scores of {tasks} tasks at the start: {self.start.shape}")

    @classmethod
    def of(cls, order: Sequence[str], values: ArrayLike, start: ArrayLike | None = None) -> Matrix:
        """A matrix of plain numbers."""
        return cls(
            tuple(order),
            np.asarray(values, dtype=np.float64),
            None if start is None else np.asarray(start, dtype=np.float64),
        )

    @property
    def is_joint(self) -> bool:
        """Whether the tasks were trained together: there is no earlier model to compare with."""
        return len(self.order) > 1 and len(self.values) == 1

    def measure(self, name: str) -> float | None:
        """One of :data:`MEASURES`; None where it is not defined.

        * ``p_o``: mean score on all tasks but the last, after the last stage.  None of one task.
        * ``p_s``: score on the last task after the last stage.
        * ``p``: their sum.
        * ``average``: mean score on all tasks after the last stage.
        * ``backward_transfer``: mean over all tasks but the last of ``R[T - 1, j] - R[j, j]``;
          negative where tasks are forgotten.
        * ``forward_transfer``: mean over all tasks but the first of ``R[j - 1, j] - start[j]``.
        * ``forgetting``: mean over all tasks but the last of what the model scored at best before
          the last stage, minus what it scores after it.  Never below the negative of
          ``backward_transfer``.
        """
        if name == "forgetting":
            if self.is_joint or len(self.order) == 1:
                return None
            best = self.values[:-1, :-1].max(axis=0)
            return float(np.mean(best - self.values[-1, :-1]))
        weights = measure_weights(name, len(self.values), len(self.order))
        if weights is None or (name == "forward_transfer" and self.start is None):
            return None
        value = float((weights * self.values).sum())
        if name == "forward_transfer" and self.start is not None:
            value -= float(self.start[1:].mean())
        return value

    def measures(self) -> dict[str, float | None]:
        """All of them, by name."""
        return {name: self.measure(name) for name in MEASURES}

    def as_json(self) -> dict[str, Any]:
        """The matrix as plain data for :meth:`from_json`; answers as texts of 0 and 1."""
        return {
            "order": list(self.order),
            "values": self.values.tolist(),
            "start": None if self.start is None else self.start.tolist(),
            "answers": None
            if self.answers is None
            else [[_as_text(part) for part in row] for row in self.answers],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Matrix:
        """The matrix that :meth:`as_json` wrote."""
        plain = cls.of(data["order"], data["values"], data["start"])
        answers = data["answers"]
        if answers is None:
            return plain
        rows = tuple(tuple(_from_text(part) for part in row) for row in answers)
        return cls(plain.order, plain.values, plain.start, rows)


def measure_weights(name: str, stages: int, tasks: int) -> NDArray[np.float64] | None:
    """What each entry of R counts for in a measure that is a weighted sum of them.

    Returns:
        (stages, tasks); None where the measure is not defined, or is no such sum (``forgetting``).
        For ``forward_transfer`` the mean of the scores at the start is still to be taken off.
    """
    weights = np.zeros((stages, tasks))
    together = stages < tasks
    if name == "average":
        weights[-1] = 1 / tasks
        return weights
    if name in {"p_s", "p"}:
        weights[-1, -1] = 1
        if name == "p_s":
            return weights
    if tasks == 1:
        return None
    if name in {"p_o", "p"}:
        weights[-1, :-1] = 1 / (tasks - 1)
        return weights
    if together:
        return None
    earlier = np.arange(tasks - 1)
    if name == "backward_transfer":
        weights[-1, :-1] = 1 / (tasks - 1)
        weights[earlier, earlier] -= 1 / (tasks - 1)
        return weights
    if name == "forward_transfer":
        weights[earlier, earlier + 1] = 1 / (tasks - 1)
        return weights
    return None


def _as_text(part: NDArray[np.bool_] | None) -> str | None:
    return None if part is None else "".join("01"[int(right)] for right in part)


def _from_text(text: str | None) -> NDArray[np.bool_] | None:
    return None if text is None else np.array([letter == "1" for letter in text], dtype=np.bool_)
