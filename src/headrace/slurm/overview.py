"""How far the jobs of a run are: its records, what SLURM says of them, and the run's own files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from headrace.slurm.controller import Controller, QueuedJob, SlurmError
from headrace.slurm.rank_logs import logs_of_ranks
from headrace.slurm.records import FOLDER, Record, read_records
from headrace.slurm.work import newest_step
from headrace.training.watch.files import end_of, jobs_of

METRICS_FILE = "metrics.jsonl"
_TAIL_BYTES = 1 << 20
"""Of files that grow: the end is what counts."""
_ERROR = re.compile(
    rb"^((?:error|mistake|fault): .*|headrace: (?!SIG\w+:|stopped by a signal).*"
    rb"|(?!torch\.distributed\.elastic)[\w.]*(?:Error|Exception)\b.*)$"
)
"""Of a log: what commands and checks print of a mistake or a fault, and the last line of a
traceback; not that of a launcher, which only repeats that ranks have failed."""
_OF_RANK = re.compile(rb"^=== (rank \d+ on [^\s:]+)")
_OF_JOB = re.compile(rb"^\[job ")


@dataclass(frozen=True)
class SeenJob:
    """A job, or a task of an array."""

    name: str
    title: str
    state: str
    """SLURM's, as long as it has the job; after that, in words."""
    starts: int
    detail: str
    """Why it waits, what is left of its time, or what was decided at its last end."""


@dataclass(frozen=True)
class SeenBranch:
    """A branch that has been started and is not finished."""

    title: str
    step: int
    steps: int | None
    tokens_per_s: float | None
    seconds_left: float | None
    """At the pace of its last steps; training alone, without validation."""
    checkpoint: int
    """Step of the newest checkpoint; 0 without one."""


@dataclass(frozen=True)
class Overview:
    """All of it."""

    jobs: tuple[SeenJob, ...]
    branches: tuple[SeenBranch, ...]
    finished: tuple[str, ...]
    """Branches that have their result."""
    error: tuple[str, str] | None
    """The last one, and the file that has it."""
    slurm: str | None
    """Why SLURM could not be asked."""


def overview(run: Path, controller: Controller) -> Overview:
    """Look at a run folder; SLURM is asked if it is there."""
    records = read_records(run)
    queued: dict[str, QueuedJob] | None = None
    states: Mapping[str, str] = {}
    problem = None
    try:
        queued = {job.number: job for job in controller.queue()}
    except SlurmError as error:
        problem = str(error)
    else:
        numbers = [number for record in records for number in {record.name, *record.numbers}]
        states = controller.accounting(numbers) if numbers else {}
    jobs = tuple(seen_job(record, queued, states) for record in with_waiting_tasks(records))
    branches, finished = seen_branches(run)
    return Overview(jobs, branches, finished, last_error(run), problem)


def with_waiting_tasks(records: Iterable[Record]) -> Iterator[Record]:
    """All records, in place of that of an array one for each of its tasks."""
    records = list(records)
    started = {record.name: record for record in records}
    tasks = set()
    for record in records:
        if record.name in tasks:
            continue
        names = dict((record.submitted or {}).get("tasks") or {})
        if not names:
            yield record
        for task, title in names.items():
            name = f"{record.name}_{task}"
            tasks.add(name)
            found = started.get(name, Record(name, last=record.last))
            yield replace(found, submitted={**(record.submitted or {}), "title": title})


def seen_job(
    record: Record, queued: Mapping[str, QueuedJob] | None, states: Mapping[str, str]
) -> SeenJob:
    """What is known of one job; ``queued``: the jobs that SLURM has, None if it was not asked."""
    title = str((record.submitted or {}).get("title", ""))
    number = record.numbers[-1] if record.numbers else record.name
    listed = (queued or {}).values()
    successors = [job for job in listed if job.number in (number, record.name)]
    last = record.last or {}
    kind = last.get("event")
    if successors:
        job = successors[0]
        if job.state == "PENDING":
            expected = "" if job.start == "N/A" else f", expected to start {job.start}"
            detail = f"{job.reason}{expected}"
        else:
            detail = f"on {job.nodes}, {job.left} left"
        state = job.state
    elif kind == "stop":
        state = "finished" if last.get("exit_code") == 0 else "stopped"
        detail = "" if state == "finished" else str(last.get("reason"))
    elif queued is None:
        state, detail = "unknown", ""
    elif kind == "again":
        state, detail = "gone", "it was to be started again, and SLURM does not have it"
    else:
        state = "gone"
        detail = "ended by SLURM" if record.starts else "taken out of the queue before it started"
        detail = states.get(number, detail)
    return SeenJob(record.name, title, state, len(record.starts), detail)


def seen_branches(run: Path) -> tuple[tuple[SeenBranch, ...], tuple[str, ...]]:
    """Unfinished branches and the titles of the finished ones, as the run's files show them."""
    starts: dict[tuple[str, str], Mapping[str, Any]] = {}
    steps: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for record in _events(run / METRICS_FILE):
        key = (str(record.get("stage")), str(record.get("branch")))
        if record.get("kind") == "start":
            starts[key], steps[key] = record, []
        elif record.get("kind") == "train" and isinstance(record.get("step"), int):
            steps.setdefault(key, []).append(record)
    branches, finished = [], []
    for (stage, name), start in sorted(starts.items()):
        title = stage if name == "all" else f"{stage}/{name}"
        if (run / stage / name / "result.json").exists():
            finished.append(title)
        else:
            checkpoint = newest_step(run / stage / name / "checkpoints")
            branches.append(_seen_branch(title, start, steps.get((stage, name), []), checkpoint))
    return tuple(branches), tuple(finished)


def _seen_branch(
    title: str, start: Mapping[str, Any], steps: list[Mapping[str, Any]], checkpoint: int
) -> SeenBranch:
    total = start.get("steps")
    if not steps:
        return SeenBranch(title, 0, total, None, None, checkpoint)
    last = steps[-1]
    left = None
    before = steps[-min(len(steps), 10)]
    if isinstance(total, int) and last["step"] > before["step"]:
        pace = (float(last["time"]) - float(before["time"])) / (last["step"] - before["step"])
        left = max(0.0, pace * (total - last["step"]))
    return SeenBranch(title, last["step"], total, last.get("tokens_per_s"), left, checkpoint)


def _events(path: Path) -> Iterator[Mapping[str, Any]]:
    """The lines of a metrics file; torn ones are passed over."""
    try:
        with path.open("rb") as file:
            for line in file:
                try:
                    event = json.loads(line)
                except ValueError:
                    continue
                if isinstance(event, dict):
                    yield event
    except FileNotFoundError:
        return


def last_error(run: Path) -> tuple[str, str] | None:
    """The newest reason why ranks ended a run, or error in a log; and the file that has it."""
    found: list[tuple[float, str, str]] = []
    for job in jobs_of(run):
        end = end_of(job)
        if end is not None:
            found.append((job.stat().st_mtime, end.why, str(job)))
    for log in (*(run / FOLDER).glob("*.log"), *logs_of_ranks(run)):
        text = _last_error_in(log)
        if text is not None:
            found.append((log.stat().st_mtime, text, str(log)))
    return max(found)[1:] if found else None


def _last_error_in(log: Path) -> str | None:
    """The last error of a log, with its rank and host where it is not rank 0's.

    Of ranks that failed together, whose ends stand one behind another, the first counts.
    """
    error: bytes | None = None
    rank = first = None
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        for line in file:
            if heading := _OF_RANK.match(line):
                rank = heading[1]
                first = first or rank
            elif _OF_JOB.match(line):
                rank = first = None
            elif (match := _ERROR.match(line.rstrip())) and rank == first:
                error = match[1] if rank is None else rank + b": " + match[1]
    return None if error is None else error.decode("utf-8", "replace")
