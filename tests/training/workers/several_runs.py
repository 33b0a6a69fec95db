"""Trains several runs one after the other in one launch: a list of jobs in a JSON file.

A job is ``{"config": path, "stop_after": steps or null}``; a job that stops is started again.
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


def run(job, world):
    config = load_run_config(job["config"])
    try:
        train_in_group(config, expand_stages(config), world, StopAfter(job["stop_after"]))
    except StopRequested:
        assert job["stop_after"] is not None
        run({**job, "stop_after": None}, world)
    else:
        assert job["stop_after"] is None, "the run was to stop before its end"


if __name__ == "__main__":
    quiet_libraries()
    with process_group() as world:
        for job in json.loads(Path(sys.argv[-1]).read_text()):
            run(job, world)
