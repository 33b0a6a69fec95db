"""Checks of the heads of sequence classification: each source has one, and there are no others."""

from __future__ import annotations

from headrace.config.messages import did_you_mean
from headrace.config.schema import HeadraceConfig
from headrace.config.task_sections import DISCOVER, SequenceClassificationConfig
from headrace.errors import Problem

_WHERE = "headrace.task.heads"


def check_heads(config: HeadraceConfig) -> list[Problem]:
    """Check which sources the heads name, and that labels to be discovered can be."""
    task = config.task
    if not isinstance(task, SequenceClassificationConfig) or task.heads is None:
        return []
    problems = []
    known = {*config.data.train, *config.data.validation}
    head_of: dict[str, str] = {}
    for name, head in task.heads.items():
        for number, source in enumerate(head.sources):
            where = f"{_WHERE}.{name}.sources.{number}"
            if source not in known:
                what = "no training or validation data has this name"
                problems.append(Problem(what, where, source, did_you_mean(source, known)))
            elif source in head_of:
                what = f"the source belongs to head {head_of[source]} already"
                problems.append(Problem(what, where, source, "Name it once"))
            else:
                head_of[source] = name
        labels = head.labels or task.labels
        if labels in (None, DISCOVER) and not set(head.sources) & set(config.data.train):
            problems.append(
                Problem(
                    "labels are discovered in training data, and no source of the head has any",
                    f"{_WHERE}.{name}.labels",
                    DISCOVER,
                    "List the labels",
                )
            )
    problems += [
        Problem(
            "the source belongs to no head",
            _WHERE,
            source,
            f"Add it to the sources of one of {', '.join(task.heads)}, or give it its own",
        )
        for source in sorted(known - set(head_of))
    ]
    if not task.heads:
        problems = [Problem("there is no head", _WHERE, "{}", "Name one, or leave the key out")]
    return problems
