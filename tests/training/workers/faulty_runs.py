"""Trains runs in processes that are killed at chosen moments, and started again.

``faulty_runs.py JOBS.json RESULT.json``.  A job:

- ``config``: a run config; ``set``: overrides of it
- ``kills``: moments ``[place, number]``, one a start: before the numberth call of what is behind
  the place (see ``PLACES``) the process ends itself with SIGKILL
- or ``random_kills`` and ``seed``: so many moments drawn by chance, in as many runs as it takes
- ``make``: a folder that is made first
- ``flip``: after the first kill a bit of the newest checkpoint is flipped
- ``ranks``: of which one is killed, in turn; the others are killed right after it
- ``stop_after``: a stop signal arrives after so many steps; ``blind``: nothing says that a disk is
  full until it is

For each job the result has ``runs``: the folder of each run, and how each of its starts ended.

Python and its libraries are loaded once; each process is forked from that.
"""

import itertools
import json
import os
import pathlib
import random
import signal
import sys
import traceback
from contextlib import ExitStack, contextmanager
from unittest import mock

import deepspeed
import several_runs

import headrace.training.branch_run
import headrace.training.checkpoint_states
import headrace.training.resharding
from headrace.config import load_run_config
from headrace.errors import HeadraceError
from headrace.shards import storage
from headrace.tasks.token_classification import TokenClassification
from headrace.training.checkpoints import Checkpoints
from headrace.training.distributed import free_port, process_group
from headrace.training.logs import quiet_libraries
from headrace.training.loop import BranchTrainer
from headrace.training.run import train_in_group
from headrace.training.signals import StopFlag
from headrace.training.stages import expand_stages

PLACES = {
    "step begins": (BranchTrainer, "_seed_dropout"),
    "gradients are there": (BranchTrainer, "_sum_over_ranks"),
    "optimizer": (deepspeed.DeepSpeedEngine, "step"),
    "checkpoint is written": (headrace.training.checkpoint_states._HashedFile, "write"),
    "file is forced to disk": (storage, "sync"),
    "folder is renamed": (pathlib.Path, "rename"),
    "validation": (TokenClassification, "score"),
    "result": (headrace.training.branch_run, "write_json"),
    "engine": (headrace.training.branch_run, "open_engine"),
}
"""What is called; a run of two short stages calls each of them more than once."""
OFTEN = {
    "step begins": 16, "gradients are there": 16, "optimizer": 16, "checkpoint is written": 400,
    "file is forced to disk": 40, "folder is renamed": 10, "validation": 6, "result": 3,
    "engine": 2,
}  # fmt: skip
"""About how many times it does."""


@contextmanager
def killed_at(place, number):
    """End this process as ``kill -9`` does, before a call."""
    owner, name = PLACES[place]
    call, calls = getattr(owner, name), itertools.count(1)

    def counted(*arguments, **named):
        if next(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **named)

    with mock.patch.object(owner, name, counted):
        yield


def train(config, job, moment):
    """What one process does; returns its exit code."""
    try:
        with ExitStack() as stack:
            if moment is not None:
                stack.enter_context(killed_at(*moment))
            if job.get("blind"):
                stack.enter_context(mock.patch.object(Checkpoints, "_free", return_value=None))
            flag = (
                several_runs.StopAfter(job["stop_after"])
                if "stop_after" in job
                else stack.enter_context(StopFlag())
            )
            world = stack.enter_context(process_group())
            train_in_group(config, expand_stages(config), world, flag)
    except HeadraceError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def start(config, job, moment, victim):
    """Fork the ranks of a run, and return their exit codes (-9: killed) when all have ended."""
    ranks = job.get("ranks", 1)
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    children = []
    for rank in range(ranks):
        if (child := os.fork()) == 0:
            numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_SIZE": ranks}
            os.environ.update({name: str(number) for name, number in numbers.items()}, **address)
            os._exit(train(config, job, moment if rank == victim else None))
        children.append(child)
    codes = []
    for child in [children[victim], *children[:victim], *children[victim + 1 :]]:
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        if codes[0] == -signal.SIGKILL:
            for other in children:
                if other != children[victim] and len(codes) == 1:
                    os.kill(other, signal.SIGKILL)
    return codes[0]


def flip_a_bit(run):
    """Damage the largest file of the newest checkpoint that there is in a run folder."""
    newest = max(pathlib.Path(run).rglob("step-*"))
    file = max(newest.rglob("*.pt"), key=lambda path: path.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 16
    file.write_bytes(content)


def go(job):
    """Start the runs of a job, each again until it ends by itself."""
    if "make" in job:
        pathlib.Path(job["make"]).mkdir(parents=True)
    chance = random.Random(job.get("seed"))
    kills = iter(job.get("kills", []))
    left, runs = job.get("random_kills", 0), []
    while not runs or left > 0:
        folder = job["output"] if not runs else f"{job['output']}-{len(runs)}"
        config = load_run_config(
            job["config"], [*job.get("set", []), f"headrace.output={folder}"], thorough=False
        )
        starts = []
        for number in itertools.count():
            moment = next(kills, None)
            if left > 0:
                place = chance.choice(list(PLACES))
                moment = (place, chance.randint(1, max(1, OFTEN[place] // 3)))
            code = start(config, job, moment, number % job.get("ranks", 1))
            starts.append([moment, code])
            if job.get("flip") and number == 0:
                flip_a_bit(folder)
            left -= code == -signal.SIGKILL
            if code != -signal.SIGKILL:
                break
        runs.append({"output": folder, "starts": starts})
    return runs


if __name__ == "__main__":
    quiet_libraries()
    jobs, result = sys.argv[1:]
    found = [go(job) for job in json.loads(pathlib.Path(jobs).read_text())]
    pathlib.Path(result).write_text(json.dumps(found))
