"""``headrace jobs``: what became of the jobs of a run."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.errors import EXIT_DONE, ConfigError, Problem

if TYPE_CHECKING:
    from headrace.slurm.overview import Overview

HELP = "show the SLURM jobs of a run: states, starts, steps, time left, the last error"
EXAMPLE = "headrace jobs runs/my_run"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("run_dir", metavar="RUN_DIR", help="run folder, or that of a search")
    parser.add_argument("--json", action="store_true", help="print it as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print a table of jobs, and one of branches that are under way."""
    from headrace.slurm.controller import Controller
    from headrace.slurm.overview import overview

    folder = Path(arguments.run_dir)
    if not folder.is_dir():
        raise ConfigError(
            Problem("there is no such folder", "RUN_DIR", str(folder), "Name the folder of a run")
        )
    seen = overview(folder, Controller())
    if arguments.json:
        print(json.dumps(asdict(seen), indent=1, ensure_ascii=False))
    else:
        _print(seen)
    return EXIT_DONE


def _print(seen: Overview) -> None:
    from headrace.report.tables import Table

    if seen.slurm is not None:
        print(f"SLURM was not asked: {seen.slurm}")
    if seen.jobs:
        rows = tuple(
            (job.name, job.title, job.state, job.detail, str(job.starts)) for job in seen.jobs
        )
        print(Table("Jobs", ("job", "for", "state", "", "starts"), rows, names=4).text())
    else:
        print("no jobs were submitted for this folder")
    if seen.branches:
        lines = tuple(
            (
                branch.title,
                f"{branch.step:,}",
                "" if branch.steps is None else f"{branch.steps:,}",
                "" if branch.tokens_per_s is None else f"{branch.tokens_per_s:,.0f}",
                "" if branch.seconds_left is None else _duration(branch.seconds_left),
                f"{branch.checkpoint:,}" if branch.checkpoint else "",
            )
            for branch in seen.branches
        )
        columns = ("branch", "step", "of", "tokens/s", "left", "checkpoint")
        print(Table("Under way", columns, lines).text())
    if seen.finished:
        print(f"finished: {', '.join(seen.finished)}")
    if seen.error is not None:
        text, file = seen.error
        print(f"last error: {text}\n  in {file}")


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
