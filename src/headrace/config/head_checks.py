"""Checks of the heads of sequence classification: each source has one."""

from __future__ import annotations

from headrace.config.messages import did_you_mean
from headrace.config.schema import HeadraceConfig
from headrace.config.task_sections import SequenceClassificationConfig
from headrace.errors import Problem

_WHERE = "headrace.task.heads"


def check_heads(config: HeadraceConfig) -> list[Problem]:
    """Check that the heads name each source of the training data once, and nothing else."""
    task = config.task
    if not isinstance(task, SequenceClassificationConfig) or task.heads is None:
        return []
    if not task.heads:
        return [Problem("there is no head", _WHERE, "{}", "Name one, or leave the key out")]
    problems = []
    known = config.data.train
    head_of: dict[str, str] = {}
    for name, head in task.heads.items():
        for number, source in enumerate(head.sources):
            where = f"{_WHERE}.{name}.sources.{number}"
            if source not in known:
                what = "no training data has this name"
                problems.append(Problem(what, where, source, did_you_mean(source, known)))
            elif source in head_of:
                what = f"the source belongs to head {head_of[source]} already"
                problems.append(Problem(what, where, source, "Name it once"))
            else:
                head_of[source] = name
    problems += [
        Problem(
            "the source belongs to no head",
            _WHERE,
            source,
            f"Add it to the sources of one of {', '.join(task.heads)}, or give it its own",
        )
        for source in known
        if source not in head_of
    ]
    return problems
