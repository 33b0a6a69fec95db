"""Writes the report files of a run folder, each whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from headrace.report import tables
from headrace.report.run_folder import read_run_folder


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
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes the file private; a report is as readable as its folder's other files.
        mask = os.umask(0)
        os.umask(mask)
        Path(temporary).chmod(0o666 & ~mask)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
