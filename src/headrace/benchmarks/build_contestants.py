"""Who takes part in the benchmark ``build``, and how one of them builds a corpus once."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from headrace.benchmarks.programs import Task, answer_of, start, version_of
from headrace.corpus.building.parts import FILE_BYTES
from headrace.corpus.catalogue.schema import FILTERED_NAME, INDEX_NAME

PROGRAMS = Path(__file__).parent / "build_peers"
ENVIRONMENT = "datatrove"
"""Folder of the peer's environment in that of the peers."""
_LOOK_S = 0.5
_GOVERNANCE = {
    "title": "Benchmark", "custodian": "nobody", "licence": "CC0-1.0",
    "consent_basis": "open licence", "jurisdiction": "international", "region": "worldwide",
}  # fmt: skip


@dataclass(frozen=True)
class Contestant:
    """One way to build a corpus."""

    name: str
    tuned: bool | None = None
    """How datatrove is set up; None: it is Headrace."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Sections of Headrace's recipe."""
    asks_model: bool = False
    """Whether Headrace tells languages by the peer's model, where there is one."""

    @property
    def module(self) -> str:
        """Of its program."""
        return "headrace_build" if self.tuned is None else "peer_datatrove"


OURS = Contestant("headrace", options={"quality": None}, asks_model=True)
"""With the stages that the peer has too, and with its model."""
DEFAULTS = Contestant("headrace, defaults")
"""As a recipe is that names the files and nothing else."""
STOCK = Contestant("datatrove", tuned=False)
TUNED = Contestant("datatrove, white-space tokenizer", tuned=True)
CONTESTANTS = (OURS, STOCK, TUNED)


@dataclass(frozen=True)
class Entrants:
    """The contestants that are there, and why others are not."""

    interpreters: Mapping[str, str]
    """Python of each that is there, by name."""
    versions: Mapping[str, str]
    absent: str | None

    @property
    def contestants(self) -> list[Contestant]:
        """Those that are there, ours first."""
        return [one for one in CONTESTANTS if one.name in self.interpreters]


def find(peers: Path | None) -> Entrants:
    """Look for the peer's environment in the folder ``peers``."""
    interpreters = {one.name: sys.executable for one in (OURS, DEFAULTS)}
    if peers is None:
        return Entrants(interpreters, {}, "no folder of environments was given (--peers)")
    interpreter = peers / ENVIRONMENT / "bin" / "python"
    try:
        versions = {
            name: version_of(name, interpreter)
            for name in ("datatrove", "spacy", "fasttext-numpy2-wheel", "orjson")
        }
    except LookupError as error:
        return Entrants(interpreters, {}, str(error))
    theirs = {one.name: str(interpreter) for one in CONTESTANTS if one.tuned is not None}
    return Entrants({**interpreters, **theirs}, versions, None)


@dataclass(frozen=True)
class Place:
    """Where a contestant builds."""

    folder: Path
    files: Sequence[Path]
    """JSON lines; each is a part, or a task."""
    model: Path
    """Of the peer's language identification."""

    @property
    def output(self) -> Path:
        """Folder of the corpus."""
        return self.folder / "output"

    @property
    def work(self) -> Path:
        """Folder of what lies between the peer's stages."""
        return self.folder / "work"


def task_of(contestant: Contestant, place: Place, workers: int, **options: Any) -> Task:
    """The task of a contestant's program; as many cores as workers.

    Args:
        contestant: who.
        place: where.
        workers: processes that examine documents.
        options: further sections of our recipe, or further words of the peer's task.
    """
    cores = sorted(os.sched_getaffinity(0))[-workers:]
    task: Task = {"cores": cores, "workers": workers, "output": str(place.output)}
    if contestant.tuned is not None:
        theirs: Task = {
            "input": str(place.files[0].parent),
            "work": str(place.work),
            "model": str(place.model),
            "tuned": contestant.tuned,
            "tasks": len(place.files),
        }
        return {**task, **theirs, **options}
    largest = max(path.stat().st_size for path in place.files)
    recipe = {
        "name": "benchmark",
        "version": "1",
        "sources": [
            {
                **_GOVERNANCE,
                "id": "documents",
                "format": "json_lines",
                "files": [str(path) for path in place.files],
            }
        ],
        "limits": {"part": str(largest + FILE_BYTES)},
        **contestant.options,
        **options,
    }
    if contestant.asks_model and place.model.is_file():
        recipe["languages"] = {"method": "fasttext", "model": str(place.model)}
    place.folder.mkdir(parents=True, exist_ok=True)
    written = place.folder / "recipe.yaml"
    written.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return {**task, "recipe": str(written)}


def begin(entrants: Entrants, contestant: Contestant, task: Task) -> subprocess.Popen[str]:
    """Start the program of a contestant."""
    return start_program(entrants, contestant, contestant.module, task)


def start_program(
    entrants: Entrants, contestant: Contestant, module: str, task: Task
) -> subprocess.Popen[str]:
    """Start a program in the environment of a contestant."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"), "1")
    quiet = {"DATATROVE_COLORIZE_LOGS": "0", "HF_HUB_OFFLINE": "1"}
    interpreter = entrants.interpreters[contestant.name]
    return start(interpreter, PROGRAMS / "harness.py", module, task, threads | quiet)


@dataclass(frozen=True)
class Run:
    """One build, from the start of its process to its end."""

    seconds: float
    """By the clock."""
    cpu_seconds: float
    """Of all processes; of datatrove with several workers, of the first alone."""
    peak_bytes: int
    """Of all its processes, shared pages divided among them; looked at twice a second."""


def run(entrants: Entrants, contestant: Contestant, task: Task) -> Run:
    """Build a corpus; :class:`~headrace.benchmarks.programs.FailedError` if it fails."""
    began = time.perf_counter()
    process = begin(entrants, contestant, task)
    with _watched(process.pid) as peak:
        answer = answer_of(process)
    return Run(time.perf_counter() - began, answer["cpu_s"], peak[0])


@contextlib.contextmanager
def _watched(root: int) -> Iterator[list[int]]:
    """The peak of the memory of a process and all that it has started."""
    peak = [0]
    done = threading.Event()

    def look() -> None:
        while not done.wait(_LOOK_S):
            peak[0] = max(peak[0], sum(map(_memory, tree(root))))

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


def tree(root: int) -> list[int]:
    """A process and all that it has started, and these; no matter in which groups they are."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(path.read_text(encoding="utf-8").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(path.parent.name))
    found = [root]
    for process in found:
        found += children.get(process, [])
    return found


def _memory(process: int) -> int:
    with contextlib.suppress(OSError):
        text = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii")
        for line in text.splitlines():
            if line.startswith("Pss:"):
                return 1024 * int(line.split()[1])
    return 0


def survivors(contestant: Contestant, place: Place) -> list[str]:
    """Ids of the documents of a corpus, as often as they are in it."""
    if contestant.tuned is None:
        keys = pq.read_table(place.output / INDEX_NAME, columns=["key"])["key"].to_pylist()
        return [key.partition("#")[2] for key in keys]
    return [row["id"] for row in rows_of(place.output)]


def rows_of(folder: Path) -> Iterator[dict[str, Any]]:
    """Documents in files of JSON lines that datatrove has written."""
    for path in sorted(folder.glob("*.jsonl*")):
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                yield json.loads(line)


def clusters(contestant: Contestant, place: Place) -> list[set[str]]:
    """Ids of documents that were found to be nearly the same."""
    found: dict[Any, set[str]] = {}
    if contestant.tuned is None:
        for name in (INDEX_NAME, FILTERED_NAME):
            table = pq.read_table(place.output / name, columns=["key", "cluster"])
            for row in table.to_pylist():
                if row["cluster"] is not None:
                    found.setdefault(row["cluster"], set()).add(row["key"].partition("#")[2])
    else:
        for folder in (place.output, place.work / "excluded"):
            for row in rows_of(folder):
                cluster = row["metadata"].get("minhash_cluster_id", -1)
                if cluster != -1:
                    found.setdefault(cluster, set()).add(row["id"])
    return [one for one in found.values() if len(one) > 1]
