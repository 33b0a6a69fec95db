"""Trains runs on one number of ranks after another: a list of phases in a JSON file.

A phase is ``{"ranks": n, "jobs": [...]}``, a job ``{"config": path, "stop_after": steps or null,
"keep": folder or null}``.  A job that is stopped leaves its checkpoints, a copy of them in the
folder ``keep``, for a later phase.
"""

import json
import multiprocessing
import os
import shutil
import sys
from pathlib import Path

import deepspeed  # noqa: F401 (here, before the processes are forked)
from several_runs import StopAfter

from headrace.config import load_run_config
from headrace.errors import StopRequested
from headrace.training.distributed import free_port, process_group
from headrace.training.logs import quiet_libraries
from headrace.training.run import train_in_group
from headrace.training.stages import expand_stages


def run(job, world):
    config = load_run_config(job["config"])
    try:
        train_in_group(config, expand_stages(config), world, StopAfter(job["stop_after"]))
    except StopRequested:
        assert job["stop_after"] is not None
        if job["keep"] and world.is_main:
            shutil.copytree(next(config.output.glob("*/*/checkpoints")), job["keep"])
    else:
        assert job["stop_after"] is None, "the run was to stop before its end"


def run_rank(rank, ranks, port, jobs):
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(ranks), MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )  # fmt: skip
    with process_group() as world:
        for job in jobs:
            run(job, world)


if __name__ == "__main__":
    quiet_libraries()
    # processes of their own, forked so that the libraries are imported once
    context = multiprocessing.get_context("fork")
    for phase in json.loads(Path(sys.argv[1]).read_text()):
        ranks, port = phase["ranks"], free_port()
        processes = [
            context.Process(target=run_rank, args=(rank, ranks, port, phase["jobs"]))
            for rank in range(ranks)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        if any(process.exitcode for process in processes):
            sys.exit(f"a rank of {ranks} failed")
