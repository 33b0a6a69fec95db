"""What a start reads and computes on each rank, and what the data plan costs, measured here.

``python scripts/scaling_costs.py docs/results/scaling.json`` imports what a training imports in
processes of their own, opens an encoded source again, and plans stages of 10^5 to 10^7 samples for
1 to 1,024 ranks.  Times are processor time of one core.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from headrace.benchmarks.frame import environment
from headrace.stream.batching import BatchPlan
from headrace.stream.plan import Source, StagePlan

SAMPLES = (100_000, 1_000_000, 10_000_000)
RANKS = (1, 8, 64, 256, 1024)
PER_RANK, SOURCES, PER_SHARD, SEED = 16, 12, 10_000, 4
SENTENCES, ROUNDS = 20_000, 3
IMPORTS = """
import json, pathlib, sys, time
import deepspeed, headrace.training.run
seconds = time.process_time()
files = {vars(m).get("__cached__") for m in list(sys.modules.values())} - {None}
maps = {line.split()[-1] for line in open("/proc/self/maps") if ".so" in line}
size = lambda names: sum(pathlib.Path(n).stat().st_size for n in names if pathlib.Path(n).is_file())
print(json.dumps({"seconds": seconds, "modules": len(files), "module_bytes": size(files),
                  "libraries": len(maps), "library_bytes": size(maps)}))
"""


def imports() -> dict[str, float]:
    """What importing costs a rank, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def encoded() -> dict[str, float]:
    """What an encoded source takes, and opening it again with all of its hashes."""
    from headrace.corpus.build import build_source
    from headrace.corpus.sample_corpus import generate, write_conll
    from headrace.encoding.sidecar import encode_source
    from headrace.encoding.tokenizer import load_tokenizer
    from headrace.encoding.tokenizer_training import train_tokenizer
    from headrace.shards.reader import ShardReader
    from headrace.tasks.labels import load_label_set
    from headrace.tasks.token_classification import TokenClassification

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_conll(folder / "en.conll", generate("en", "train", SENTENCES, seed=SEED))
        build_source([str(folder / "en.conll")], str(folder / "en"), "en")
        reader = ShardReader(str(folder / "en"))
        train_tokenizer([reader], folder / "tokenizer", 1200)
        task = TokenClassification(load_label_set("multiconer_v2"))
        tokenizer = load_tokenizer(str(folder / "tokenizer"))

        def open_source() -> Any:
            encoder = task.encoder(tokenizer, 64)
            return encode_source(reader, encoder, cache_dir=folder / "cache", language="en")

        source = open_source()
        files = [path for path in (folder / "cache").rglob("*") if path.is_file()]
        seconds = []
        for _ in range(ROUNDS):
            began = time.process_time()
            open_source()
            seconds.append(time.process_time() - began)
        size = sum(path.stat().st_size for path in files)
        return {
            "samples": source.samples,
            "tokens_per_sample": float(np.mean([one.token_counts.mean() for one in source.shards])),
            "bytes_per_sample": size / source.samples,
            "manifest_bytes": (folder / "en" / "manifest.json").stat().st_size,
            "shards": len(reader.manifest.shards),
            "open_gb_per_s": size / statistics.median(seconds) / 1e9,
        }


def sources(samples: int) -> list[Source]:
    """Sources of unequal sizes, each half as large as the one before, in shards of 10,000."""
    weights = 0.5 ** np.arange(SOURCES)
    sizes = np.maximum(100, weights / weights.sum() * samples).astype(int).tolist()
    found = []
    for number, size in enumerate(sizes):
        whole, rest = divmod(size, PER_SHARD)
        shards = (PER_SHARD,) * whole + ((rest,) if rest else ())
        found.append(Source(f"l{number}", f"memory://{number}", shards, f"{number}"))
    return found


def timed(call: Any, *arguments: Any) -> tuple[float, Any]:
    """Processor time of a call in seconds, and what it returned."""
    began = time.process_time()
    found = call(*arguments)
    return time.process_time() - began, found


def plans() -> list[dict[str, float]]:
    """The costs of a plan by samples and ranks, for each rank."""
    rows = []
    chance = np.random.default_rng(SEED)
    for samples in SAMPLES:
        data = sources(samples)
        lengths = [
            [chance.integers(5, 60, size, dtype=np.int32) for size in source.shard_sizes]
            for source in data
        ]
        for ranks in RANKS if samples == SAMPLES[-1] else RANKS[:1]:
            batch_size = PER_RANK * ranks
            opening, plan = timed(
                lambda data: StagePlan(data, seed=SEED, stage="costs", temperature=0.7), data
            )
            making, batches = timed(
                lambda plan, lengths, size: BatchPlan(plan, lengths, batch_size=size),
                plan, lengths, batch_size,
            )  # fmt: skip
            windows = chance.integers(0, 3 * batches.steps_per_epoch // 50, 40).tolist()
            first, next_one, split = [], [], []
            for window in windows:
                first.append(timed(batches.batch, 50 * window)[0])
                seconds, batch = timed(batches.batch, 50 * window + 1)
                next_one.append(seconds)
                split.append(timed(batches.split, batch, ranks // 2, ranks, PER_RANK, 1)[0])
            window, others = statistics.median(first), statistics.median(next_one)
            rows.append(
                {
                    "samples": samples,
                    "shards": sum(len(source.shard_sizes) for source in data),
                    "ranks": ranks,
                    "batch_size": batch_size,
                    "plan_ms": 1e3 * (opening + making),
                    "window_ms": 1e3 * window,
                    "batch_ms": 1e3 * others,
                    "split_ms": 1e3 * statistics.median(split),
                    "step_ms": 1e3 * (window / 50 + others + statistics.median(split)),
                    "length_bytes": 4 * plan.samples_per_epoch,
                }
            )
    return rows


def main(path: Path) -> None:
    """Measure, and write the result."""
    result = {
        "name": "scaling",
        "command": "python scripts/scaling_costs.py docs/results/scaling.json",
        "date": datetime.now(tz=timezone.utc).date().isoformat(),
        "environment": environment(("torch", "deepspeed", "transformers", "numpy")),
        "imports": imports(),
        "encoded": encoded(),
        "plans": plans(),
    }
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
