"""A run of several stages over the small corpus, with phases and epoch limits."""

from __future__ import annotations

from pathlib import Path

import pytest

STAGES = [
    {
        "name": "multilingual",
        "epochs": 4,
        "keep_best": "last",
        "mixture": {
            "temperature": 0.3,
            "max_epochs": {"zh": 3, "hi": 2.5},
            "phases": [
                {"from_epoch": 1.5, "temperature": 1, "max_share": {"en": 0.4}},
                {"from_epoch": 2, "weights": {"en": 2, "zh": 1}, "max_share": 1},
            ],
        },
    },
    {
        "name": "monolingual",
        "for_each": "language",
        "languages": ["en", "zh"],
        "start_from": "multilingual",
        "keep_best": "last",
    },
]


@pytest.fixture(scope="session")
def run_config(small_corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("commands")
    changes = {"headrace.stages": STAGES, "zero_optimization": {"stage": 1}}
    return small_corpus.write_config(folder / "run.json", folder / "out", **changes)
