"""The score of a model on each task, and which samples it answers right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from headrace.encoding.sidecar import EncodedSource
from headrace.errors import Problem, UserError
from headrace.stream.plan import Locations
from headrace.tasks.task import Task
from headrace.training.inference import TrainedModel, encode_for_model, score

_SHARE_OF_SAMPLES = "accuracy"
"""The score that is the share of samples that are answered right."""


@dataclass(frozen=True)
class TaskScore:
    """How a model does on one task."""

    name: str
    """Of the score, as in ``results.json``."""
    value: float
    metrics: Mapping[str, Any]
    """All scores."""
    answers: NDArray[np.bool_] | None
    """Whether each sample, in the order of the source, is answered right; None where the score is
    not the share of these."""


def score_tasks(
    model: TrainedModel,
    urls: Mapping[str, str],
    *,
    cache_dir: Path,
    batch_size: int,
    score_name: str | None = None,
) -> dict[str, TaskScore]:
    """Score a model on the shards of each task.

    Args:
        model: of any task.
        urls: shards by task.
        cache_dir: local folder for encoded data.
        batch_size: samples at once.
        score_name: score of the tasks that have it.  Default: the first that the task's kind has,
            of those of which more is better.

    Raises:
        UserError: with the problems of all sources, or if less of the score is better.
    """
    if score_name is not None and (found := problems_of_score(model.task, score_name, "score")):
        raise UserError(found)
    sources = encode_for_model(model, urls, cache_dir)
    recorder = _Recorder(model.task)
    # what it does not have is the task's own
    recorded: Any = replace(model, task=recorder)  # type: ignore[arg-type]
    measured = score(recorded, sources, batch_size=batch_size, title="scoring")
    scores = {}
    for task, source in sources.items():
        metrics = measured.metrics[task]
        name = _name_of(metrics, model.task, score_name)
        answers = recorder.answers_of(source) if name == _SHARE_OF_SAMPLES else None
        # a correlation is not defined where all answers are the same: nothing is known of the task
        value = float(metrics[name] or 0)
        scores[task] = TaskScore(name, 0.0 if isnan(value) else value, metrics, answers)
    return scores


def problems_of_score(task: Task, name: str, where: str) -> list[Problem]:
    """What is wrong with a score as one whose greatest value is the best."""
    if name not in task.lower_is_better:
        return []
    others = [one for one in task.scores if one not in task.lower_is_better]
    return [Problem("less of this score is better", where, name, f"Use {' or '.join(others)}")]


def _name_of(metrics: Mapping[str, Any], task: Task, wanted: str | None) -> str:
    """The wanted score, or the first of the task that these metrics have.

    Forgetting is told from scores of which more is better.
    """
    names = ([] if wanted is None else [wanted]) + list(task.scores)
    return next(name for name in names if name in metrics and name not in task.lower_is_better)


@dataclass
class _Recorder:
    """A task that keeps what it is asked to score, sample by sample."""

    task: Task
    right: dict[int, dict[tuple[int, int], bool]] = field(default_factory=dict)
    """By the identity of the source: (shard, sample) -> whether it is answered right."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.task, name)

    def score(
        self,
        scores: Any,
        source: EncodedSource,
        samples: Locations,
        logits: torch.Tensor,
        batch: Mapping[str, Any],
    ) -> None:
        """Pass on, and score each sample by itself."""
        self.task.score(scores, source, samples, logits, batch)
        if _SHARE_OF_SAMPLES not in self.task.scores:
            return
        right = self.right.setdefault(id(source), {})
        for row in range(len(samples)):
            alone = self.task.new_scores()
            one = slice(row, row + 1)
            own = {name: tensor[one] for name, tensor in batch.items()}
            self.task.score(alone, source, samples.take(one), logits[one], own)
            place = int(samples.shard[row]), int(samples.sample[row])
            right[place] = alone.result().get(_SHARE_OF_SAMPLES) == 1.0

    def answers_of(self, source: EncodedSource) -> NDArray[np.bool_] | None:
        right = self.right.get(id(source))
        return None if not right else np.array([right[place] for place in sorted(right)])
