"""The tasks by the names that they have in a run config, and the task of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from headrace.config.plug_ins import plug_in_task
from headrace.config.task_sections import TaskSection
from headrace.tasks.causal_lm import CausalLM
from headrace.tasks.masked_lm import MaskedLM
from headrace.tasks.multiple_choice import MultipleChoice
from headrace.tasks.sequence_classification import SequenceClassification
from headrace.tasks.task import Task
from headrace.tasks.token_classification import TokenClassification

if TYPE_CHECKING:
    from headrace.shards.reader import ShardReader

TASKS: Mapping[str, type[Task]] = {
    task.name: task
    for task in (TokenClassification, MultipleChoice, SequenceClassification, MaskedLM, CausalLM)
}


def task_of_config(config: TaskSection, train: Mapping[str, ShardReader] | None) -> Task | None:
    """Return the task of a run.

    Args:
        config: section ``task`` of a run config.
        train: the training sources by name, for labels that are to be found there; None if they
            cannot all be read, and then such a task is None.

    Raises:
        UserError: with all problems of the settings, such as of the labels.
    """
    return task_class(config.type).from_config(config, train)


def task_class(name: str) -> type[Task]:
    """Return the class of a task, built in or brought by another package.

    Raises:
        ConfigError: if there is none of this name, or it cannot be used.
    """
    return TASKS[name] if name in TASKS else cast("type[Task]", plug_in_task(name))
