"""What ranks leave behind: exit codes, and logs of their own, so that the job's log is readable.

Rank 0 prints into the log of its job; ``slurm/rank.sh`` gives each other rank a file.  When the
ranks have ended, the ends of the logs of those that failed are added to the log of the job.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from headrace.errors import EXIT_REQUEUE
from headrace.slurm.records import FOLDER

VARIABLE = "HEADRACE_RANKS"
"""Folder in which the ranks of a start leave their exit codes and logs."""
HEADING = "==="
"""What is added to the log of a job begins with it, and so do the logs of ranks."""
LINES = 30
"""Of the log of a failed rank that are added."""
SHOWN = 8
"""Failed ranks, or groups of ranks that print the same, whose logs are added."""
FAULTY_FILE = "faulty_nodes"
"""In the folder of the ranks: what a check leaves there for its job."""
_FOLDER = "ranks"
_TAIL_BYTES = 1 << 16
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")
"""Escape sequences of terminals, and other signs that are none to read."""


@dataclass(frozen=True)
class EndedRank:
    """A rank that did not end with 0."""

    rank: int
    code: int
    host: str
    time: float
    """Of its end, by the clock of the file system."""

    @property
    def is_killed(self) -> bool:
        """Whether a signal ended it, as launchers do with the others after a failure."""
        return self.code >= 128

    @property
    def place(self) -> str:
        """For people."""
        return f"rank {self.rank} on {self.host}"


def folder_of(run: Path, name: str) -> Path:
    """The folder of the ranks of a job."""
    return run / FOLDER / _FOLDER / name


def make_folder(folder: Path) -> None:
    """Make it, or empty it of what the start before has left."""
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # a full disk: the launcher's exit code has to do
        folder.mkdir(parents=True)


def take_ended(folder: Path) -> list[EndedRank]:
    """Return the ranks that have left an exit code, those that ended first before the others."""
    ended = []
    for path in folder.glob("*.exit"):
        code, _, host = path.read_text(encoding="utf-8").strip().partition(" ")
        if path.stem.isdecimal() and code.isdecimal():
            ended.append(EndedRank(int(path.stem), int(code), host, path.stat().st_mtime))
        path.unlink()
    return sorted(ended, key=lambda each: (each.time, each.rank))


def leave_faulty(environment: Mapping[str, str], nodes: Sequence[str]) -> None:
    """Name nodes that a check found faulty, for the job that it is part of, if it is."""
    folder = environment.get(VARIABLE)
    if folder is not None and nodes:
        with suppress(OSError):  # a full disk: the job is started again without that
            (Path(folder) / FAULTY_FILE).write_text("\n".join(nodes) + "\n", encoding="utf-8")


def faulty_nodes(folder: Path) -> list[str]:
    """Return the nodes that a check has named."""
    try:
        return (folder / FAULTY_FILE).read_text(encoding="utf-8").split()
    except OSError:
        return []


def logs_of_ranks(run: Path) -> list[Path]:
    """The logs of ranks of all jobs of a run."""
    return list((run / FOLDER / _FOLDER).glob("*/*.log"))


def ends_of_logs(folder: Path, ended: Sequence[EndedRank]) -> str:
    """What failed ranks printed last, under headings with rank and host; empty if none failed.

    The first one that failed comes first.  Ranks that were killed are only counted if another one
    failed by itself.
    """
    failed = [each for each in ended if each.code != EXIT_REQUEUE]
    own = [each for each in failed if not each.is_killed] or failed
    groups: dict[str, list[EndedRank]] = {}
    for each in own:
        text = "" if each.rank == 0 else _end_of(folder / f"{each.rank}.log")
        groups.setdefault(text if text else f"\0{each.rank}", []).append(each)
    parts = []
    for text, ranks in list(groups.items())[:SHOWN]:
        same = f", and in the same way {_places(ranks[1:])}" if len(ranks) > 1 else ""
        where = "above" if ranks[0].rank == 0 else folder / f"{ranks[0].rank}.log"
        parts.append(f"{HEADING} {ranks[0].place}: exit code {ranks[0].code}, see {where}{same}")
        parts += [] if text.startswith("\0") else [text]
    left = sum(map(len, list(groups.values())[SHOWN:]))
    if left:
        parts.append(f"{HEADING} {left} more ranks failed: see {folder}")
    if len(own) < len(failed):
        killed = [each for each in failed if each not in own]
        parts.append(f"{HEADING} ended by signals: {_places(killed)}")
    return "\n".join(parts)


def _places(ranks: Sequence[EndedRank]) -> str:
    named = ", ".join(each.place for each in ranks[:SHOWN])
    return named if len(ranks) <= SHOWN else f"{named} and {len(ranks) - SHOWN} more"


def _end_of(log: Path) -> str:
    """The last lines of a log, without its heading and as they looked on the screen at last."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [_CONTROL.sub("", line.rpartition("\r")[2]) for line in text.split("\n")]
    kept = [line for line in lines if line.strip() and not _is_of_rank_script(line)]
    return "\n".join(kept[-LINES:])


def _is_of_rank_script(line: str) -> bool:
    return line.startswith(f"{HEADING} ") or bool(re.match(r"rank \d+ on \S+: exit code ", line))
