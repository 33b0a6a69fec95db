"""Votes of several models on the same items: words, questions or texts.

A model that cannot see a word (it lies beyond the model's maximum length) has no vote on it; a word
that no model sees is ``O``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.tasks.calibration import Floats
from headrace.tasks.spans import OUTSIDE

VOTES = ("majority", "probabilities")
NONE = -1
"""The class of an item that a model cannot see."""


def classes_of(scores: NDArray[Any]) -> NDArray[np.int64]:
    """Return the class with the highest score of each item, the first of equals.

    ``scores`` is ``[items, classes]``; an item without numbers has :data:`NONE`.
    """
    unseen = np.isnan(scores).any(-1)
    filled = np.where(unseen[:, None], 0, scores)
    return np.where(unseen, NONE, filled.argmax(-1))


def majority(votes: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return the class that most models give each item.

    Args:
        votes: ``[items]`` of each model, :data:`NONE` where it has no vote.

    Of classes with equally many votes it is the one whose first vote comes from the earlier model.
    """
    given = np.stack(votes)
    result = np.full(given.shape[1], NONE, dtype=np.int64)
    most = np.zeros(given.shape[1], dtype=np.int64)
    for vote in given:
        count = (given == vote).sum(0)
        better = (vote != NONE) & (count > most)
        result[better], most[better] = vote[better], count[better]
    return result


def mean_probabilities(shares: Sequence[Floats]) -> Floats:
    """Return the mean over the models that see an item, ``[items, classes]``.

    An item that none sees has no numbers.
    """
    stacked = np.stack(shares)
    is_seen = ~np.isnan(stacked).any(-1, keepdims=True)
    count = is_seen.sum(0)
    total = np.where(is_seen, stacked, 0).sum(0)
    mean: Floats = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return mean


def valid_tags(tags: Sequence[str]) -> list[str]:
    """Return well-formed IOB2 tags: an ``I-x`` that no ``x`` leads to becomes ``B-x``.

    Words are voted on one by one, and what wins on two neighbours need not fit together.
    """
    result: list[str] = []
    before = OUTSIDE
    for tag in tags:
        if tag.startswith("I-") and before[2:] != tag[2:]:
            tag = f"B-{tag[2:]}"
        result.append(tag)
        before = tag
    return result
