"""``headrace report``: the results page and tables of a run."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "write report.html and results.md of a run and print its results"
EXAMPLE = "headrace report runs/multiconer --compare runs/multiconer-seed2 runs/multiconer-seed3"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "run_dir",
        type=Path,
        metavar="RUN_DIR",
        help="run folder that training wrote; the run may still be going",
    )
    parser.add_argument(
        "--compare",
        type=Path,
        nargs="+",
        default=[],
        metavar="RUN_DIR",
        help="other runs (seeds, variants): adds mean and sample standard deviation over all runs",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write both files, and print the tables."""
    from headrace.report import tables, write_report, write_results_markdown
    from headrace.report.run_folder import read_run_folder

    this = read_run_folder(arguments.run_dir)
    others = [read_run_folder(folder) for folder in arguments.compare]
    markdown = write_results_markdown(arguments.run_dir, arguments.compare)
    page = write_report(arguments.run_dir, arguments.compare)
    for note in tables.notes(this):
        print(note)
    headline = tables.headline_table(this)
    if headline.rows:
        print(headline.text())
    if others:
        print(tables.comparison_table([this, *others]).text())
    print(f"Wrote {markdown} and {page}")
    return 0
