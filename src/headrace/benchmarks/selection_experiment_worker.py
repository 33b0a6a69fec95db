"""A worker of the selection experiment: trains what no other worker is training.

``python -m headrace.benchmarks.selection_experiment_worker FOLDER``
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from headrace.benchmarks.selection_experiment import RESULT, read_settings, unfinished
from headrace.benchmarks.selection_experiment_data import Corpus
from headrace.benchmarks.selection_experiment_plan import Settings, Trial, trials_of
from headrace.config import RunConfig, load_run_config
from headrace.encoding.sidecar import encode_source
from headrace.errors import EXIT_DONE, EXIT_REQUEUE, StopRequested
from headrace.shards.reader import ShardReader
from headrace.training.data import open_data
from headrace.training.distributed import World, process_group
from headrace.training.logs import quiet_libraries
from headrace.training.results import write_json
from headrace.training.run import train_in_group
from headrace.training.signals import StopFlag
from headrace.training.stages import expand_stages
from headrace.training.validation import validate

_STAGE = "choice"


def work(output: Path) -> None:
    """Train until every trial is finished, by this worker or by another one."""
    settings = read_settings(output)
    corpus = Corpus(settings, output)
    parent = os.getppid()
    with StopFlag() as stop_flag, process_group() as world:
        # then wait for what others have in hand: one that is killed leaves its trial to this one
        for wait in (False, True):
            for trial in unfinished(output, trials_of(settings)):
                if os.getppid() != parent:
                    return  # nobody waits for this worker any more
                folder = output / "trials" / trial.name
                folder.mkdir(parents=True, exist_ok=True)
                try:
                    with FileLock(folder / ".trial.lock").acquire(blocking=wait):
                        if not (folder / RESULT).exists():
                            result = _result(settings, corpus, trial, folder, world, stop_flag)
                            write_json(folder / RESULT, result)
                except Timeout:
                    continue


def _result(
    settings: Settings,
    corpus: Corpus,
    trial: Trial,
    folder: Path,
    world: World,
    stop_flag: StopFlag,
) -> dict[str, Any]:
    """Train and test one trial; its weights are deleted."""
    run = folder / "run"
    resumed = run.exists()
    config = run_config(settings, corpus, trial, run)
    (branch,) = expand_stages(config)
    wall, processor = time.perf_counter(), time.process_time()
    train_in_group(config, [branch], world, stop_flag)
    seconds = {
        "wall_seconds": time.perf_counter() - wall,
        "processor_seconds": time.process_time() - processor,
    }
    gc.collect()
    trained = json.loads(branch.result_file.read_text(encoding="utf-8"))
    started = time.perf_counter()
    metrics = test(settings, corpus, trial, config, branch.export_folder, world)
    shutil.rmtree(run)
    return {
        "accuracy": metrics["accuracy"],
        "samples": metrics["samples"],
        "steps": trained["steps"],
        "training_seconds": trained["throughput"]["training_seconds"],
        **seconds,
        "test_seconds": time.perf_counter() - started,
        "resumed": resumed,
    }


def run_config(settings: Settings, corpus: Corpus, trial: Trial, run: Path) -> RunConfig:
    """The run config of a trial, written beside its run folder and loaded from there."""
    selection = corpus.selection(trial)
    document = {
        "train_batch_size": settings.batch_size,
        "gradient_clipping": 1.0,
        "bf16": {"enabled": trial.precision == "bf16"},
        "optimizer": {
            "type": "AdamW",
            # torch's fused AdamW: a third of the time of a step goes to the optimizer otherwise
            "params": {"lr": settings.learning_rate, "weight_decay": 0.01, "fused": True},
        },
        "headrace": {
            "output": str(run),
            "seed": trial.seed,
            "task": {"type": "multiple_choice", "max_length": settings.max_length},
            "model": {"pretrained": settings.encoder},
            "data": {
                "train": {settings.language: corpus.source(trial)},
                "cache_dir": str(corpus.output / "encoded"),
                **({} if selection is None else {"selection": str(selection)}),
            },
            "schedule": {"type": "linear"},
            "stages": [{"name": _STAGE, "epochs": settings.epochs, "keep_best": "last"}],
            "checkpoint": {"keep_last": 1},
            "logging": {"tensorboard": False},
        },
    }
    path = run.parent / "config.json"
    write_json(path, document)
    return load_run_config(path)


def test(
    settings: Settings,
    corpus: Corpus,
    trial: Trial,
    config: RunConfig,
    export: Path,
    world: World,
) -> dict[str, Any]:
    """Scores on the test questions, in the precision of the training."""
    opened = open_data(config)
    source = encode_source(
        ShardReader(corpus.test),
        opened.task.encoder(opened.tokenizer, settings.max_length),
        cache_dir=corpus.output / "encoded",
        language=settings.language,
    )
    dtype = torch.bfloat16 if trial.precision == "bf16" else torch.float32
    network = opened.task.model_class.from_pretrained(str(export), dtype=dtype)
    found = validate(
        network.to(world.device),
        {settings.language: source},
        opened.task,
        world,
        batch_size=32,
        pad=opened.tokenizer.pad_token_id,
    )
    return found.metrics[settings.language]


def main() -> int:
    """Work in the folder that is named on the command line."""
    quiet_libraries()
    try:
        work(Path(sys.argv[1]))
    except StopRequested:
        return EXIT_REQUEUE
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
