"""Faults, in the benchmark ``stream``: what each loader does with them, run once and written down.

A bit flipped in what the loader reads; an epoch that three ranks begin, that are killed, and that
two ranks go on with; the mixture in a block of positions.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from headrace.benchmarks.programs import FailedError, Task, finish
from headrace.benchmarks.stream_contestants import HEADRACE, Contestant, start_program
from headrace.benchmarks.stream_data import DataSet
from headrace.benchmarks.stream_rounds import (
    AT_ONCE,
    Course,
    difference_between,
    lost_and_repeated,
)
from headrace.stream.plan import Source, StagePlan
from headrace.training.distributed import free_port

Record = dict[str, Any]

NOTICED, UNNOTICED, NO_HARM = "error", "served silently", "nothing wrong was served"
BLOCK = 1024
"""Positions in which the mixture is looked at."""
_SHARES = (0.55, 0.3, 0.15)


def faults(course: Course, data: DataSet) -> list[Record]:
    """All records, for a small data set that every contestant has prepared."""
    return [*_flipped_bits(course, data), *_other_world_sizes(course, data), _mixture()]


def _flipped_bits(course: Course, data: DataSet) -> list[Record]:
    """Flip a bit in the middle of a payload; two runs, for some notice only the first time."""
    variants: list[tuple[Contestant, str, Task]] = []
    for contestant in course.entered(data):
        if "views" in contestant.options:
            continue
        folder = course.new_folder()
        tars, converted = _damaged_copies(course, contestant, data, folder)
        paths: Task = {"tars": str(tars), "folder": str(converted)}
        variants.append((contestant, "", paths))
        if contestant is HEADRACE:
            rule = {**paths, "bad_shards": "quarantine"}
            variants.append((contestant, ", bad_shards=quarantine", rule))
        if contestant.name == "Mosaic":
            remote = {**paths, "remote": str(converted), "cache": str(folder / "cache")}
            variants.append((contestant, ", validate_hash and a cache", remote))

    def run(variant: tuple[Contestant, str, Task]) -> Record:
        contestant, name, options = variant
        task = {**course.task(contestant, data), **options, "action": "check"}
        outcomes = [_outcome(course, contestant, task, data) for _ in range(2)]
        return {
            "contestant": contestant.name + name,
            "fault": "a bit flipped in a payload",
            "first run": outcomes[0],
            "second run": outcomes[1],
        }

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(run, variants))


def _damaged_copies(
    course: Course, contestant: Contestant, data: DataSet, folder: Path
) -> tuple[Path, Path]:
    """The tars and what the contestant made of them; a bit is flipped in what it reads."""
    tars = Path(shutil.copytree(data.tars, folder / "tars"))
    converted = tars
    if contestant.converts is not None:
        source = course.converted(contestant, data)
        converted = Path(shutil.copytree(source, folder / "converted"))
    reads = converted if contestant.in_place or contestant.copies else tars
    largest = max(
        (path for path in reads.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size
    )
    content = bytearray(largest.read_bytes())
    amid_letters = content.index(b" the ", len(content) // 2) + 2
    content[amid_letters] ^= 1
    largest.write_bytes(content)
    return tars, converted


def _outcome(course: Course, contestant: Contestant, task: Task, data: DataSet) -> str:
    try:
        found = course.entrants.run(contestant, task)
    except FailedError as error:
        return f"{NOTICED}: {error}"[:110]
    if found["samples"] != data.samples:
        return f"no error, {found['samples']} of {data.samples} samples"
    return UNNOTICED if difference_between(found, data) else NO_HARM


def _other_world_sizes(course: Course, data: DataSet) -> list[Record]:
    """Three ranks serve part of an epoch and are killed; two go on to its end."""
    records: list[Record] = []
    for contestant in course.entered(data, resumes=True):
        if contestant.name not in _RANKS:
            continue
        files = course.new_folder()
        files.mkdir(parents=True)
        record: Record = {
            "contestant": contestant.name,
            "fault": "3 ranks killed in mid-epoch, 2 ranks go on",
        }
        try:
            before = _run_ranks(course, contestant, data, files, 3, data.samples // 6)
            after = _run_ranks(course, contestant, data, files, 2, None)
            lost, repeated = lost_and_repeated([*before, *after], data)
            record |= {"samples lost": lost, "samples repeated": repeated}
        except FailedError as error:
            record |= {"error": str(error)[:160]}
        records.append(record)
    return records


_RANKS: dict[str, Callable[[int, int], dict[str, Any]]] = {
    "headrace": lambda rank, world: {"rank": rank, "world_size": world},
    "litData": lambda rank, world: {"world_size": world},
    "Mosaic": lambda rank, world: {},
}
"""What else than the launcher's variables tells them their rank.

The others are left out: webdataset has no state, that of HF datasets belongs to one split, Grain
leaves the split to the user, Energon changes it with a tool between two runs.
"""


def _run_ranks(
    course: Course,
    contestant: Contestant,
    data: DataSet,
    files: Path,
    world: int,
    stop_at: int | None,
) -> list[str]:
    """Let all ranks serve at once; with ``stop_at`` they save their state and kill themselves.

    Returns the files with the hashes of what each rank served.  A rank goes on from the state of
    the rank of the same number.
    """
    served = [str(files / f"served-{world}-{rank}") for rank in range(world)]
    processes = []
    port = str(free_port())
    for rank in range(world):
        state = str(files / f"state-{rank}")
        task: Task = {
            **course.task(contestant, data),
            **_RANKS[contestant.name](rank, world),
            "action": "resume" if stop_at is None else "save",
            "kill": stop_at is not None,
            "stops": [{"at": stop_at, "state": state, "served": served[rank]}],
            "state": state,
            "served": served[rank],
            "remaining": data.samples,
            "environment": {
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(world),
                "LOCAL_WORLD_SIZE": str(world),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": port,
            },
        }
        task["batch_size"] *= world if contestant is HEADRACE else 1  # ours is of all ranks
        interpreter = course.entrants.interpreters[contestant.name]
        processes.append(start_program(interpreter, contestant.module, task))
    expected = 0 if stop_at is None else -signal.SIGKILL
    errors = []
    for process in processes:
        try:
            finish(process, expected)
        except FailedError as error:
            errors.append(error)
    if errors:
        raise errors[0]
    return served


def _mixture() -> Record:
    """The largest difference of a source's samples in a block from its share of the block."""
    sizes = (50_000, 20_000, 9_000)
    plan = StagePlan(
        [Source(str(n), str(n), (size,), str(n)) for n, size in enumerate(sizes)],
        seed=1,
        stage="benchmark",
        weights=_SHARES,
        block=BLOCK,
    )
    blocks = plan.samples_per_epoch // BLOCK
    source = plan.locate(0, np.arange(blocks * BLOCK, dtype=np.int64)).source
    counts = np.stack([np.bincount(part, minlength=3) for part in source.reshape(blocks, BLOCK)])
    largest = float(np.abs(counts - BLOCK * np.array(_SHARES)).max())
    return {
        "contestant": "headrace",
        "fault": f"mixture of three sources in blocks of {BLOCK}",
        "largest difference from the share, samples": largest,
    }
