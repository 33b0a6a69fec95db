"""Encoded samples beside online tokenisation, in the benchmark ``stream``."""

from __future__ import annotations

import statistics
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from headrace.benchmarks.frame import Row, interleave
from headrace.benchmarks.programs import Task
from headrace.benchmarks.stream_contestants import run_program
from headrace.benchmarks.stream_data import tagged_documents
from headrace.benchmarks.stream_rounds import AT_ONCE, BATCH_SIZE, Course
from headrace.encoding.tokenizer_training import train_tokenizer
from headrace.errors import HeadraceError
from headrace.shards.reader import ShardReader
from headrace.shards.sample import make_sample
from headrace.shards.writer import ShardWriter

PROGRAM = "headrace_encoded"
ENCODED, ONLINE, ONLINE_WORKERS = "sidecars", "online, 1 thread", "online, 2 workers"
GROUP = "token ids of 1 KB samples, padded batches"


def encoded_rounds(
    course: Course, documents: int, vocabulary: int, rounds: int, seconds: float
) -> list[Row]:
    """Samples and tokens a second of the same text, from sidecars and tokenised on the way.

    Raises :class:`HeadraceError` where both do not give the same token ids for every sample.
    """
    folder = course.folder / "encoded"
    _prepare(folder, documents, vocabulary, course.seed)
    base: Task = {
        "tars": "",
        "folder": str(folder),
        "samples": documents,
        "batch_size": BATCH_SIZE,
        "seed": course.seed,
        "seconds": seconds,
        "environment": {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1"},
    }
    made = _run({**base, "action": "convert"})
    course.tables["preparation"].append(
        {
            "contestant": "headrace",
            "data": "token ids",
            "made": "sidecars with token ids and labels",
            "seconds": made["seconds"],
            "bytes": _size(folder / "encoded"),
            "tar bytes": _size(folder / "shards", "*.tar"),
        }
    )
    kinds: dict[str, Task] = {
        ENCODED: {**base, "kind": "encoded", "workers": 0},
        ONLINE: {**base, "kind": "online", "workers": 0},
        ONLINE_WORKERS: {**base, "kind": "online", "workers": 2},
    }
    with ThreadPoolExecutor(AT_ONCE) as pool:
        checked = list(pool.map(_run, [{**task, "action": "check"} for task in kinds.values()]))
    served = {
        name: tuple(found[key] for key in ("samples", "payload_bytes", "digest"))
        for name, found in zip(kinds, checked, strict=True)
    }
    if len(set(served.values())) != 1:
        raise HeadraceError(f"the token ids are not the same: {served}")
    found = interleave(
        {name: partial(_run, {**task, "action": "serve"}) for name, task in kinds.items()}, rounds
    )
    return [
        Row(
            name=name,
            unit="samples/s",
            values=tuple(run["samples"] / run["seconds"] for run in runs),
            facts={
                "tokens_per_s": statistics.median(
                    # The tokens of the first batch are counted, its samples are not timed.
                    run["tokens"] * run["samples"] / run["cpu_samples"] / run["seconds"]
                    for run in runs
                ),
                "tokens_a_sample": runs[0]["tokens"] / runs[0]["cpu_samples"],
                "cpu_us_a_sample": statistics.median(
                    1e6 * run["cpu_s"] / run["cpu_samples"] for run in runs
                ),
                "first_batch_ms": statistics.median(1e3 * run["first_batch_s"] for run in runs),
                "peak_mib": statistics.median(run["peak_mib"] for run in runs),
            },
            group=GROUP,
        )
        for name, runs in found.items()
    ]


def _prepare(folder: Path, documents: int, vocabulary: int, seed: int) -> None:
    """Shards of documents with their tags, and a tokenizer trained on them."""
    texts = tagged_documents(1024, seed)
    source = str(folder / "shards")
    with ShardWriter(source, samples_per_shard=max(1, documents // 8)) as writer:
        for number in range(documents):
            words, tags = next(texts)
            metadata = {"tokens": words, "tags": tags}
            writer.write(make_sample(f"{number:08d}", " ".join(words), metadata))
    train_tokenizer([ShardReader(source)], folder / "tokenizer", vocabulary)


def _run(task: Task) -> Task:
    found: Task = run_program(sys.executable, PROGRAM, task)
    return found


def _size(folder: Path, pattern: str = "*") -> int:
    return sum(path.stat().st_size for path in folder.rglob(pattern) if path.is_file())
