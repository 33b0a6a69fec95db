"""``headrace report``: the results page and tables of a run."""

from __future__ import annotations

import argparse

HELP = "write report.html and results.md of a run and print its results"
EXAMPLE = "headrace report runs/multiconer --compare runs/multiconer-seed2 runs/multiconer-seed3"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "run_dir",
        metavar="RUN_DIR",
        help="run folder that training wrote; the run may still be going",
    )
    parser.add_argument(
        "--compare",
        nargs="+",
        default=[],
        metavar="RUN_DIR",
        help="other runs (seeds, variants): adds mean and sample standard deviation over all runs",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write both files, and print the tables."""
    from headrace.errors import Problem, UserError
    from headrace.report import tables, write_report, write_results_markdown
    from headrace.report.run_folder import read_run_folder
    from headrace.shards import storage

    problems: list[Problem] = []
    runs = []
    named = [("RUN_DIR", arguments.run_dir), *(("--compare", text) for text in arguments.compare)]
    for option, text in named:
        try:
            runs.append(read_run_folder(storage.local_folder(text, option)))
        except UserError as error:
            problems += error.problems
    if problems:
        raise UserError(problems)
    this, *others = runs
    folders = [run.path for run in others]
    markdown = write_results_markdown(this.path, folders)
    page = write_report(this.path, folders)
    for note in tables.notes(this):
        print(note)
    headline = tables.headline_table(this)
    if headline.rows:
        print(headline.text())
    if others:
        print(tables.comparison_table([this, *others]).text())
    print(f"Wrote {markdown} and {page}")
    return 0
