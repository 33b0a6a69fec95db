"""``headrace status``: what the ranks of a run are doing."""

from __future__ import annotations

import argparse
from pathlib import Path

from headrace.errors import EXIT_DONE, EXIT_FAULT, Problem, ShardError

HELP = "show what each rank of a run is doing, and why jobs of it ended badly"
EXAMPLE = "headrace status runs/my_run"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("run_dir", metavar="RUN_DIR", help="run folder that training writes")
    parser.add_argument(
        "--wait",
        type=float,
        default=15.0,
        metavar="SECONDS",
        help="how long to wait for the next heartbeat of each rank (default: 15)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print a table for each job."""
    from headrace.shards import storage
    from headrace.training.watch.status import is_well, look, table_of

    folder: Path = storage.local_folder(arguments.run_dir, "RUN_DIR")
    if not folder.is_dir():
        raise ShardError(
            Problem("there is no such folder", "RUN_DIR", str(folder), "Name the folder of a run")
        )
    jobs = look(folder, arguments.wait)
    if not jobs:
        print("nobody is training this run")
    for job in jobs:
        print(table_of(job).text())
        if job.end is not None:
            print(f"ended: {job.end.why}")
            if job.stacks:
                print(f"stacks: {', '.join(map(str, job.stacks))}")
    return EXIT_DONE if all(is_well(job) for job in jobs) else EXIT_FAULT
