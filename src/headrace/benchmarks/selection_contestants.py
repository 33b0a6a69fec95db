"""Who takes part in the benchmark ``selection``, and how one of them is run once."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROGRAMS = Path(__file__).parent / "selection_peers"
TIME_LIMIT_S = 300
_THREADS = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS",
)  # fmt: skip
_RANKS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")

Task = dict[str, Any]


class FailedError(Exception):
    """A contestant ended with an error; the message is the last line that it printed."""


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
        question = f"import importlib.metadata as m; print(m.version({one.package!r}))"
        try:
            answer = subprocess.run([interpreter, "-c", question], capture_output=True, text=True)
        except OSError:
            absent[one.name] = f"there is no {interpreter}"
            continue
        if answer.returncode != 0:
            absent[one.name] = f"{one.package} is not installed in {interpreter.parents[1]}"
            continue
        interpreters[one.name] = str(interpreter)
        versions[one.package] = answer.stdout.strip()
    return Entrants(interpreters, versions, absent)


def run(interpreter: str, contestant: Contestant, task: Task) -> Task:
    """What the program of a contestant measured; :class:`FailedError` if it ended otherwise.

    Of several ranks the slowest time, the largest memory and the sum of the bytes.
    """
    if contestant.ranks == 1:
        return _finish(_start(interpreter, contestant, {**contestant.options, **task}, {}))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    threads = max(1, task["threads"] // contestant.ranks)
    started = []
    for rank in range(contestant.ranks):
        part = [task["table_rows"] * (rank + end) // contestant.ranks for end in (0, 1)]
        own = {**contestant.options, **task, "part": part, "threads": threads}
        if rank:
            del own["chosen"]
        place = {
            "RANK": str(rank), "WORLD_SIZE": str(contestant.ranks),
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        }  # fmt: skip
        started.append(_start(interpreter, contestant, own, place))
    found = [_finish(process) for process in started]
    return {
        **found[0],
        "seconds": max(one["seconds"] for one in found),
        "peak_bytes": max(one["peak_bytes"] for one in found),
        "sent_bytes": sum(one["sent_bytes"] for one in found),
    }


def _start(
    interpreter: str, contestant: Contestant, task: Task, place: Mapping[str, str]
) -> subprocess.Popen[str]:
    outside = {name: value for name, value in os.environ.items() if name not in _RANKS}
    threads = {name: str(task["threads"]) for name in _THREADS}
    return subprocess.Popen(
        [interpreter, str(PROGRAMS / "harness.py"), contestant.module, json.dumps(task)],
        env={**outside, **threads, **place, "PYTHONWARNINGS": "ignore"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )


def _finish(process: subprocess.Popen[str]) -> Task:
    with process:
        try:
            output, errors = process.communicate(timeout=TIME_LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise FailedError(f"no end after {TIME_LIMIT_S} s") from None
    if process.returncode != 0:
        lines = [line.strip() for line in errors.splitlines() if line.strip()]
        raise FailedError(lines[-1] if lines else f"exit code {process.returncode}")
    found: Task = json.loads(output.splitlines()[-1])
    return found
