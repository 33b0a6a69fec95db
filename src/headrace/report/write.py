"""Writes the report files of a run folder, each whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from headrace.report import tables
from headrace.report.run_folder import read_run_folder
from headrace.shards import storage


def results_markdown(run_dir: Path, compare: Sequence[Path] = ()) -> str:
    """The result tables of a run as Markdown.

    ``compare`` names further run folders, which add mean and sample standard deviation over all.
    Raises :class:`~headrace.errors.UserError` for a folder that is no run folder.
    """
    return tables.results_markdown(
        read_run_folder(run_dir), [read_run_folder(other) for other in compare]
    )


def write_results_markdown(run_dir: Path, compare: Sequence[Path] = ()) -> Path:
    """Write ``results.md`` into the run folder and return its path; raises as above."""
    path = Path(run_dir) / "results.md"
    _write_atomically(path, results_markdown(run_dir, compare))
    return path


def write_report(run_dir: Path, compare: Sequence[Path] = ()) -> Path:
    """Write ``report.html`` into the run folder and return its path.

    Raises :class:`~headrace.errors.UserError` for a folder that is no run folder, and
    :class:`~headrace.errors.MissingExtraError` where jinja2 or matplotlib is not installed.
    """
    from headrace.report.html import render_report

    run = read_run_folder(run_dir)
    page = render_report(run, [read_run_folder(other) for other in compare])
    path = Path(run_dir) / "report.html"
    _write_atomically(path, page)
    return path


def _write_atomically(path: Path, text: str) -> None:
    storage.write_atomically(str(path), text.encode("utf-8", errors="replace"))
