"""The tasks by the names that they have in a run config, and the task of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from headrace.config.schema import MultipleChoiceConfig, TokenClassificationConfig
from headrace.tasks.labels import discover_label_set, load_label_set
from headrace.tasks.multiple_choice import MultipleChoice
from headrace.tasks.task import Task
from headrace.tasks.token_classification import TokenClassification

if TYPE_CHECKING:
    from headrace.shards.reader import ShardReader

TASKS: Mapping[str, type[Task]] = {
    task.name: task for task in (TokenClassification, MultipleChoice)
}

TASK_CONFIGS = {
    TokenClassification.name: TokenClassificationConfig,
    MultipleChoice.name: MultipleChoiceConfig,
}
"""Task -> its section in a run config."""


def task_of_config(
    config: TokenClassificationConfig | MultipleChoiceConfig,
    train: Sequence[ShardReader] | None,
) -> Task | None:
    """Return the task of a run.

    Args:
        config: section ``task`` of a run config.
        train: the training sources, for labels that are to be found there; None if they cannot all
            be read, and then such a task is None.

    Raises:
        LabelError: with all problems of the labels.
    """
    if isinstance(config, MultipleChoiceConfig):
        return MultipleChoice(label_smoothing=config.label_smoothing)
    if config.labels != "discover":
        label_set = load_label_set(config.labels)
    elif train is not None:
        label_set = discover_label_set(train)
    else:
        return None
    return TokenClassification(label_set, label_smoothing=config.label_smoothing)
