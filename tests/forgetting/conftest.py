"""Sequences of tasks at a size of seconds."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from headrace.forgetting.run_document import TaskData
from headrace.forgetting.sequence import Group, run_sequence
from headrace.training.signals import StopFlag


@dataclass(frozen=True)
class SmallTasks:
    """A base config and tasks: ``weather`` (four labels) and ``pairs`` (two)."""

    base: dict
    tasks: dict[str, TaskData]

    def experiment(self, output: Path, **changes) -> dict:
        """An experiment file of a few runs; `changes` are keys of the file."""
        return {
            "output": str(output),
            "base": self.base,
            "tasks": {name: vars(data) for name, data in self.tasks.items()},
            "sequences": [["weather", "pairs"]],
            "seeds": [1, 2],
            "tuning": {"sequences": [["pairs", "weather"]], "seeds": [0], "values": 2},
            "methods": {
                "flat": {"set": {"optimizer.params.lr": 1e-3}},
                "flat_tuned": {"tune": {"optimizer.params.lr": [1e-5, 1e-2]}},
                "replay": {"like": "flat_tuned", "replay": 0.2},
                "wise_ft": {
                    "title": "WiSE-FT", "like": "flat_tuned", "tune": {"interpolation": [0.3, 0.6]},
                },
                "joint": {"like": "flat_tuned", "joint": True},
            },
            **changes,
        }  # fmt: skip


@pytest.fixture(scope="session")
def small_tasks(label_corpus, tmp_path_factory) -> SmallTasks:
    folder = tmp_path_factory.mktemp("small_tasks")
    base = json.loads(label_corpus.write_config(folder / "base.json", folder).read_text())
    section = base["headrace"]
    section["stages"] = [{"name": "any", "keep_best": "last", "max_steps": 8}]
    section["logging"]["tensorboard"] = False
    for key in ("output", "seed"):
        del section[key]
    tasks = {
        name: TaskData(
            label_corpus.source(name, "train"),
            label_corpus.source(name, "dev"),
            label_corpus.source(name, "dev"),
        )
        for name in ("weather", "pairs", "wetness")
    }
    return SmallTasks(base, tasks)


@pytest.fixture(scope="session")
def group(world) -> Group:
    """The process group of the tests, without signals."""
    return Group(world, StopFlag())


@pytest.fixture
def run(small_tasks, group, tmp_path):
    """Runs a sequence in a folder, with settings that a test can change."""

    def call(name="one", order=("weather", "pairs"), **changes):
        settings = {
            "overrides": {"optimizer.params.lr": 1e-2},
            "seed": 1,
            "splits": "test",
            "group": group,
            **changes,
        }
        return run_sequence(small_tasks.base, small_tasks.tasks, order, tmp_path / name, **settings)

    return call
