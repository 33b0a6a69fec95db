"""Trains several runs one after the other in one launch: a list of jobs in a JSON file.

A job is ``{"config": path, "stop_after": steps or null}``, perhaps with ``"stop_between": looks``;
a job that stops is started again.
"""

import json
import sys
from pathlib import Path
from signal import SIGTERM

from headrace.config import load_run_config
from headrace.errors import StopRequested
from headrace.training.distributed import process_group
from headrace.training.logs import quiet_libraries
from headrace.training.run import train_in_group
from headrace.training.stages import expand_stages


class StopAfter:
    """Stands in for a signal that arrives during the given step."""

    asked = False  # steps alone look at it

    def __init__(self, steps):
        self.steps = steps

    @property
    def received(self):
        if self.steps is None:
            return None
        self.steps -= 1
        return SIGTERM if self.steps < 0 else None


class StopBetween:
    """Stands in for a signal to rank 1 alone, between two steps of a run that has begun to train.

    It comes when it is looked for the given number of times.
    """

    def __init__(self, looks, world):
        self.looks = looks
        self.is_mine = world.rank == 1
        self.trains = False
        self.signal = None

    @property
    def received(self):
        self.trains = True
        return self.signal

    @property
    def asked(self):
        self.looks -= self.trains
        if self.is_mine and self.looks < 0:
            self.signal = SIGTERM
        return self.signal is not None


def run(job, world):
    config = load_run_config(job["config"])
    between = job.get("stop_between")
    flag = StopAfter(job["stop_after"]) if between is None else StopBetween(between, world)
    stops = job["stop_after"] is not None or between is not None
    try:
        train_in_group(config, expand_stages(config), world, flag)
    except StopRequested:
        assert stops
        run({**job, "stop_after": None, "stop_between": None}, world)
    else:
        assert not stops, "the run was to stop before its end"


if __name__ == "__main__":
    quiet_libraries()
    with process_group() as world:
        for job in json.loads(Path(sys.argv[-1]).read_text()):
            run(job, world)
