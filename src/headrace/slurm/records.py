"""What has become of the jobs of a run: ``slurm/NAME.jsonl`` in its folder, one file a job.

A job is one unit of work over all of its starts: requeued, or continued by successors under other
numbers.  Its name is the number that it had first (``123``, ``123_4`` in an array).  Each file has
one writer at a time.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headrace.slurm.decision import End, Start

FOLDER = "slurm"
"""In the folder of a run: records, and the logs of the jobs."""
NAME_VARIABLE = "HEADRACE_JOB"
"""A successor finds the name of its job here."""


@dataclass
class Record:
    """A job as its file has it."""

    name: str
    submitted: Mapping[str, Any] | None = None
    """Who submitted it: ``template``, ``title``, ``command``, ``log``, ``tasks`` of an array."""
    starts: list[Start] = field(default_factory=list)
    numbers: list[str] = field(default_factory=list)
    """Numbers that SLURM gave it, one a start."""
    excluded: list[str] = field(default_factory=list)
    """Nodes that it is not started on any more."""
    last: Mapping[str, Any] | None = None
    """The last event."""
    unreadable: int = 0
    """Lines that are damaged."""


def job_number(environment: Mapping[str, str]) -> str:
    """Return the number by which SLURM knows this job.

    In an array it has two parts: the first alone would stand for all of its tasks.
    """
    array = environment.get("SLURM_ARRAY_JOB_ID")
    if array is not None:
        return f"{array}_{environment['SLURM_ARRAY_TASK_ID']}"
    return environment["SLURM_JOB_ID"]


def job_name(environment: Mapping[str, str]) -> str:
    """Return the name of this job: its first number."""
    return environment.get(NAME_VARIABLE) or job_number(environment)


def write_event(folder: Path, name: str, kind: str, **facts: Any) -> None:
    """Add a line to the record of a job, and see it onto the disk."""
    path = folder / FOLDER / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps({"event": kind, "time": round(time.time(), 3), **facts}) + "\n"
    with path.open("ab") as file:
        if file.tell() and not _ends_a_line(path):
            line = "\n" + line  # a start was killed while it wrote
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def read_record(folder: Path, name: str) -> Record:
    """Return the record of a job; an empty one where there is none yet."""
    record = Record(name)
    try:
        lines = (folder / FOLDER / f"{name}.jsonl").read_bytes().splitlines()
    except FileNotFoundError:
        return record
    for line in lines:
        try:
            event = json.loads(line)
            _apply(record, event)
        except (ValueError, KeyError, TypeError):
            record.unreadable += bool(line)
            continue
        record.last = event
    return record


def _apply(record: Record, event: Mapping[str, Any]) -> None:
    kind = event["event"]
    if kind == "submitted":
        record.submitted = event
    elif kind == "start":
        record.starts.append(Start(event["progress"], None))
        record.numbers.append(event["job"])
    elif kind == "end":
        end = End(event["exit_code"], event["asked"], event["progress"])
        record.starts[-1] = Start(record.starts[-1].progress, end)
    elif kind == "again":
        record.excluded += [
            node for node in event.get("exclude", []) if node not in record.excluded
        ]


def read_records(folder: Path) -> list[Record]:
    """Return the records of all jobs of a run, in the order in which they were submitted."""

    def key(path: Path) -> tuple[int, ...]:
        return tuple(int(part) for part in path.stem.split("_"))

    paths = [path for path in (folder / FOLDER).glob("*.jsonl") if _is_name(path.stem)]
    return [read_record(folder, path.stem) for path in sorted(paths, key=key)]


def _is_name(text: str) -> bool:
    return all(part.isdecimal() for part in text.split("_"))
