"""A study of real sequences: two tasks of the label corpus, a very small network."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class SmallStudy:
    """Writes study files whose trials take a second or two."""

    folder: Path
    base: dict
    tasks: dict

    def write(self, path: Path, output: Path, **changes) -> Path:
        values = {
            "name": "small", "output": str(output), "base": self.base, "tasks": self.tasks,
            "pairs": [["weather", "pairs"]], "trials": 2, "sampler": "random", "flat": True,
            "range": [1e-4, 1e-2], "beat_seconds": 0.5,
        }  # fmt: skip
        path.write_text(json.dumps(values | changes))
        return path


@pytest.fixture(scope="session")
def small_study(label_corpus, tmp_path_factory) -> SmallStudy:
    folder = tmp_path_factory.mktemp("small_study")
    path = label_corpus.write_config(folder / "run.json", folder / "run")
    base = json.loads(path.read_text())
    section = base["headrace"]
    section["task"]["heads"] = {name: {"sources": [name]} for name in ("weather", "pairs")}
    section["stages"] = [{"name": "model", "epochs": 2}]
    for key in ("output", "seed"):
        del section[key]
    del section["data"]["train"], section["data"]["validation"]
    tasks = {
        name: {
            "train": label_corpus.source(name, "train"),
            "validation": label_corpus.source(name, "dev"),
        }
        for name in ("weather", "pairs")
    }
    return SmallStudy(folder, base, tasks)
