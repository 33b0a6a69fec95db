"""What a network says about each class, sample by sample: for calibration, votes and analyses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from headrace.encoding.collate import SampleLocations
from headrace.encoding.sidecar import EncodedSource
from headrace.tasks.multiple_choice import MultipleChoice
from headrace.tasks.sequence_classification import SequenceClassification
from headrace.tasks.task import Task
from headrace.tasks.token_classification import TokenClassification

Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Answered:
    """The scores of one sample: of its words, or of the sample itself as the only item."""

    scores: Scores
    """``[items, classes]``: logits of tags, choices or labels; one class where a score is learned.
    A word without a token has no numbers (NaN)."""
    gold: NDArray[np.int64]
    """``[items]``: the right classes; -1 where a score is learned."""
    target: float | None = None
    """The right score, where one is learned."""
    subset: str | None = None
    question: str | None = None


def has_classes(task: Task) -> bool:
    """Whether :func:`class_scores` knows the task."""
    return isinstance(task, TokenClassification | MultipleChoice | SequenceClassification)


def class_scores(
    task: Task, source: EncodedSource, samples: SampleLocations, logits: torch.Tensor
) -> Iterator[Answered]:
    """Yield what a batch of logits says about each of its samples.

    Raises:
        ValueError: for a task that :func:`has_classes` denies.
    """
    rows = logits.detach().float().cpu().numpy()
    places = zip(samples.shard.tolist(), samples.sample.tolist(), strict=True)
    for row, (number, index) in zip(rows, places, strict=True):
        shard = source.shards[number]
        subset = shard.subset(index)
        if isinstance(task, TokenClassification):
            positions = shard.word_positions(index).astype(np.int64)
            scores = row[positions]
            scores[positions < 0] = np.nan
            yield Answered(scores, shard.word_tags(index).astype(np.int64), subset=subset)
        elif isinstance(task, MultipleChoice):
            choices = len(shard.choice_offsets(index)) - 1
            gold = np.array([shard.label(index)], dtype=np.int64)
            question = shard.question(index)
            yield Answered(row[None, :choices], gold, subset=subset, question=question)
        elif isinstance(task, SequenceClassification):
            head = task.heads.of(source.language)
            scores = row[None, head.start : head.stop]
            if head.labels is None:
                gold = np.array([-1], dtype=np.int64)
                yield Answered(scores, gold, target=shard.score(index), subset=subset)
            else:
                label = head.numbers[str(shard.label_name(index))]
                yield Answered(scores, np.array([label], dtype=np.int64), subset=subset)
        else:
            raise ValueError(f"{task.name} has no classes")
