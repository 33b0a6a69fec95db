"""``headrace search``: find learning rates by layer group that forget little and learn much."""

from __future__ import annotations

import argparse
import logging
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.errors import EXIT_DONE, ConfigError, MissingExtraError, Problem

if TYPE_CHECKING:
    from headrace.search.study import Study

HELP = "search learning rates by layer group that forget little and learn much"
EXAMPLE = "headrace search study.json"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("study", metavar="STUDY", help="study file (Hjson)")
    parser.add_argument(
        "--status", action="store_true", help="print how far the study is, and stop"
    )
    parser.add_argument(
        "--report-only", action="store_true", help="report on what is finished, and stop"
    )
    parser.add_argument(
        "--no-wait",
        action="store_true",
        help="end when the last trials are in other workers' hands, instead of waiting to take "
        "them over if those die",
    )


def run(arguments: argparse.Namespace) -> int:
    """Take trials until the study is full, and write distribution, results and report."""
    if find_spec("optuna") is None:
        raise MissingExtraError("optuna", "search", "headrace search")
    from headrace.search.study_file import load_study_file
    from headrace.training.distributed import environment_world_size
    from headrace.training.logs import quiet_libraries

    if arguments.status and arguments.report_only:
        what = "these exclude each other"
        raise ConfigError(Problem(what, "--status, --report-only", remedy="Give one"))
    if environment_world_size() > 1:
        raise ConfigError(
            Problem(
                "a worker is one process",
                "environment",
                f"{environment_world_size()} ranks",
                "Start headrace search several times instead, without a launcher",
            )
        )
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    quiet_libraries()
    file, base = load_study_file(Path(arguments.study))
    only_look = arguments.status or arguments.report_only
    study = _open(file, base, only_look)
    if not only_look:
        _work(study, wait=not arguments.no_wait)
    if arguments.status:
        _print_status(study)
    else:
        _report(study)
    return EXIT_DONE


def _open(file: Any, base: dict[str, Any], only_look: bool) -> Study:
    from headrace.search.sequences import epochs_of, find_space
    from headrace.search.study import RECORD_FILE, open_study

    record = Path(file.output) / RECORD_FILE
    if only_look and not record.exists():
        what = "there is no study here yet"
        raise ConfigError(Problem(what, "output", file.output, "Start it without --status"))
    return open_study(file, base, epochs_of(base), lambda: find_space(file, base))


def _work(study: Study, *, wait: bool) -> None:
    from headrace.forgetting.sequence import open_group
    from headrace.search.sequences import SequenceObjective, check_sequences
    from headrace.search.worker import is_full, work

    if is_full(study):
        return
    check_sequences(study)
    with open_group() as group:
        objective = SequenceObjective(study, group)
        done = work(
            study,
            objective,
            wait=wait,
            stop_requested=lambda: group.stop_flag.received is not None,
            on_end=objective.release,
        )
    print(f"{study.folder}: this worker has finished {done:,} trials")


def _print_status(study: Study) -> None:
    from headrace.search.status import status_tables

    for table in status_tables(study):
        if table.rows:
            print(table.text())


def _report(study: Study) -> None:
    from headrace.report.search_page import verdict
    from headrace.search.results import REPORT_FILE, write_results

    results = write_results(study)
    _print_status(study)
    combined = results["searches"]["groups"]["combined"]
    if combined is not None:
        for name, facts in combined["rates"].items():
            bounds = facts["interval"]
            between = f"  {bounds[0]:.1e} to {bounds[1]:.1e}" if bounds else ""
            print(f"  {name:<14}{facts['rate']:.3e}{between}")
    print(verdict(combined))
    print(f"report: {study.folder / REPORT_FILE}")
