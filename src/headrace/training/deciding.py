"""Answers made of what one model says, or several that vote, and their scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.errors import ConfigError, Problem
from headrace.tasks.calibration import Floats, probabilities
from headrace.tasks.choice_metrics import ChoiceScores
from headrace.tasks.class_scores import Answered
from headrace.tasks.multiple_choice import MultipleChoice
from headrace.tasks.sequence_classification import SequenceClassification
from headrace.tasks.task import Task
from headrace.tasks.token_classification import TokenClassification
from headrace.tasks.voting import classes_of, majority, mean_probabilities, valid_tags


@dataclass(frozen=True)
class Decision:
    """The answer to one sample."""

    classes: NDArray[np.int64]
    """``[items]``; -1 for a word that no model sees."""
    shares: Floats
    """``[items, classes]``: the mean of the models' probabilities; of a score the mean score."""


def decide(shares: Sequence[Floats], vote: str, *, is_score: bool = False) -> Decision:
    """Return the answer of some models to one sample.

    Args:
        shares: probabilities, ``[items, classes]``, of each model; scores where one is learned.
        vote: one of :data:`headrace.tasks.voting.VOTES`; it does not matter for one model.
        is_score: whether these are scores: their mean is the answer.
    """
    mean = mean_probabilities(shares) if len(shares) > 1 else shares[0]
    if is_score:
        return Decision(np.zeros(len(mean), dtype=np.int64), mean)
    if vote == "majority" and len(shares) > 1:
        return Decision(majority([classes_of(one) for one in shares]), mean)
    return Decision(classes_of(mean), mean)


def decide_all(
    members: Sequence[Sequence[Answered]], temperatures: Sequence[float], vote: str
) -> list[Decision]:
    """Return the answers to all samples of a source.

    Args:
        members: the answers of each model, in the same order.
        temperatures: of each model.
        vote: one of :data:`headrace.tasks.voting.VOTES`.
    """
    decisions = []
    for answers in zip(*members, strict=True):
        is_score = answers[0].target is not None
        shares = [
            np.asarray(answered.scores, dtype=np.float64)
            if is_score
            else probabilities(answered.scores, temperature)
            for answered, temperature in zip(answers, temperatures, strict=True)
        ]
        decisions.append(decide(shares, vote, is_score=is_score))
    return decisions


def check_same_classes(
    tasks: Sequence[Task], names: Sequence[str], language: str | None = None
) -> None:
    """Raise :class:`ConfigError` where models cannot vote together.

    ``language`` is the source that they are to vote on; None: whatever there is.
    """
    kinds = [_classes(task, language) for task in tasks]
    problems = [
        Problem(
            f"this model cannot vote with {names[0]}: its {what} are others",
            name,
            language,
            "Give models of one task with the same labels",
        )
        for name, (what, kind) in zip(names, kinds, strict=True)
        if kind != kinds[0][1]
    ]
    if problems:
        raise ConfigError(problems)


def _classes(task: Task, language: str | None) -> tuple[str, Any]:
    if isinstance(task, TokenClassification):
        return "tags", task.label_set.tags
    if isinstance(task, SequenceClassification):
        head = task.heads.of_all
        if language is not None and task.heads.have(language):
            head = task.heads.of(language)
        return "labels", (task.name, head and head.labels)
    return "answers", task.name


def tags_of(task: TokenClassification, decision: Decision, *, voted: bool) -> list[str]:
    """Return one tag a word; those of a vote are made well-formed."""
    names = task.label_set.tags
    tags = ["O" if one < 0 else names[one] for one in decision.classes.tolist()]
    return valid_tags(tags) if voted else tags


def measure(
    task: Task,
    language: str,
    answers: Sequence[Answered],
    decisions: Sequence[Decision],
    *,
    voted: bool,
) -> dict[str, Any]:
    """Return the scores of decisions, as a validation gives them."""
    scores: Any = task.new_scores()
    for answered, decision in zip(answers, decisions, strict=True):
        subset, gold = answered.subset, answered.gold
        if isinstance(task, TokenClassification):
            tags = tags_of(task, decision, voted=voted)
            scores.update(task.names_of_tags(gold.tolist()), tags, subset)
        elif isinstance(task, MultipleChoice):
            assert isinstance(scores, ChoiceScores)
            scores.update(
                int(gold[0]),
                int(decision.classes[0]),
                decision.shares.shape[1],
                subset=subset,
                question=answered.question,
            )
        elif isinstance(task, SequenceClassification):
            labels = task.heads.of(language).labels
            if labels is None:
                assert answered.target is not None
                scores.add_score(answered.target, float(decision.shares[0, 0]), subset=subset)
            else:
                scores.add_label(
                    labels[int(gold[0])], labels[int(decision.classes[0])], subset=subset
                )
    result: dict[str, Any] = scores.result()
    return result


def mean_loss(answers: Sequence[Answered], decisions: Sequence[Decision]) -> float:
    """Return the negative log-likelihood of the mean probabilities; of scores the squared error.

    It is the mean over the items that a model sees, in nats.
    """
    total, items = 0.0, 0
    for answered, decision in zip(answers, decisions, strict=True):
        if answered.target is not None:
            total += float((decision.shares[0, 0] - answered.target) ** 2)
            items += 1
            continue
        is_seen = ~np.isnan(decision.shares).any(-1)
        right = decision.shares[is_seen, answered.gold[is_seen]]
        total -= float(np.log(np.maximum(right, np.finfo(np.float64).tiny)).sum())
        items += int(is_seen.sum())
    return total / max(1, items)


def as_answers(answers: Sequence[Answered], decisions: Sequence[Decision]) -> list[Answered]:
    """Return the mean probabilities of a vote as if one model had said them."""
    with np.errstate(divide="ignore"):
        return [
            Answered(
                np.log(decision.shares).astype(np.float32),
                answered.gold,
                answered.target,
                answered.subset,
                answered.question,
            )
            for answered, decision in zip(answers, decisions, strict=True)
        ]


def subsets_of(answers: Sequence[Answered]) -> Mapping[str, list[Answered]]:
    """Return answers by the name of their subset, sorted; those without one are left out."""
    found: dict[str, list[Answered]] = {}
    for answered in answers:
        if answered.subset is not None:
            found.setdefault(answered.subset, []).append(answered)
    return dict(sorted(found.items()))
