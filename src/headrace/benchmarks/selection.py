"""Benchmark ``selection``: ours, the dense method of the paper and its peers on the same vectors.

Every measurement is a fresh process with as many threads as there are cores; the contestants take
turns.  What was chosen is judged by one function that belongs to none of them.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from headrace.benchmarks.frame import Measured, Row, interleave
from headrace.benchmarks.programs import FailedError
from headrace.benchmarks.selection_contestants import (
    APRICOT,
    CONTESTANTS,
    DENSE,
    EXACT,
    OURS,
    SUBMODLIB,
    TWO_RANKS,
    Contestant,
    Entrants,
    find,
    run,
)
from headrace.benchmarks.selection_data import (
    NEAR,
    Table,
    Worth,
    embed_sentences,
    make_clusters,
    worth,
)
from headrace.errors import HeadraceError

__all__ = ["Settings", "measure", "settings"]

PACKAGES = ("torch", "numpy", "faiss-cpu")
DIMENSIONS = 384
TRADE_OFF = 10.0
SHARE = 0.05
MILLION = 1_000_000
_ROOM = 0.8
"""Of the memory that is free a contestant may need so much."""


@dataclass(frozen=True)
class Settings:
    """Sizes of the benchmark."""

    small: int
    """Rows of the small tables, of clusters and of sentences: the paper has 3,742."""
    middle: int
    """Rows of the table for the ratios to the dense method."""
    larger: tuple[int, ...]
    rounds: int
    peers: Path | None = None
    """Folder of the peers' environments."""
    seed: int = 17


def settings(quick: bool, peers: Path | None = None) -> Settings:
    """Return the sizes; the quick ones take about a minute without peers on two cores."""
    if quick:
        return Settings(small=1_000, middle=4_000, larger=(10_000,), rounds=1, peers=peers)
    return Settings(small=3_742, middle=20_000, larger=(200_000, MILLION), rounds=3, peers=peers)


@dataclass
class _Course:
    """Contestants, where their data lies, and what was found on the way."""

    entrants: Entrants
    folder: Path
    seed: int
    tables: dict[str, list[dict[str, Any]]]

    def entered(self, table: Table) -> list[Contestant]:
        """Those that can choose from a table on this machine; why the others cannot is noted."""
        found = []
        for one in CONTESTANTS:
            reason = self.entrants.absent.get(one.name)
            needed = one.bytes_of_a_pair * table.rows**2
            if reason is None and needed > _ROOM * _free_memory():
                reason = f"it would need about {needed / 2**30:,.0f} GiB"
            if reason is None and one.most_rows is not None and table.rows > one.most_rows:
                reason = f"left out for time with more than {one.most_rows:,} rows"
            if reason is None:
                found.append(one)
            else:
                self.absent(one, table, reason)
        return found

    def absent(self, contestant: Contestant, table: Table, reason: str) -> None:
        """Note why there is no row."""
        record = {"contestant": contestant.name, "vectors": table.title, "reason": reason}
        if record not in self.tables["absent"]:
            self.tables["absent"].append(record)


def measure(sizes: Settings, rounds: int) -> Measured:
    """Run all contestants that are there in interleaved rounds.

    Raises:
        HeadraceError: where Headrace itself fails.
    """
    with tempfile.TemporaryDirectory(prefix="headrace-benchmark-") as name:
        folder = Path(name)
        course = _Course(find(sizes.peers), folder, sizes.seed, {"absent": []})
        rows: list[Row] = []
        sentences = _sentences(folder, sizes.small)
        if isinstance(sentences, Table):
            rows += _rounds(course, sentences, rounds)
        for size in (sizes.small, sizes.middle, *sizes.larger):
            table = make_clusters(folder / f"{size}.npy", size, DIMENSIONS, sizes.seed)
            rows += _rounds(course, table, rounds)
            table.path.unlink()
    setting = {
        "vectors": f"{DIMENSIONS} dimensions; clusters with 20 % near-copies, seed {sizes.seed}, "
        "fp32, from 100,000 rows on fp16",
        "sentences": sentences.title if isinstance(sentences, Table) else f"none: {sentences}",
        "chosen": f"{SHARE:.0%} of the rows, lambda {TRADE_OFF:g}",
        "threads": f"{_cores()} for everybody, shared by the ranks of two",
        "memory": "peak beside vectors and libraries",
        "near-copies": f"chosen rows with a cosine of {NEAR} or more with another chosen one",
    }
    return Measured(
        setting=setting,
        rows=tuple(rows),
        figures=_figures(rows, f"{sizes.middle:,} rows in clusters"),
        packages=PACKAGES,
        tables=course.tables,
        facts=course.entrants.versions,
    )


def _sentences(folder: Path, rows: int) -> Table | str:
    corpus = os.environ.get("HEADRACE_DATA")
    if not corpus:
        return "HEADRACE_DATA is not set"
    return embed_sentences(folder / "sentences.npy", Path(corpus), rows)


def _rounds(course: _Course, table: Table, rounds: int) -> list[Row]:
    """The rows of one table of vectors."""
    entered = course.entered(table)
    calls = {one.name: partial(_once, course, one, table) for one in entered}
    vectors = np.load(table.path, mmap_mode="r")
    found = interleave(calls, rounds)
    judged: dict[str, Worth] = {}
    for one in entered:
        if None not in found[one.name]:
            chosen = np.load(_chosen(course, one))
            judged[one.name] = worth(vectors, chosen, TRADE_OFF)
    exact = judged[EXACT.name].objective
    return [
        _row(table, one, [each for each in found[one.name] if each], judged[one.name], exact)
        for one in entered
        if one.name in judged
    ]


def _once(course: _Course, contestant: Contestant, table: Table) -> dict[str, Any] | None:
    task = {
        "vectors": str(table.path),
        "table_rows": table.rows,
        "rows": int(SHARE * table.rows),
        "trade_off": TRADE_OFF,
        "threads": _cores(),
        "seed": course.seed,
        "chosen": str(_chosen(course, contestant)),
    }
    try:
        return run(course.entrants.interpreters[contestant.name], contestant, task)
    except FailedError as error:
        if contestant.module == OURS.module:
            raise HeadraceError(f"{contestant.name}, {table.title}: {error}") from error
        course.absent(contestant, table, f"it failed: {str(error)[:200]}")
        return None


def _chosen(course: _Course, contestant: Contestant) -> Path:
    return course.folder / f"chosen by {contestant.name}.npy"


def _row(
    table: Table,
    contestant: Contestant,
    found: Sequence[dict[str, Any]],
    judged: Worth,
    exact: float,
) -> Row:
    peak = float(np.median([one["peak_bytes"] for one in found]))
    facts = {
        "peak_mib": peak / 2**20,
        "of_the_vectors": peak * contestant.ranks / table.bytes,
        "f_vs_exact": judged.objective / exact,
        **({"gap": found[0]["gap"]} if "gap" in found[0] else {}),
        "near_copies": judged.duplicates,
        "coverage": judged.coverage,
        **({"sent_bytes": float(found[0]["sent_bytes"])} if contestant.ranks > 1 else {}),
    }
    seconds = tuple(one["seconds"] for one in found)
    return Row(contestant.name, "s", seconds, facts, table.title)


def _figures(rows: Sequence[Row], middle: str) -> dict[str, float]:
    """The promised figures; those of contestants that are not there are left out."""
    by_name = {(row.group, row.name): row for row in rows}
    ours = [row for row in rows if row.name == OURS.name]
    figures: dict[str, float] = {}
    for name, peer in (("dense", DENSE), ("apricot", APRICOT), ("submodlib", SUBMODLIB)):
        slow = [row for row in rows if row.name == peer.name]
        wanted = by_name.get((middle, peer.name)) or (slow[-1] if slow else None)
        if wanted is not None:
            figures[f"speed_vs_{name}"] = wanted.median / by_name[wanted.group, OURS.name].median
    figures["memory_beside_embeddings"] = max(
        row.facts["of_the_vectors"] for row in ours[[row.group for row in ours].index(middle) :]
    )
    figures["objective_vs_exact"] = min(row.facts["f_vs_exact"] for row in ours)
    figures["gap"] = max(row.facts["gap"] for row in ours)
    last = ours[-1].group
    if last.startswith(f"{MILLION:,} "):
        figures["million_rows_s"] = ours[-1].median
        figures["million_rows_exact_greedy_s"] = by_name[last, EXACT.name].median
    two = by_name[last, TWO_RANKS.name]
    figures["two_rank_s"] = two.median
    figures["two_rank_traffic_bytes"] = two.facts["sent_bytes"]
    return figures


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _free_memory() -> float:
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return 1024.0 * int(line.split()[1])
    return float("inf")
