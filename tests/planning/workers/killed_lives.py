"""Real training that is killed at drawn moments and started again, with the times of its events.

``killed_lives.py JOBS.json RESULT.json``.  A job:

- ``config``: a run config of one stage; ``set``: overrides of it
- ``gaps``: seconds from each start to SIGKILL; or ``steps``: of each start the steps that it may
  do, before the next one begins the process ends itself with SIGKILL
- ``requeue``: seconds between the end of a start and the next one

For each job the result is a list of starts, each with ``began``, ``killed`` and ``events``:
``[name, number, time]``.  Times are seconds of one clock, a number is that of the steps done, or
of the bytes of a checkpoint.

Python and its libraries are loaded once; each process is forked from that.
"""

import itertools
import json
import os
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from unittest import mock

from headrace.config import load_run_config
from headrace.training.checkpoint_marker import read_marker
from headrace.training.checkpoints import Checkpoints
from headrace.training.distributed import free_port, process_group
from headrace.training.logs import quiet_libraries
from headrace.training.loop import BranchTrainer
from headrace.training.run import train_in_group
from headrace.training.signals import StopFlag
from headrace.training.stages import expand_stages


def train(config, file, steps):
    """What one process does; returns its exit code."""
    train_step, save = BranchTrainer.train_step, Checkpoints.save
    numbers = itertools.count()

    def note(name, step):
        os.write(file, f"{json.dumps([name, step, time.perf_counter()])}\n".encode())

    def noted_step(trainer, batch):
        number = next(numbers)
        if number == steps:
            os.kill(os.getpid(), signal.SIGKILL)
        if number == 0:
            note("trains", batch.step)
        found = train_step(trainer, batch)
        note("step", batch.step + 1)
        return found

    def noted_save(checkpoints, engine, step, state, **named):
        note("saving", step)
        found = save(checkpoints, engine, step, state, **named)
        note("saved", step)
        note("bytes", read_marker(checkpoints.folder / f"step-{step:06d}").size)
        return found

    try:
        with (
            mock.patch.object(BranchTrainer, "train_step", noted_step),
            mock.patch.object(Checkpoints, "save", noted_save),
            StopFlag() as flag,
            process_group() as world,
        ):
            train_in_group(config, expand_stages(config), world, flag)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def start(config, seconds, steps):
    """Fork a process that trains, kill it when its time is over, and return what happened."""
    os.environ["MASTER_PORT"] = str(free_port())
    with tempfile.TemporaryFile() as file:
        began = time.perf_counter()
        if (child := os.fork()) == 0:
            number = os.dup(file.fileno())
            os._exit(train(config, number, steps))
        killed = False
        while (ended := os.waitpid(child, os.WNOHANG))[0] == 0:
            if seconds is not None and not killed and time.perf_counter() - began >= seconds:
                os.kill(child, signal.SIGKILL)
                killed = True
            time.sleep(0.002)
        code = os.waitstatus_to_exitcode(ended[1])
        if code not in (0, -signal.SIGKILL):
            raise RuntimeError(f"exit code {code}")
        file.seek(0)
        events = [json.loads(line) for line in file.read().splitlines() if line]
    return {"began": began, "killed": code != 0, "events": events}


def life(job):
    """Start a job again and again until it ends by itself."""
    config = load_run_config(job["config"], job.get("set", []), thorough=False)
    starts = []
    moments = zip(job.get("gaps", [None] * 1000), job.get("steps", [None] * 1000), strict=False)
    for seconds, steps in moments:
        starts.append(start(config, seconds, steps))
        if not starts[-1]["killed"]:
            return starts
        time.sleep(job.get("requeue", 0))
    raise RuntimeError("more moments are needed")


if __name__ == "__main__":
    quiet_libraries()
    common = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_SIZE": "1"}
    os.environ.update(common, MASTER_ADDR="127.0.0.1")
    jobs, result = map(Path, sys.argv[1:])
    lives = [life(job) for job in json.loads(jobs.read_text())]
    result.write_text(json.dumps(lives))
