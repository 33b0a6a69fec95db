"""The experiment of Downie, *Fine-Tuning BERT via Submodular Maximization*, at a size of one's own.

Questions of a multiple-choice corpus are made redundant (1 % of them, 100 times each), parts of
them are chosen in several ways, and a pretrained encoder is trained on each part: one *trial*.  All
methods of a seed choose from the same rows, so they can be compared in pairs.

Everything lies in one folder, and what is finished is a file there: the experiment can be killed
and started again, and several processes work on it side by side.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tqdm import tqdm

from headrace.benchmarks import frame
from headrace.benchmarks.selection_experiment_data import Corpus, repeated_share
from headrace.benchmarks.selection_experiment_plan import Settings, Trial, trials_of
from headrace.errors import ConfigError, HeadraceError, Problem
from headrace.training.results import write_json

PACKAGES = ("torch", "deepspeed", "transformers", "faiss-cpu", "gensim", "numpy")
RESULT = "result.json"
"""In the folder of a trial, written last."""
_SETTINGS = "settings.json"


def run(settings: Settings, output: Path, *, workers: int = 2) -> dict[str, Any]:
    """Make what is not made yet, and return all results.

    Args:
        settings: the same as before where the folder holds a part of the experiment.
        output: folder of the experiment.
        workers: processes that train side by side, one core each.

    Raises:
        UserError: with what is wrong with files and settings; if the folder holds an experiment
            with others.
        HeadraceError: if a worker failed; what it printed is in its log.
    """
    output = output.resolve()
    _check_same(settings, output)
    environment = frame.environment(PACKAGES)
    trials = trials_of(settings)
    corpus = Corpus(settings, output)
    corpus.prepare(trials)
    _train(trials, output, workers)
    results = [result_of(output, trial) for trial in trials]
    return {
        "name": "selection_experiment",
        "date": datetime.now(tz=timezone.utc).date().isoformat(),
        "environment": {**environment, "workers": str(workers)},
        "settings": {
            **asdict(settings),
            **{name: Path(value).name for name, value in _paths(settings).items()},
        },
        "test": corpus.test_facts(),
        "seconds": corpus.embedding_seconds(),
        "trials": [
            {**asdict(trial), **_of_selection(corpus, trial), **result}
            for trial, result in zip(trials, results, strict=True)
        ],
    }


def result_of(output: Path, trial: Trial) -> dict[str, Any]:
    """The result of a finished trial."""
    found: dict[str, Any] = json.loads(
        (output / "trials" / trial.name / RESULT).read_text(encoding="utf-8")
    )
    return found


def unfinished(output: Path, trials: Sequence[Trial]) -> list[Trial]:
    """Those without a result."""
    return [trial for trial in trials if not (output / "trials" / trial.name / RESULT).exists()]


def read_settings(output: Path) -> Settings:
    """The settings of the experiment in a folder."""
    raw: dict[str, Any] = json.loads((output / _SETTINGS).read_text(encoding="utf-8"))
    for name, value in raw.items():
        if isinstance(value, list):
            raw[name] = tuple(value)
    return Settings(**raw)


def _paths(settings: Settings) -> dict[str, str]:
    named = {"corpus": settings.corpus, "test": settings.test, "encoder": settings.encoder}
    return {name: value for name, value in named.items() if value is not None}


def _check_same(settings: Settings, output: Path) -> None:
    problems = []
    if (output / _SETTINGS).exists() and read_settings(output) != settings:
        what = "the folder holds the experiment with other settings"
        remedy = "Choose another --output, or delete it"
        problems.append(Problem(what, str(output), None, remedy))
    for name, path in _paths(settings).items():
        if not Path(path).exists():
            problems.append(Problem("no such file or folder", f"--{name}", path))
    if problems:
        raise ConfigError(problems)
    output.mkdir(parents=True, exist_ok=True)
    write_json(output / _SETTINGS, asdict(settings))


def _of_selection(corpus: Corpus, trial: Trial) -> dict[str, Any]:
    """What is known of the rows that a trial was trained on."""
    ids = corpus.chosen(trial)
    report = corpus.report(trial)
    facts: dict[str, Any] = {
        "chosen": len(ids),
        "repeated_share": repeated_share(corpus.contents(trial), ids),
    }
    if report is not None:
        facts |= {
            "trade_off_used": report["trade_off"],
            "knee": report["knee"],
            "first_negative_gain": report["first_negative_gain"],
            "select_seconds": report["seconds"]["select"],
        }
    return facts


def _train(trials: Sequence[Trial], output: Path, workers: int) -> None:
    """Start the workers, show how far they are, and wait for them."""
    waiting = unfinished(output, trials)
    if not waiting:
        return
    processes = list(_started(output, min(workers, len(waiting))))
    try:
        with tqdm(total=len(trials), desc="training", unit=" trial", disable=None) as bar:
            while any(process.poll() is None for process in processes):
                bar.update(len(trials) - len(unfinished(output, trials)) - bar.n)
                if any(process.poll() for process in processes):
                    break
                time.sleep(0.5)
            bar.update(len(trials) - len(unfinished(output, trials)) - bar.n)
    finally:
        for process in processes:
            if process.poll() is None:
                process.terminate()
        codes = [process.wait() for process in processes]
    left = unfinished(output, trials)
    if left:
        failed = [number for number, code in enumerate(codes) if code]
        log = output / f"worker-{failed[0] if failed else 0}.log"
        raise HeadraceError(f"{len(left)} trials are not finished; see {log}")


def _started(output: Path, workers: int) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "headrace.benchmarks.selection_experiment_worker", str(output)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT"):
        environment.pop(name, None)  # each worker is a group of one
    for number in range(workers):
        with (output / f"worker-{number}.log").open("ab") as log:
            yield subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )
