"""Headrace: the command ``headrace build`` with a recipe."""

from __future__ import annotations

from typing import Any

from headrace.cli import main


def run(task: dict[str, Any]) -> dict[str, Any]:
    """Build, or go on with a build that was interrupted."""
    words = ["build", "--recipe", task["recipe"], "--output", task["output"]]
    words += ["--workers", str(task["workers"])]
    if task.get("keep"):
        words.append("--keep-intermediate")
    code = main(words)
    if code != 0:
        raise SystemExit(code)
    return {}
