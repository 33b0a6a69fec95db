"""Programs of contestants: each runs in a fresh process of its own environment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TIME_LIMIT_S = 300
_RANKS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")

Task = dict[str, Any]


class FailedError(Exception):
    """A contestant ended with an error; the message is the last line that it printed."""


def version_of(package: str, interpreter: Path) -> str:
    """The version of a package in the environment of an interpreter.

    Raises ``LookupError``, which says what is not there.
    """
    question = f"import importlib.metadata as m; print(m.version({package!r}))"
    try:
        answer = subprocess.run([interpreter, "-c", question], capture_output=True, text=True)
    except OSError:
        raise LookupError(f"there is no {interpreter}") from None
    if answer.returncode != 0:
        raise LookupError(f"{package} is not installed in {interpreter.parents[1]}")
    return answer.stdout.strip()


def start(
    interpreter: str, harness: Path, module: str, task: Task, environment: Mapping[str, str]
) -> subprocess.Popen[str]:
    """Start a program with a task, in a process group of its own.

    Args:
        interpreter: Python of the contestant's environment.
        harness: script that imports the program and gives it the task.
        module: name of the program, beside the harness.
        task: JSON-able.
        environment: variables that are set beside those of this process.
    """
    outside = {name: value for name, value in os.environ.items() if name not in _RANKS}
    return subprocess.Popen(
        [interpreter, str(harness), module, json.dumps(task)],
        env={**outside, **environment, "PYTHONWARNINGS": "ignore"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str], expected: int) -> str:
    """Wait for a program that is to end with the exit code ``expected``; return its output.

    Raises :class:`FailedError` for another exit code, and where it does not end.
    """
    with process:
        try:
            output, errors = process.communicate(timeout=TIME_LIMIT_S)
        except subprocess.TimeoutExpired:
            raise FailedError(f"no end after {TIME_LIMIT_S} s") from None
        finally:
            _end_group(process.pid)
    if process.returncode != expected:
        lines = [line.strip() for line in errors.splitlines() if line.strip()]
        raise FailedError(lines[-1] if lines else f"exit code {process.returncode}")
    return output


def answer_of(process: subprocess.Popen[str]) -> Any:
    """Wait for a program and return what it found: the JSON of its last line.

    Raises :class:`FailedError` where it fails or says nothing.
    """
    output = finish(process, expected=0).strip()
    if not output:
        raise FailedError("it ended without a result")
    return json.loads(output.splitlines()[-1])


def _end_group(group: int) -> None:
    """End the worker processes that a contestant may have left behind."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return
