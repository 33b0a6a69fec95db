"""Real processes that share a stream, killed a hundred times, resumed by other numbers of them."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain, count, islice
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from headrace.shards import Sample, ShardWriter
from headrace.stream import ShardStream

SEED = 20261121
KILLS = 100
SAVE_EVERY = 3
MOST_STEPS = 12
"""Steps before a kill, in most runs; the others are killed while they start."""
A_WHILE = 0.02
"""Seconds: a kill comes at a random moment of this length after the step, or the start."""

# Forked, the ranks need not import anything.
fork = multiprocessing.get_context("fork")


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., ShardStream]:
    folder = tmp_path_factory.mktemp("sources")
    for name, samples in (("en", 900), ("hi", 250), ("th", 77)):
        with ShardWriter(str(folder / name), samples_per_shard=40, fields=("txt",)) as writer:
            for number in range(samples):
                writer.write(Sample(f"{name}-{number}", {"txt": f"{name} {number}".encode()}))

    def make_stream(**settings: Any) -> ShardStream:
        sources = {name: str(folder / name) for name in ("en", "hi", "th")}
        return ShardStream(
            sources, seed=SEED, temperature=0.4, fields="txt", shard_window=3, **settings
        )

    return make_stream


@dataclass(frozen=True)
class Run:
    """One start of the ranks."""

    folder: Path
    world: int
    batch_size: int


def train(make: Callable[..., ShardStream], run: Run, rank: int, barrier: Any) -> None:
    """What a rank of any training loop does: a step is done when all ranks have taken it."""
    stream = make(rank=rank, world_size=run.world, batch_size=run.batch_size)
    state = run.folder / "state.json"
    if state.exists():
        stream.load_state_dict(json.loads(state.read_text()))
    log = os.open(run.folder / f"log-{rank}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    batches = chain.from_iterable(iter(stream) for _ in count())
    for step in count(1):
        begin = stream.state_dict()["next_position"]
        texts = next(batches)
        line = json.dumps([begin, [text.decode() for text in texts]]) + "\n"
        os.write(log, line.encode())
        barrier.wait()
        if step % SAVE_EVERY == 0:
            if rank == 0:
                state.with_suffix(".new").write_text(json.dumps(stream.state_dict()))
                state.with_suffix(".new").replace(state)
            barrier.wait()


def wait_for_steps(steps: int, log: Path, process: BaseProcess) -> None:
    while not log.exists() or log.read_bytes().count(b"\n") < steps:
        assert process.is_alive()
        time.sleep(0.001)


def kill(processes: list[BaseProcess]) -> None:
    for process in processes:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
    for process in processes:
        process.join()


def steps_of(run: Run) -> list[dict[int, list[str]]]:
    """What each rank logged: its part of the batch that begins at a position."""
    found = []
    for rank in range(run.world):
        log = run.folder / f"log-{rank}"
        lines = log.read_text().split("\n")[:-1] if log.exists() else []  # the last may be torn
        found.append(dict(map(json.loads, lines)))
    return found


def position_of(folder: Path) -> int:
    state = folder / "state.json"
    return json.loads(state.read_text())["next_position"] if state.exists() else 0


@pytest.mark.slow
def test_a_hundred_kills_lose_repeat_and_reorder_nothing(
    make: Callable[..., ShardStream], tmp_path: Path
) -> None:
    print(f"seed {SEED}")
    choose = random.Random(SEED)
    runs, begins = [], [0]
    state = None
    for number in range(KILLS):
        run = Run(tmp_path / str(number), 1 + number % 4, choose.choice([5, 16, 33]))
        run.folder.mkdir()
        if state is not None:
            (run.folder / "state.json").write_text(state)
        barrier = fork.Barrier(run.world)
        ranks = [
            fork.Process(target=train, args=(make, run, rank, barrier), daemon=True)
            for rank in range(run.world)
        ]
        for process in ranks:
            process.start()
        if choose.random() < 0.8:
            wait_for_steps(choose.randint(1, MOST_STEPS), run.folder / "log-0", ranks[0])
        time.sleep(choose.uniform(0, A_WHILE))
        victim = choose.randrange(run.world)
        kill([ranks[victim]])
        time.sleep(choose.uniform(0, 0.004))  # the others run on a little, into the barrier
        kill([process for process in ranks if process is not ranks[victim]])
        if (run.folder / "state.json").exists():
            state = (run.folder / "state.json").read_text()
        runs.append(run)
        begins.append(position_of(run.folder))

    one = make(rank=0, world_size=1)
    epoch = one.plan.samples_per_epoch
    logged = [steps_of(run) for run in runs]
    last = max(position for log in chain.from_iterable(logged) for position in log)
    assert begins[-1] > 2 * epoch, "the runs were too short to say much"
    epochs = chain.from_iterable(iter(one) for _ in count())
    clean = [text.decode() for text in islice(epochs, last + 33)]
    for run, log, begin, end in zip(runs, logged, begins, begins[1:], strict=False):
        done: list[str] = []
        for position in sorted(set().union(*log)):
            parts = [own.get(position) for own in log]
            size = min(run.batch_size, epoch - position % epoch)
            batch = clean[position : position + size]
            # Whatever a rank was handed, done or not, was its part of the clean batch.
            assert all(
                part is None or part == batch[rank :: run.world] for rank, part in enumerate(parts)
            )
            if begin <= position < end:
                assert None not in parts
                done += batch
        assert done == clean[begin:end]
