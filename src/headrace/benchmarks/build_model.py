"""The peer's model of languages, for the benchmark ``build``: trained here, in the peer's package.

What it would download is not at hand everywhere; what it costs to ask does not depend on how well
it was taught.
"""

from __future__ import annotations

import os
from pathlib import Path

from headrace.benchmarks.build_contestants import PROGRAMS
from headrace.benchmarks.build_data import originals
from headrace.benchmarks.programs import answer_of, start

_DOCUMENTS = 1500


def train_model(
    interpreter: str, folder: Path, model: Path, corpora: Path | None, seed: int
) -> None:
    """Train a model with the fastText of an environment, on documents of known languages.

    Raises:
        FailedError: if it cannot be trained.
    """
    lines = folder / "languages.txt"
    with lines.open("w", encoding="utf-8") as file:
        for text in originals(corpora, _DOCUMENTS, seed):
            file.write(f"__label__{text.language} {' '.join(text.text.split())}\n")
    task = {"lines": str(lines), "model": str(model), "cores": sorted(os.sched_getaffinity(0))}
    answer_of(start(interpreter, PROGRAMS / "harness.py", "language_model", task, {}))
