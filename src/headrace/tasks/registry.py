"""The tasks by the names that they have in a run config, and the task of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from headrace.config.task_sections import (
    DISCOVER,
    MultipleChoiceConfig,
    SequenceClassificationConfig,
    TokenClassificationConfig,
)
from headrace.tasks.heads import heads_of_config
from headrace.tasks.labels import discover_label_set, load_label_set
from headrace.tasks.multiple_choice import MultipleChoice
from headrace.tasks.sequence_classification import SequenceClassification
from headrace.tasks.task import Task
from headrace.tasks.token_classification import TokenClassification

if TYPE_CHECKING:
    from headrace.shards.reader import ShardReader

TASKS: Mapping[str, type[Task]] = {
    task.name: task for task in (TokenClassification, MultipleChoice, SequenceClassification)
}

TASK_CONFIGS = {
    TokenClassification.name: TokenClassificationConfig,
    MultipleChoice.name: MultipleChoiceConfig,
    SequenceClassification.name: SequenceClassificationConfig,
}
"""Task -> its section in a run config."""


def task_of_config(
    config: TokenClassificationConfig | MultipleChoiceConfig | SequenceClassificationConfig,
    train: Mapping[str, ShardReader] | None,
) -> Task | None:
    """Return the task of a run.

    Args:
        config: section ``task`` of a run config.
        train: the training sources by name, for labels that are to be found there; None if they
            cannot all be read, and then such a task is None.

    Raises:
        LabelError: with all problems of the labels.
    """
    if isinstance(config, MultipleChoiceConfig):
        return MultipleChoice(label_smoothing=config.label_smoothing)
    if isinstance(config, SequenceClassificationConfig):
        heads = heads_of_config(config, train)
        if heads is None:
            return None
        return SequenceClassification(heads, label_smoothing=config.label_smoothing)
    if config.labels != DISCOVER:
        label_set = load_label_set(config.labels)
    elif train is not None:
        label_set = discover_label_set(train.values())
    else:
        return None
    return TokenClassification(label_set, label_smoothing=config.label_smoothing)
