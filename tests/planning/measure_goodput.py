"""Goodput of real training that is killed at drawn moments, beside the simulated one.

``python tests/planning/measure_goodput.py docs/results/goodput.json`` trains a small network on
one rank of the CPU with several intervals between checkpoints, kills it at moments that are drawn,
and starts it again.  The simulation is given the times of a step, a save and a start as they were
measured in the same lives, and the same moments; and many further draws.  Time is processor time;
what a disk takes is not in it.  One life is lived after the other, on a machine that has nothing
else to do: neighbours would slow some steps down and not others.  It takes about seven minutes.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any

from headrace.benchmarks.frame import environment
from headrace.corpus.build import build_source
from headrace.corpus.sample_corpus import generate, write_conll
from headrace.encoding.tokenizer_training import train_tokenizer
from headrace.planning.failures import Job, Saving, daly_interval
from headrace.planning.goodput import simulate, standard_gaps
from headrace.shards.reader import ShardReader

WORKER = Path(__file__).parent / "workers" / "killed_lives.py"
SENTENCES, BATCH, STEPS = 4000, 16, 240
"""In one epoch: at its end there would be a checkpoint as well."""
EVERY = (6, 36, 120)
"""Steps between checkpoints."""
LIVES, SEED = 6, 11
MTBF = 4.0
"""Seconds."""
DRAWS = 4000

Start = dict[str, Any]


def prepare(folder: Path) -> dict[int, Path]:
    """A corpus, a tokenizer and a run config; the config by interval."""
    write_conll(folder / "en.conll", generate("en", "train", SENTENCES, seed=3))
    build_source([str(folder / "en.conll")], str(folder / "en"), "en")
    train_tokenizer([ShardReader(str(folder / "en"))], folder / "tokenizer", 1200)
    configs = {}
    for every in EVERY:
        config = {
            "train_batch_size": BATCH,
            "optimizer": {"type": "AdamW", "params": {"lr": 1e-3}},
            "headrace": {
                "output": str(folder / "unused"),
                "task": {
                    "type": "token_classification", "labels": "multiconer_v2", "max_length": 64,
                },
                "model": {
                    "tokenizer": str(folder / "tokenizer"),
                    "config": {
                        "model_type": "bert", "hidden_size": 128, "num_hidden_layers": 2,
                        "num_attention_heads": 2, "intermediate_size": 512,
                        "max_position_embeddings": 64,
                    },
                },
                "data": {
                    "train": {"en": str(folder / "en")},
                    "cache_dir": str(folder / "encoded"),
                },
                "logging": {"every_steps": 50, "tensorboard": False},
                "checkpoint": {"every_steps": every, "keep_last": 1},
                "stages": [{"name": "all", "max_steps": STEPS, "keep_best": "last"}],
            },
        }  # fmt: skip
        configs[every] = folder / f"every-{every}.json"
        configs[every].write_text(json.dumps(config), encoding="utf-8")
    return configs


def lives(folder: Path) -> dict[int, list[list[Start]]]:
    """Train: several lives for each interval."""
    configs = prepare(folder)
    gaps = [MTBF * standard_gaps(SEED, number, LIVES) for number in range(300)]
    warm = [f"headrace.output={folder}/warm", "headrace.stages.0.max_steps=1"]
    jobs: list[dict[str, Any]] = [{"config": str(configs[EVERY[0]]), "set": warm}]
    jobs += [
        {
            "config": str(configs[every]),
            "set": [f"headrace.output={folder}/{every}-{draw}"],
            "gaps": [float(gap[draw]) for gap in gaps],
        }
        for every in EVERY
        for draw in range(LIVES)
    ]
    (folder / "jobs.json").write_text(json.dumps(jobs), encoding="utf-8")
    command = [sys.executable, str(WORKER), str(folder / "jobs.json"), str(folder / "lives.json")]
    subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True)
    _, *found = json.loads((folder / "lives.json").read_text(encoding="utf-8"))
    return {every: found[LIVES * at : LIVES * (at + 1)] for at, every in enumerate(EVERY)}


def times(starts: Sequence[Start]) -> dict[str, list[float]]:
    """Seconds of all steps, saves and starts."""
    found: dict[str, list[float]] = {"step": [], "save": [], "start": []}
    for start in starts:
        events = start["events"]
        found["step"] += _between(events, "step", "step")
        found["save"] += _between(events, "saving", "saved")
        trains = [time for name, _, time in events if name == "trains"]
        first = [time for name, _, time in events if name == "step"]
        if first:  # the first step takes longer, which is the start's doing
            found["start"].append(first[0])
            found["step"] = found["step"] or [first[0] - trains[0]]
    return found


def _between(events: Sequence[Sequence[Any]], one: str, other: str) -> Iterator[float]:
    """Times from an event to another that follows it at once."""
    for before, after in pairwise(events):
        if (before[0], after[0]) == (one, other):
            yield after[2] - before[2]


def measured(starts: Sequence[Start], step: float) -> tuple[float, int]:
    """Goodput of a life, and its failures: the useful time is that of its steps."""
    saved = [time for name, _, time in starts[-1]["events"] if name == "saved"]
    seconds = saved[-1] + sum(start["seconds"] for start in starts[:-1])
    return STEPS * step / seconds, len(starts) - 1


def compare(found: dict[int, list[list[Start]]]) -> dict[str, Any]:
    """Measured and simulated goodput of each interval, and the times that were measured."""
    every_start = [start for each in found.values() for one in each for start in one]
    spent = times(every_start)
    step, save = statistics.mean(spent["step"]), statistics.mean(spent["save"])
    start = statistics.mean(spent["start"]) - step
    job = Job(STEPS * step, MTBF, start=start)
    saving = Saving(save)
    intervals = [every * step for every in EVERY]
    same = simulate(job, saving, intervals, draws=LIVES, seed=SEED)
    many = simulate(job, saving, intervals, draws=DRAWS, seed=SEED + 1)
    rows = []
    for every, paired, drawn in zip(EVERY, same, many, strict=True):
        goodput, failures = zip(*(measured(one, step) for one in found[every]), strict=True)
        rows.append(
            {
                "every_steps": every,
                "interval_s": every * step,
                "failures": sum(failures),
                "measured": statistics.mean(goodput),
                "each": list(goodput),
                "simulated_failures": int(paired.failures.sum()),
                "simulated": paired.mean,
                "simulated_each": paired.goodput.tolist(),
                "drawn": drawn.mean,
                "low": drawn.quantile(0.05),
                "high": drawn.quantile(0.95),
            }
        )
    return {
        "name": "goodput",
        "command": "python tests/planning/measure_goodput.py docs/results/goodput.json",
        "date": datetime.now(tz=timezone.utc).date().isoformat(),
        "environment": environment(("torch", "deepspeed", "numpy")),
        "lives": LIVES,
        "steps": STEPS,
        "mtbf_s": MTBF,
        "step_s": step,
        "save_s": save,
        "start_s": start,
        "daly_s": daly_interval(save, MTBF),
        "rows": rows,
    }


def main(path: Path) -> None:
    """Measure, and write the result."""
    with tempfile.TemporaryDirectory() as folder:
        result = compare(lives(Path(folder)))
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for row in result["rows"]:
        print(
            f"every {row['every_steps']:>3} steps: measured {row['measured']:.1%} with "
            f"{row['failures']} failures, simulated {row['simulated']:.1%} with "
            f"{row['simulated_failures']}; drawn {row['drawn']:.1%}, "
            f"{row['low']:.1%} to {row['high']:.1%}"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
