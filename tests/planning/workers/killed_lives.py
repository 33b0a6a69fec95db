"""Real training that is killed at drawn moments and started again, with the times of its events.

``killed_lives.py JOBS.json RESULT.json``.  A job:

- ``config``: a run config of one stage; ``set``: overrides of it
- ``gaps``: seconds that each start may take, then the kernel ends it at once; or ``steps``: of
  each start the steps that it may do, before the next one begins the process kills itself

For each job the result is a list of starts, each with ``seconds``, ``killed`` and ``events``:
``[name, number, time]``, where a number is that of the steps done, or of the bytes of a checkpoint.
Time is the processor time of the process since its start, so that a busy machine changes nothing.

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


def train(config, file, seconds, steps):
    """What one process does; returns its exit code."""
    if seconds is not None:
        signal.setitimer(signal.ITIMER_PROF, seconds)  # nobody handles SIGPROF: it ends the process
    train_step, save = BranchTrainer.train_step, Checkpoints.save
    numbers = itertools.count()

    def note(name, step):
        os.write(file, f"{json.dumps([name, step, time.process_time()])}\n".encode())

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
    """Fork a process that trains, and return what happened until its end."""
    os.environ["MASTER_PORT"] = str(free_port())
    with tempfile.TemporaryFile() as file:
        if (child := os.fork()) == 0:
            os._exit(train(config, os.dup(file.fileno()), seconds, steps))
        _, status, spent = os.wait4(child, 0)
        code = os.waitstatus_to_exitcode(status)
        if code not in (0, -signal.SIGKILL, -signal.SIGPROF):
            raise RuntimeError(f"exit code {code}")
        file.seek(0)
        events = [json.loads(line) for line in file.read().splitlines() if line]
    return {"seconds": spent.ru_utime + spent.ru_stime, "killed": code != 0, "events": events}


def life(job):
    """Start a job again and again until it ends by itself."""
    config = load_run_config(job["config"], job.get("set", []), thorough=False)
    starts = []
    moments = zip(job.get("gaps", [None] * 1000), job.get("steps", [None] * 1000), strict=False)
    for seconds, steps in moments:
        starts.append(start(config, seconds, steps))
        if not starts[-1]["killed"]:
            return starts
    raise RuntimeError("more moments are needed")


if __name__ == "__main__":
    quiet_libraries()
    common = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_SIZE": "1"}
    os.environ.update(common, MASTER_ADDR="127.0.0.1")
    jobs, result = map(Path, sys.argv[1:])
    lives = [life(job) for job in json.loads(jobs.read_text())]
    result.write_text(json.dumps(lives))
