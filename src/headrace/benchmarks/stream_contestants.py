"""Who takes part in the benchmark ``stream``, and how one of them is run once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROGRAMS = Path(__file__).parent / "stream_peers"
TIME_LIMIT_S = 300
_INHERITED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")

Task = dict[str, Any]


class FailedError(Exception):
    """A contestant ended with an error; the message is the last line that it printed."""


@dataclass(frozen=True)
class Contestant:
    """One loader in one environment."""

    name: str
    module: str
    """Of the program in ``stream_peers``."""
    package: str
    """Whose version belongs to the result."""
    environment: str | None = None
    """Folder of its environment in the folder of the peers; None: the one that runs now."""
    converts: str | None = None
    """What is made from the tars before the first epoch, for people; None: nothing."""
    in_place: bool = False
    """What is made lies beside the tars, in a folder with links to them."""
    copies: bool = False
    """What is made holds all payloads; the tars are not read any more."""
    reads_http: bool = False
    resumes: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    """For the program, beside the task."""
    workers: tuple[int, ...] = (0, 2)
    """Numbers of worker processes that it is measured with."""


HEADRACE = Contestant(
    "headrace",
    "headrace_stream",
    "headrace",
    converts="an index beside each tar, a manifest",
    in_place=True,
    reads_http=True,
    resumes=True,
)
PEERS = (
    Contestant(
        "litData",
        "peer_litdata",
        "litdata",
        "common",
        converts="chunks with all payloads",
        copies=True,
        resumes=True,
    ),
    Contestant(
        "litData, views",
        "peer_litdata",
        "litdata",
        "common",
        converts="chunks with all payloads",
        copies=True,
        options={"views": True},
        workers=(0,),
    ),
    Contestant("webdataset", "peer_webdataset", "webdataset", "common", reads_http=True),
    Contestant("HF datasets", "peer_datasets", "datasets", "common", reads_http=True, resumes=True),
    Contestant(
        "Grain, mapped tars",
        "peer_grain",
        "grain",
        "common",
        converts="a table of offsets (our source: Grain reads no tars)",
        resumes=True,
    ),
    Contestant(
        "Energon",
        "peer_energon",
        "megatron-energon",
        "common",
        converts="an index beside each tar, a data base",
        in_place=True,
        resumes=True,
    ),
    Contestant(
        "Mosaic",
        "peer_mosaic",
        "mosaicml-streaming",
        "mosaic",
        converts="shards (MDS) with all payloads",
        copies=True,
        resumes=True,
    ),
)


@dataclass(frozen=True)
class Entrants:
    """The contestants that are there, and those that are not."""

    interpreters: Mapping[str, str]
    """Python of each contestant that is there, by name, in the order of the table."""
    versions: Mapping[str, str]
    """By package."""
    absent: Mapping[str, str]
    """Why a peer is not there, by name."""

    @property
    def contestants(self) -> list[Contestant]:
        """Those that are there, ours first."""
        return [one for one in (HEADRACE, *PEERS) if one.name in self.interpreters]

    def run(self, contestant: Contestant, task: Task) -> Any:
        """What the contestant's program found; :class:`FailedError` if it ended otherwise."""
        interpreter = self.interpreters[contestant.name]
        return run_program(interpreter, contestant.module, {**contestant.options, **task})


def find(peers: Path | None) -> Entrants:
    """Look for the peers' environments in the folder ``peers``."""
    interpreters, versions, absent = {HEADRACE.name: sys.executable}, {}, {}
    for peer in PEERS:
        if peers is None:
            absent[peer.name] = "no folder of environments was given (--peers)"
            continue
        assert peer.environment is not None
        interpreter = peers / peer.environment / "bin" / "python"
        if not interpreter.exists():
            absent[peer.name] = f"there is no {interpreter}"
            continue
        question = f"import importlib.metadata as m; print(m.version({peer.package!r}))"
        answer = subprocess.run([interpreter, "-c", question], capture_output=True, text=True)
        if answer.returncode != 0:
            absent[peer.name] = f"{peer.package} is not installed in {interpreter.parents[1]}"
            continue
        interpreters[peer.name] = str(interpreter)
        versions[peer.package] = answer.stdout.strip()
    return Entrants(interpreters, versions, absent)


def run_program(interpreter: str, module: str, task: Task) -> Any:
    """Run one program with one task in a fresh process and return what it printed.

    Raises :class:`FailedError` where it fails.
    """
    process = start_program(interpreter, module, task)
    output = finish_program(process, expected=0).strip()
    if not output:
        raise FailedError("it ended without a result")
    return json.loads(output.splitlines()[-1])


def start_program(interpreter: str, module: str, task: Task) -> subprocess.Popen[str]:
    """Start one program with one task, in a process group of its own."""
    outside = {name: value for name, value in os.environ.items() if name not in _INHERITED}
    return subprocess.Popen(
        [interpreter, str(PROGRAMS / "harness.py"), module, json.dumps(task)],
        env={**outside, **task.get("environment", {}), "PYTHONWARNINGS": "ignore"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )


def finish_program(process: subprocess.Popen[str], expected: int) -> str:
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


def _end_group(group: int) -> None:
    """End the worker processes that a contestant may have left behind."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return
