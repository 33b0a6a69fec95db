"""Pairs of ranks with a watch and no training, one pair for each fault; all at the same time.

The ranks are forks of one process, which imports torch once.  ``FOLDER/NAME/`` is the run folder
of a pair; ``FOLDER/NAME-RANK.log`` what a rank says, ``FOLDER/codes.json`` how all have ended.
"""

import ctypes
import json
import os
import random
import sys
import time
import traceback
from pathlib import Path

import torch
import torch.distributed

from headrace.config.watch import WatchConfig
from headrace.errors import RankLostError
from headrace.training.distributed import World, free_port
from headrace.training.watch.job import watched_job

RANKS = 2
STEPS = 40
FAULTY_STEP = 10


SOON = {"sleeps", "is stopped", "is suspended", "holds the lock", "has a jumping clock"}
"""Where a hang would be met within seconds."""


def jumping(clock):
    """A clock that is set back or forward by hours again and again."""
    chance = random.Random(0)
    return lambda: clock() + chance.uniform(-1e5, 1e5)


def train(name, folder, rank):
    """Ranks that take steps; the fault is that of rank 1, if not of the main rank, or of both."""
    faulty = rank == (0 if name == "leaves as the main rank" else 1)
    if name == "has a jumping clock":
        time.time = jumping(time.time)
    hang = 6.0 if name in SOON else 600.0
    settings = WatchConfig(heartbeat_seconds=0.1, hang_seconds=hang)
    world = World(rank, RANKS, torch.device("cpu"))
    with watched_job(folder / name, settings, world) as job, job.activity.training("a/b"):
        for step in range(1, STEPS + 1):
            job.activity.enter("data", step)
            if step == FAULTY_STEP and faulty:
                if name == "sleeps":
                    time.sleep(3600)
                elif name == "fails":
                    raise ValueError("the data of this rank is odd")
                elif name == "holds the lock":
                    ctypes.PyDLL(None).sleep(9)  # unlike CDLL this keeps the interpreter's lock
                elif name == "is suspended":
                    while not GO_ON.exists():
                        time.sleep(0.01)
                    time.sleep(1)  # for the watch to look at its clock
                elif name.startswith("leaves"):
                    os._exit(3)
            job.activity.enter("sum over ranks", step)
            torch.distributed.all_reduce(torch.ones(3))
            while name in {"is stopped", "is killed"} and step > FAULTY_STEP and faulty:
                time.sleep(0.01)  # until the signal comes
            if name == "has a jumping clock":
                time.sleep(0.02)


def run(name, folder, rank):
    torch.distributed.init_process_group("gloo", rank=rank, world_size=RANKS)
    try:
        train(name, folder, rank)
    except RankLostError as error:
        return error.exit_code
    finally:
        torch.distributed.destroy_process_group()
    return 0


def fork(name, folder, rank, port):
    """Start a rank; returns its pid."""
    child = os.fork()
    if child:
        return child
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    log = os.open(folder / f"{name}-{rank}.log", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    code = 1
    try:
        code = run(name, folder, rank)
    except BaseException:
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    folder, *names = Path(sys.argv[1]), *sys.argv[2:]
    GO_ON = folder / "go on"
    torch.set_num_threads(1)
    started = {}
    for name in names:
        port = free_port()
        for rank in range(RANKS):
            started[fork(name, folder, rank, port)] = (name, rank)
    codes = {name: [None] * RANKS for name in names}
    while started:
        pid, status = os.wait()
        name, rank = started.pop(pid)
        codes[name][rank] = os.waitstatus_to_exitcode(status)
        (folder / "codes.part").write_text(json.dumps(codes))
        (folder / "codes.part").replace(folder / "codes.json")
