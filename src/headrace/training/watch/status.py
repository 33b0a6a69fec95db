"""What the ranks of a run are doing, for somebody who is none of them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from headrace.report.tables import Table
from headrace.training.watch.activity import Moment
from headrace.training.watch.files import End, Heartbeat, end_of, heartbeats_of, jobs_of

_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class SeenJob:
    """A job of a run, as its files show it."""

    name: str
    ranks: tuple[Heartbeat, ...]
    beating: frozenset[int]
    """Ranks whose hearts beat while somebody looked."""
    end: End | None
    """Why it ended, if it ended badly."""
    stacks: tuple[Path, ...]
    """Files with stacks of its ranks."""


def look(run_folder: Path, wait: float) -> list[SeenJob]:
    """Look at all jobs of a run until each rank has shown a heartbeat, or `wait` seconds are over.

    A heartbeat is a file that changes: no clock of another machine is asked.
    """
    first = {path: heartbeats_of(path) for path in jobs_of(run_folder)}
    live = [path for path in first if end_of(path) is None]
    over = time.monotonic() + wait
    while True:
        now = {path: heartbeats_of(path) for path in live}
        waiting = any(len(_moved(first[path], now[path])) < len(first[path]) for path in live)
        if not waiting or time.monotonic() >= over:
            break
        time.sleep(_POLL_SECONDS)
    return [
        SeenJob(
            name=path.name,
            ranks=tuple(now.get(path, beats)),
            beating=frozenset(_moved(beats, now.get(path, ()))),
            end=end_of(path),
            stacks=tuple(sorted(file for file in path.glob("*.stack") if file.stat().st_size)),
        )
        for path, beats in first.items()
        if path.is_dir()  # it may have ended well by now
    ]


def is_well(job: SeenJob) -> bool:
    """Whether all ranks of a job are alive."""
    return job.end is None and len(job.beating) == len(job.ranks)


def table_of(job: SeenJob) -> Table:
    """One row a rank."""
    return Table(
        title=f"job {job.name}",
        names=8,
        columns=("rank", "node", "pid", "heart", "doing", "for", "waits in", "at"),
        rows=tuple(
            (
                str(beat.rank),
                beat.host,
                str(beat.pid),
                "beats" if beat.rank in job.beating else "still",
                str(Moment(beat.phase, beat.branch, beat.step)),
                f"{beat.seconds:.0f} s",
                beat.waits_in or "",
                beat.at or "",
            )
            for beat in job.ranks
        ),
    )


def _moved(before: Iterable[Heartbeat], now: Iterable[Heartbeat]) -> set[int]:
    beats = {beat.rank: beat.beat for beat in before}
    return {beat.rank for beat in now if beats.get(beat.rank) != beat.beat}
