"""Who takes part in the benchmark ``stream``, and how one of them is run once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headrace.benchmarks.programs import Task, answer_of, start, version_of

PROGRAMS = Path(__file__).parent / "stream_peers"


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
        try:
            versions[peer.package] = version_of(peer.package, interpreter)
        except LookupError as error:
            absent[peer.name] = str(error)
            continue
        interpreters[peer.name] = str(interpreter)
    return Entrants(interpreters, versions, absent)


def run_program(interpreter: str, module: str, task: Task) -> Any:
    """Run one program with one task in a fresh process and return what it printed.

    Raises :class:`FailedError` where it fails.
    """
    return answer_of(start_program(interpreter, module, task))


def start_program(interpreter: str, module: str, task: Task) -> subprocess.Popen[str]:
    """Start one program with one task, in a process group of its own."""
    return start(interpreter, PROGRAMS / "harness.py", module, task, task.get("environment", {}))
