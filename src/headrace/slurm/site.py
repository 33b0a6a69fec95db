"""Site profiles: what a cluster wants to be told, in a small file that bash can read as well.

A profile is a list of assignments, ``NAME=value``.  Names with ``HEADRACE_`` are read here; batch
scripts export all of them to the job, so that ``NCCL_SOCKET_IFNAME=ib0`` has its place there too.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from headrace.config.messages import did_you_mean
from headrace.errors import ConfigError, Problem
from headrace.slurm.decision import Limits

FOLDER = Path("slurm/sites")
"""Of the profiles, from the root of the repository."""
_PREFIX = "HEADRACE_"
LOCAL_SCRATCH = "HEADRACE_LOCAL_SCRATCH"
"""Folder on a disk of each node."""
_KNOWN = {
    "HEADRACE_DIRECTIVES": "",
    "HEADRACE_QOS": "",
    "HEADRACE_RANKS_PER_NODE": "1",
    "HEADRACE_LAUNCH": "srun",
    "HEADRACE_SRUN": "--cpu-bind=cores --distribution=block:block",
    "HEADRACE_REQUEUE": "yes",
    "HEADRACE_CHECK": "no",
    "HEADRACE_RETRIES": str(Limits.retries),
    "HEADRACE_RETRY_SECONDS": str(Limits.retry_seconds),
    "HEADRACE_IDLE_STARTS": str(Limits.idle_starts),
    "HEADRACE_MODULES": "",
    "HEADRACE_VENV": "",
    LOCAL_SCRATCH: "",
}
"""Every name and its default; the last three are for batch scripts and ranks alone."""
_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)")


@dataclass(frozen=True)
class Qos:
    """A quality of service, with what a job may ask for under it."""

    name: str
    hours: float
    gpus: int


@dataclass(frozen=True)
class Site:
    """A profile, checked."""

    path: Path
    directives: tuple[str, ...]
    """Options of ``sbatch`` for a job on whole nodes; ``{project}`` stands for the project."""
    qos: tuple[Qos, ...]
    """The first that fits is asked for; none where the site has no such limits."""
    ranks_per_node: int
    launch: Literal["srun", "torchrun"]
    """Whether ``srun`` starts a task a rank, or a task a node that starts its ranks."""
    srun: tuple[str, ...]
    """Options of ``srun`` for ranks: each on cores of its own, neighbours on one socket."""
    requeue: bool
    """Whether a job may requeue itself; if not, it submits its successor."""
    check: bool
    """Whether the nodes are checked ahead of the first start of a job, and of one after a fault."""
    limits: Limits


def find_site(name: str) -> Path:
    """Return the path of a profile that is named, or given as a path.

    Raises:
        ConfigError: if there is none.
    """
    path = Path(name)
    if path.suffix != ".env":
        path = FOLDER / f"{name}.env"
    if not path.is_file():
        names = sorted(file.stem for file in FOLDER.glob("*.env"))
        remedy = f"Give one of {', '.join(names)}, or the path of a profile of your own"
        raise ConfigError(Problem("no such site profile", "--site", name, remedy))
    return path


def read_site(path: Path) -> Site:
    """Read a profile.

    Raises:
        ConfigError: with every line that is no assignment, name that is unknown, and value that
            cannot be used.
    """
    problems: list[Problem] = []
    given = {
        name: value
        for name, value in _assignments(path, problems).items()
        if name.startswith(_PREFIX)
    }
    problems += [
        Problem("no such setting", f"{path}: {name}", None, did_you_mean(name, _KNOWN))
        for name in given
        if name not in _KNOWN
    ]
    values = {**_KNOWN, **given}

    def whole(name: str, least: int) -> int:
        text = values[name]
        if text.isdecimal() and int(text) >= least:
            return int(text)
        remedy = f"Give a whole number, {least} or more"
        problems.append(Problem("out of range", f"{path}: {name}", text, remedy))
        return least

    def one_of(name: str, choices: tuple[str, ...]) -> str:
        if values[name] not in choices:
            remedy = f"Give {' or '.join(choices)}"
            problems.append(Problem("unknown value", f"{path}: {name}", values[name], remedy))
        return values[name]

    launch = one_of("HEADRACE_LAUNCH", ("srun", "torchrun"))
    requeue = one_of("HEADRACE_REQUEUE", ("yes", "no"))
    check = one_of("HEADRACE_CHECK", ("yes", "no"))
    site = Site(
        path=path,
        directives=tuple(shlex.split(values["HEADRACE_DIRECTIVES"])),
        qos=_qos(path, values["HEADRACE_QOS"], problems),
        ranks_per_node=whole("HEADRACE_RANKS_PER_NODE", 1),
        srun=tuple(shlex.split(values["HEADRACE_SRUN"])),
        launch="torchrun" if launch == "torchrun" else "srun",
        requeue=requeue == "yes",
        check=check == "yes",
        limits=Limits(
            idle_starts=whole("HEADRACE_IDLE_STARTS", 1),
            retries=whole("HEADRACE_RETRIES", 0),
            retry_seconds=whole("HEADRACE_RETRY_SECONDS", 0),
        ),
    )
    if problems:
        raise ConfigError(problems)
    return site


def _assignments(path: Path, problems: list[Problem]) -> Mapping[str, str]:
    """The assignments, with quotes and comments taken off as bash does; nothing is expanded."""
    values = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(Problem(f"cannot be read: {error}", str(path))) from None
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        match = _ASSIGNMENT.fullmatch(text)
        try:
            words = shlex.split(match[2], comments=True) if match else []
        except ValueError:
            words = ["", ""]
        if match is None or len(words) > 1:
            remedy = 'Write NAME="value"'
            problems.append(Problem("no assignment", f"{path}:{number}", text, remedy))
        else:
            values[match[1]] = words[0] if words else ""
    return values


def _qos(path: Path, text: str, problems: list[Problem]) -> tuple[Qos, ...]:
    found = []
    for word in text.split():
        match = re.fullmatch(r"([^:]+):(\d+(?:\.\d+)?):(\d+)", word)
        if match is None:
            remedy = "Write NAME:HOURS:GPUS"
            problems.append(Problem("no limits of a QoS", f"{path}: HEADRACE_QOS", word, remedy))
        else:
            found.append(Qos(match[1], float(match[2]), int(match[3])))
    return tuple(found)
