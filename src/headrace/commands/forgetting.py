"""``headrace forgetting``: an experiment about forgetting, from the runs to the tables."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.errors import EXIT_DONE, ConfigError, Problem, StopRequested, UserError

if TYPE_CHECKING:
    from headrace.forgetting.trials import Setup

HELP = "compare methods on sequences of tasks: how much is kept of the earlier ones"
EXAMPLE = (
    "headrace forgetting ds_configs/forgetting/experiment.json --output runs/forgetting/experiment"
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("experiment", metavar="EXPERIMENT", help="experiment file (Hjson)")
    parser.add_argument(
        "--output",
        metavar="DIR",
        help="folder of the experiment (default: as the file says, or runs/ and its name)",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="check everything, list the runs, and stop"
    )
    parser.add_argument(
        "--report-only", action="store_true", help="report on what is finished, and stop"
    )
    # DeepSpeed's launcher adds this to every command; the environment says the same
    parser.add_argument("--local_rank", type=int, default=0, help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> int:
    """Run what is not finished, and write results, tables and page."""
    from headrace.training.distributed import environment_rank, environment_world_size
    from headrace.training.logs import quiet_libraries

    main = environment_rank() == 0
    handler = logging.StreamHandler()
    handler.addFilter(_Once())
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler])
    quiet_libraries()
    try:
        setup = _set_up(arguments)
        if not arguments.report_only:
            from headrace.forgetting.experiment import check

            check(setup, environment_world_size())
    except UserError as error:
        if main:
            raise
        return error.exit_code  # every rank reads the same files; the main rank prints
    try:
        if arguments.dry_run:
            if main:
                print(_overview(setup))
            return EXIT_DONE
        environment = _run(setup) if not arguments.report_only else {}
    except UserError as error:
        if main or not error.joint:
            raise
        return error.exit_code
    except StopRequested as error:
        if main:
            raise
        return error.exit_code
    if main:
        _report(setup, environment)
    return EXIT_DONE


class _Once(logging.Filter):
    """Lets each message pass once: the runs of an experiment say much the same."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the message is new."""
        message = record.getMessage()
        is_new = message not in self._seen
        self._seen.add(message)
        return is_new


def _set_up(arguments: argparse.Namespace) -> Setup:
    from headrace.forgetting.experiment import set_up
    from headrace.forgetting.experiment_file import load_experiment
    from headrace.shards import storage

    if arguments.dry_run and arguments.report_only:
        raise ConfigError(Problem("nothing would be left to do", "--dry-run --report-only"))
    path = Path(arguments.experiment)
    experiment, base = load_experiment(path)
    named = arguments.output if arguments.output is not None else experiment.output
    where = "--output" if arguments.output is not None else "output"
    output = storage.local_folder(named if named is not None else f"runs/{path.stem}", where)
    return set_up(experiment, base, output)


def _run(setup: Setup) -> dict[str, str]:
    from tqdm import tqdm

    from headrace.forgetting.experiment import Experiment
    from headrace.forgetting.sequence import open_group
    from headrace.training.results import environment

    with open_group() as group:
        Experiment(setup, group, lambda line: tqdm.write(line, file=sys.stdout)).run()
        return environment(group.world.size, group.world.device)


def _overview(setup: Setup) -> str:
    from headrace.forgetting.experiment import Progress
    from headrace.report.tables import Table

    experiment = setup.experiment
    cells = len(setup.compared_cells())
    rows = tuple(
        (
            experiment.title(name),
            str(len(section.candidates()) * len(setup.tuning_cells()) if section.is_tuned else 0),
            str(cells),
        )
        for name, section in experiment.methods.items()
    )
    table = Table("Runs", ("Method", "To choose values", "Compared"), rows)
    progress = Progress(setup)
    return f"{table.text()}{progress.done} of {progress.total} runs are finished."


def _report(setup: Setup, environment: dict[str, str]) -> None:
    from headrace.errors import MissingExtraError
    from headrace.forgetting.results import write_results
    from headrace.forgetting.tables import NOTE, all_tables, markdown
    from headrace.shards import storage

    results: dict[str, Any] = write_results(setup, environment)
    for table in all_tables(results):
        print(table.text())
    print(NOTE)
    name = setup.output.name
    storage.write_atomically(str(setup.output / "results.md"), markdown(results, name).encode())
    print(f"tables: {setup.output / 'results.md'}")
    try:
        from headrace.report.forgetting_page import render_forgetting

        page = render_forgetting(name, results)
    except MissingExtraError as error:
        print(f"no report.html: {error}", file=sys.stderr)
        return
    storage.write_atomically(str(setup.output / "report.html"), page.encode())
    print(f"report: {setup.output / 'report.html'}")
