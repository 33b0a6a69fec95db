"""Who takes part in the benchmark ``selection``, and how one of them is run once."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headrace.benchmarks.programs import Task, answer_of, start, version_of

PROGRAMS = Path(__file__).parent / "selection_peers"
_THREADS = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS",
)  # fmt: skip


@dataclass(frozen=True)
class Contestant:
    """One way to choose."""

    name: str
    module: str
    """Of the program in ``selection_peers``."""
    package: str | None = None
    """Of a peer, which has an environment of its own."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """For the program, beside the task."""
    bytes_of_a_pair: float = 0.0
    """Memory for each pair of rows, measured on a few thousand: 0 without a matrix."""
    most_rows: int | None = None
    """With more it would take most of the time of the benchmark."""
    ranks: int = 1


def _ours(method: str, objective: str = "graph_cut") -> dict[str, Any]:
    return {"method": method, "objective": objective}


OURS = Contestant("headrace", "headrace_select", options=_ours("frank_wolfe"))
EXACT = Contestant("headrace, exact greedy", "headrace_select", options=_ours("exact_greedy"))
TWO_RANKS = Contestant(
    "headrace, 2 ranks", "headrace_select", options=_ours("frank_wolfe"), ranks=2
)
LOCATION = Contestant(
    "headrace, facility location",
    "headrace_select",
    options=_ours("lazy_greedy", "facility_location"),
    most_rows=50_000,
)
RANDOM = Contestant("random", "headrace_select", options=_ours("random"))
DENSE = Contestant("dense matrix and greedy", "dense", bytes_of_a_pair=4.5)
SUBMODLIB = Contestant("submodlib", "peer_submodlib", "submodlib-py", bytes_of_a_pair=72)
APRICOT = Contestant(
    "apricot", "peer_apricot", "apricot-select", {"function": "graph_cut"}, bytes_of_a_pair=14
)
APRICOT_LOCATION = Contestant(
    "apricot, facility location",
    "peer_apricot",
    "apricot-select",
    {"function": "facility_location"},
    bytes_of_a_pair=14,
    most_rows=5_000,
)
CONTESTANTS = (
    OURS, EXACT, TWO_RANKS, DENSE, SUBMODLIB, APRICOT, LOCATION, APRICOT_LOCATION, RANDOM,
)  # fmt: skip


@dataclass(frozen=True)
class Entrants:
    """The contestants that are there, and those that are not."""

    interpreters: Mapping[str, str]
    """Python of each contestant that is there, by name."""
    versions: Mapping[str, str]
    """Of the peers' packages."""
    absent: Mapping[str, str]
    """Why a contestant is not there, by name."""


def find(peers: Path | None) -> Entrants:
    """Look for the peers' environment in the folder ``peers``."""
    interpreters, versions, absent = {}, {}, {}
    for one in CONTESTANTS:
        if one.package is None:
            interpreters[one.name] = sys.executable
            continue
        if peers is None:
            absent[one.name] = "no folder of environments was given (--peers)"
            continue
        interpreter = peers / one.package / "bin" / "python"
        try:
            versions[one.package] = version_of(one.package, interpreter)
        except LookupError as error:
            absent[one.name] = str(error)
            continue
        interpreters[one.name] = str(interpreter)
    return Entrants(interpreters, versions, absent)


def run(interpreter: str, contestant: Contestant, task: Task) -> Task:
    """What the program of a contestant measured; :class:`FailedError` if it ended otherwise.

    Of several ranks the slowest time, the largest memory and the sum of the bytes.
    """
    if contestant.ranks == 1:
        alone: Task = answer_of(_start(interpreter, contestant, task, {}))
        return alone
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    threads = max(1, task["threads"] // contestant.ranks)
    started = []
    for rank in range(contestant.ranks):
        part = [task["table_rows"] * (rank + end) // contestant.ranks for end in (0, 1)]
        own = {**task, "part": part, "threads": threads}
        if rank:
            del own["chosen"]
        place = {
            "RANK": str(rank), "WORLD_SIZE": str(contestant.ranks),
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        }  # fmt: skip
        started.append(_start(interpreter, contestant, own, place))
    found = [answer_of(process) for process in started]
    return {
        **found[0],
        "seconds": max(one["seconds"] for one in found),
        "peak_bytes": max(one["peak_bytes"] for one in found),
        "sent_bytes": sum(one["sent_bytes"] for one in found),
    }


def _start(
    interpreter: str, contestant: Contestant, task: Task, place: Mapping[str, str]
) -> subprocess.Popen[str]:
    threads = {name: str(task["threads"]) for name in _THREADS}
    words = {**contestant.options, **task}
    return start(
        interpreter, PROGRAMS / "harness.py", contestant.module, words, {**threads, **place}
    )
