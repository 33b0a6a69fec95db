"""Sequences of tasks at a size of seconds: the languages of the small corpus are the tasks."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from headrace.forgetting.run_document import TaskData
from headrace.forgetting.sequence import Group
from headrace.training.signals import StopFlag


@dataclass(frozen=True)
class SmallTasks:
    """A base config and tasks."""

    base: dict
    tasks: dict[str, TaskData]


@pytest.fixture(scope="session")
def small_tasks(small_corpus) -> SmallTasks:
    base = small_corpus.config(Path("unused"))
    base["headrace"]["stages"] = [{"name": "any", "keep_best": "last", "max_steps": 6}]
    base["headrace"]["model"]["config"]["initializer_range"] = 0.1
    for key in ("output", "seed"):
        del base["headrace"][key]
    return SmallTasks(
        base,
        {
            language: TaskData(
                small_corpus.source(language, "train"),
                small_corpus.source(language, "dev"),
                small_corpus.source(language, "dev"),
            )
            for language in small_corpus.languages
        },
    )


@pytest.fixture(scope="session")
def group(world) -> Group:
    """The process group of the tests, without signals."""
    return Group(world, StopFlag())
