"""The files by which ranks tell each other what they do, in a folder that all nodes see.

``RUN/watch/JOB/`` has ``rank-N.json`` for each rank, rewritten at every heartbeat;
``rank-N.stack``, its Python stacks, if the run hung; ``end.json``, written by the first rank that
finds a reason to end the run; and ``stop``, if a stop signal reached a rank that works by itself.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

_END = "end.json"
FOLDER = "watch"
"""Of a run, with a folder for each job that trains it now, or ended badly."""
_KEPT = 3
"""Folders of jobs that ended badly, for those who want to know why."""


@dataclass(frozen=True)
class Place:
    """Where a rank runs."""

    rank: int
    host: str
    pid: int
    processes: str | None
    """Names the kernel and the table of processes that the pid is from; None: not known."""

    @classmethod
    def here(cls, rank: int) -> Place:
        """That of this process."""
        try:
            boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
            table = Path("/proc/self/ns/pid").readlink()
            processes = f"{boot} {table}"
        except OSError:
            processes = None
        return cls(rank, socket.gethostname(), os.getpid(), processes)

    def sees(self, other: Place) -> bool:
        """Whether the other's process is in the same table."""
        return self.processes is not None and self.processes == other.processes


@dataclass(frozen=True)
class Heartbeat:
    """What a rank's file says."""

    rank: int
    host: str
    pid: int
    beat: int
    """Grows with every heartbeat."""
    phase: str
    branch: str | None
    step: int | None
    position: int
    """How many phases the rank has entered."""
    seconds: float
    """Since the last sign of progress, as the rank itself counts them."""
    allowance: float | None
    """Seconds that it may go without; None: as many as it likes."""
    waits_in: str | None
    """The collective in which it waits for other ranks, if it does and Python sees it."""
    at: str | None
    """Where in the code its main thread is."""


@dataclass(frozen=True)
class End:
    """Why a run ends."""

    kind: str
    """``hang``, ``lost`` (a rank is gone) or ``failed`` (a rank raised an error)."""
    rank: int
    """Who says so."""
    why: str


class WatchFolder:
    """The folder of one job, as one rank sees it."""

    def __init__(self, path: Path, rank: int) -> None:
        self.path = path
        self._end_file = path / _END
        self.stop_file = path / "stop"
        self.stack_file = path / f"rank-{rank}.stack"
        self._own = path / f"rank-{rank}.json"
        self._next = path / f".rank-{rank}.json"

    def write(self, heartbeat: Heartbeat) -> None:
        """Replace this rank's file.  Raises ``OSError``."""
        self._next.write_text(json.dumps(asdict(heartbeat)), encoding="utf-8")
        self._next.replace(self._own)

    def read(self, rank: int) -> Heartbeat | None:
        """Another rank's file; None if it is not there, or not of this version."""
        return _read(self.path / f"rank-{rank}.json")

    def has_left(self, rank: int) -> bool:
        """Whether a rank has taken its file away, as it does when all is well."""
        return not (self.path / f"rank-{rank}.json").exists()

    def tell(self, end: End) -> bool:
        """Tell all ranks that the run ends; whether this rank was the first to say so."""
        try:
            with self._end_file.open("x", encoding="utf-8") as file:
                json.dump(asdict(end), file)
        except FileExistsError:
            return False
        except OSError:  # a full disk: each rank finds out by itself
            pass
        return True

    def end(self) -> End | None:
        """What the first rank said; None: the run goes on, or the file is not whole yet."""
        return end_of(self.path)

    def leave(self) -> None:
        """Take this rank's files away, and the folder with the last rank's."""
        for path in (self._own, self._next, self.stack_file, self.stop_file):
            with suppress(OSError):
                path.unlink()
        for folder in (self.path, self.path.parent):
            with suppress(OSError):
                folder.rmdir()


def jobs_of(run_folder: Path) -> list[Path]:
    """Folders of the jobs of a run that train it now or ended badly, the oldest first."""
    folder = run_folder / FOLDER
    return sorted(path for path in folder.glob("*") if path.is_dir())


def heartbeats_of(job: Path) -> list[Heartbeat]:
    """The files of all ranks of a job, by rank."""
    found = [_read(path) for path in job.glob("rank-*.json")]
    return sorted((beat for beat in found if beat is not None), key=lambda beat: beat.rank)


def end_of(job: Path) -> End | None:
    """Why a job ended, if it ended badly and could say so."""
    try:
        return End(**json.loads((job / _END).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


class Leftovers:
    """Folders that are there when a job begins: of jobs that were killed, or are still at work."""

    def __init__(self, run_folder: Path) -> None:
        self._found = {job: heartbeats_of(job) for job in jobs_of(run_folder)}

    def remove(self) -> None:
        """Remove those in which no heart has beaten since, and all but the last that say why."""
        dead = [job for job, beats in self._found.items() if heartbeats_of(job) == beats]
        explained = [job for job in dead if (job / _END).exists()]
        for job in dead:
            if job not in explained[-_KEPT:]:
                shutil.rmtree(job, ignore_errors=True)


def _read(path: Path) -> Heartbeat | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return Heartbeat(**{field.name: found[field.name] for field in fields(Heartbeat)})
    except (OSError, ValueError, KeyError, TypeError):
        return None
