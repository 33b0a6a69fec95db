"""A study whose value has a closed form: quick, and its best rates are known."""

import math
from pathlib import Path

from headrace.config.learning_rates import SelectConfig
from headrace.search.study import ALL, Space, Study, open_study
from headrace.search.study_file import StudyFile

GROUPS = ("embeddings", "low", "high", "rest")
BEST = {"embeddings": -6.0, "low": -5.5, "high": -5.0, "rest": -4.0, ALL: -5.0}
"""Decimal logarithm of the best rate of each group."""
EPOCHS = 4
SPACE = Space(
    {
        "embeddings": SelectConfig(part="embeddings"),
        "low": SelectConfig(layers="0-1"),
        "high": SelectConfig(layers="2-3"),
        "rest": SelectConfig(part="rest"),
    },
    "bert",
    {"encoder": 4},
)


def study_file(folder: Path, **changes) -> StudyFile:
    tasks = {name: {"train": "x", "validation": "y"} for name in ("a", "b", "c")}
    values = {
        "name": "analytic", "output": str(folder), "base": "none.json", "tasks": tasks,
        "pairs": [["a", "b"]], "trials": 20, "flat": False, "sampler": "random",
        "beat_seconds": 0.2, "stale_seconds": 60.0,
    }  # fmt: skip
    return StudyFile.model_validate(values | changes)


def open_analytic(folder: Path, **changes) -> Study:
    return open_study(study_file(folder, **changes), {}, EPOCHS, lambda: SPACE)


def value_of(rates, epochs: int = EPOCHS) -> float:
    """2 at the best rates, less by the squared distance in decades; runs cut short are worse."""
    distance = sum((math.log10(rate) - BEST[name]) ** 2 for name, rate in rates.items())
    return 2 - 0.05 * distance - 0.1 * (EPOCHS - epochs)
