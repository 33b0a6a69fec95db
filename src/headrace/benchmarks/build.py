"""Benchmark ``build``: a corpus from JSON lines, by Headrace and by datatrove.

The same stages for everybody: read, normalise, tell the language, take out private information,
find exact and near-duplicates, write what is kept.  Every build is a fresh process on as many cores
as it has workers; the contestants take turns.
"""

from __future__ import annotations

import math
import os
import shutil
import statistics
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from headrace.benchmarks.build_contestants import (
    DEFAULTS,
    OURS,
    STOCK,
    TUNED,
    Contestant,
    Entrants,
    Place,
    Run,
    find,
    run,
    survivors,
    task_of,
)
from headrace.benchmarks.build_data import NEAR, DataSet, make_data_set, originals
from headrace.benchmarks.build_duplicates import listed_pairs
from headrace.benchmarks.build_faults import POISONS, killed, poisoned
from headrace.benchmarks.build_model import train_model
from headrace.benchmarks.build_steps import Seconds, of_ours, of_peer, records
from headrace.benchmarks.frame import Measured, Row, interleave
from headrace.benchmarks.programs import FailedError
from headrace.errors import HeadraceError

__all__ = ["Settings", "measure", "settings"]

PACKAGES = ("rensa", "py3langid", "fasttext-predict", "phonenumbers", "pyarrow", "dask", "ftfy")

ONE_CORE = "one worker on a core"


@dataclass(frozen=True)
class Settings:
    """Sizes of the benchmark."""

    documents: int
    few: int
    """Documents of the build whose time is taken off: what starting and ending cost."""
    files: int
    rounds: int
    workers: tuple[int, ...]
    poisoned: int
    """Documents in the file of each kind of poison."""
    peers: Path | None = None
    """Folder of the peers' environments."""
    seed: int = 17


def settings(quick: bool, peers: Path | None = None) -> Settings:
    """Return the sizes; the quick ones take about a minute without peers on two cores."""
    if quick:
        return Settings(600, 60, files=8, rounds=1, workers=(1,), poisoned=100, peers=peers)
    return Settings(4000, 100, files=8, rounds=3, workers=(1, 2), poisoned=100, peers=peers)


@dataclass
class _Course:
    """Contestants, their data, and what was found on the way."""

    entrants: Entrants
    folder: Path
    model: Path
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    kept: dict[str, Counter[str]] = field(default_factory=dict)
    """Documents of the corpora of the large data set, by contestant."""
    spent: dict[tuple[str, str], Seconds] = field(default_factory=dict)
    """Of the peer's builds with one worker, by its name and the folder of the data."""
    _builds: int = 0

    def place(self, files: Sequence[Path]) -> Place:
        """A new place to build."""
        self._builds += 1
        return Place(self.folder / f"build-{self._builds}", files, self.model)


def measure(sizes: Settings, rounds: int) -> Measured:
    """Run all contestants that are there in interleaved rounds, then the faults once.

    Raises:
        HeadraceError: where Headrace itself fails.
    """
    corpora = os.environ.get("HEADRACE_DATA")
    root = Path(corpora) if corpora else None
    with tempfile.TemporaryDirectory(prefix="headrace-benchmark-") as name:
        folder = Path(name)
        course = _Course(find(sizes.peers), folder, folder / "languages.bin")
        course.tables["absent"] = _absent(course.entrants)
        if course.entrants.absent is None:
            interpreter = course.entrants.interpreters[STOCK.name]
            train_model(interpreter, folder, course.model, root, sizes.seed)
        sets = [
            make_data_set(
                folder / f"input-{count}",
                documents=count,
                files=sizes.files,
                seed=sizes.seed,
                corpora=root,
            )
            for count in (sizes.few, sizes.documents)
        ]
        rows = _rounds(course, sets, sizes.workers, rounds)
        _planted(course, sets[1])
        course.tables["steps"] = _steps(course, sets, rows)
        course.tables["listed pairs"] = _listed(course, root)
        course.tables["kill -9"] = _kills(course, sets[1])
        course.tables["broken documents"] = _poisons(course, root, sizes)
    setting = {
        "documents": f"{sets[1].documents:,} of {sets[1].title}, {sets[1].bytes:,} bytes in "
        f"{sizes.files} files; a tenth are planted copies; seed {sizes.seed}",
        "rate": f"on a core documents beyond {sets[0].documents:,} by the processor time that "
        "they take more; on several all documents by the clock, start included",
        "languages": "the model of fastText for all but the defaults, which ask py3langid"
        if course.entrants.absent is None
        else "py3langid",
        "cores": "as many as workers, by the affinity of the process",
        "memory": "peak of all processes, shared pages divided among them",
    }
    return Measured(
        setting=setting,
        rows=tuple(rows),
        figures=_figures(rows, course.tables),
        packages=PACKAGES,
        tables=course.tables,
        facts=course.entrants.versions,
    )


def _absent(entrants: Entrants) -> list[dict[str, Any]]:
    missing = [one for one in (STOCK, TUNED) if one.name not in entrants.interpreters]
    return [{"contestant": one.name, "reason": entrants.absent} for one in missing]


def _rounds(
    course: _Course, sets: Sequence[DataSet], workers: Sequence[int], rounds: int
) -> list[Row]:
    """A table for each number of workers."""
    rows = []
    few, many = sets
    for count in workers:
        calls = {
            one.name: partial(_pair_of_runs, course, one, few, many, count)
            for one in (*course.entrants.contestants, DEFAULTS)
        }
        found = interleave(calls, rounds)
        title = ONE_CORE if count == 1 else f"{count} workers on {count} cores"
        rows += [_row(title, name, runs, few, many) for name, runs in found.items()]
    return rows


def _pair_of_runs(
    course: _Course, one: Contestant, few: DataSet, many: DataSet, workers: int
) -> tuple[Run, Run]:
    """A build of few documents and one of many."""
    runs = []
    for data in (few, many):
        place = course.place(data.files)
        try:
            runs.append(run(course.entrants, one, task_of(one, place, workers)))
        except FailedError as error:
            raise HeadraceError(f"{one.name}: {error}") from error
        kept = Counter(survivors(one, place))
        if data is many and course.kept.setdefault(one.name, kept) != kept:
            raise HeadraceError(f"{one.name}: two builds of one input keep different documents")
        if one.tuned is not None and workers == 1:
            course.spent[one.name, str(data.folder)] = of_peer(place)
        shutil.rmtree(place.folder)
    return runs[0], runs[1]


def _row(
    title: str, name: str, runs: Sequence[tuple[Run, Run]], few: DataSet, many: DataSet
) -> Row:
    facts = {
        "few_s": min(short.seconds for short, _ in runs),
        "all_s": min(long.seconds for _, long in runs),
        "peak_mib": max(long.peak_bytes for _, long in runs) / 2**20,
    }
    if title != ONE_CORE:  # the processor time of all workers is not known of the peer
        rates = tuple(many.documents / long.seconds for _, long in runs)
        return Row(name, "documents/s", rates, facts, title)
    start = statistics.median(short.cpu_seconds for short, _ in runs)
    more = many.documents - few.documents
    return Row(
        name=name,
        unit="documents/s of CPU",
        values=tuple(more / (long.cpu_seconds - start) for _, long in runs),
        facts={"few_cpu_s": start, **facts},
        group=title,
    )


def _steps(course: _Course, sets: Sequence[DataSet], rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Milliseconds a document by step; of the peer by the difference of two builds."""
    few, many = sets
    on_a_core = {row.name: row.median for row in reversed(rows)}
    found = []
    for one in course.entrants.contestants:
        if one.tuned is None:
            spent = of_ours(course.entrants, course.place(many.files))
        else:
            short, long = (course.spent[one.name, str(data.folder)] for data in sets)
            more = many.documents - few.documents
            spent = {step: (long[step] - short[step]) / more for step in long}
        found += records(one.name, spent, 1 / on_a_core[one.name])
    return found


def _planted(course: _Course, data: DataSet) -> None:
    """How many planted copies are found, for each contestant."""
    course.tables["planted copies"] = []
    for name, kept in course.kept.items():
        record: dict[str, Any] = {"contestant": name, "written": sum(kept.values())}
        for title, least, most in (("exact", 1.0, 1.0), ("near", NEAR, math.nextafter(1.0, 0))):
            pairs = [
                (copy, original)
                for copy, (original, value) in data.copies.items()
                if least <= value <= most
            ]
            found = sum(not (kept[copy] and kept[original]) for copy, original in pairs)
            record |= {f"{title} copies": len(pairs), f"{title} copies found": found}
        course.tables["planted copies"].append(record)


def _listed(course: _Course, corpora: Path | None) -> list[dict[str, Any]]:
    if corpora is None or not (corpora / "near_duplicates").is_dir():
        return []
    return listed_pairs(course.entrants, corpora / "near_duplicates", course.place)


def _kills(course: _Course, data: DataSet) -> list[dict[str, Any]]:
    return [
        killed(course.entrants, one, course.place(data.files), course.kept[one.name])
        for one in course.entrants.contestants
    ]


def _poisons(course: _Course, corpora: Path | None, sizes: Settings) -> list[dict[str, Any]]:
    texts = list(originals(corpora, sizes.poisoned * len(POISONS), sizes.seed))
    return poisoned(
        course.entrants, texts, course.folder / "poisoned", course.model, sizes.poisoned
    )


def _figures(
    rows: Sequence[Row], tables: Mapping[str, Sequence[Mapping[str, Any]]]
) -> dict[str, float]:
    by_name = {(row.group, row.name): row for row in rows}
    groups = list(dict.fromkeys(row.group for row in rows))
    figures: dict[str, float] = {}
    for group, suffix in zip(groups, ("", "_2_workers"), strict=False):
        ours = by_name[group, OURS.name]
        for peer, name in ((STOCK, "datatrove"), (TUNED, "datatrove_tuned")):
            theirs = by_name.get((group, peer.name))
            if theirs is not None:
                figures[f"speed_vs_{name}{suffix}"] = ours.median / theirs.median
        figures[f"documents_per_s{suffix}"] = ours.median
        figures[f"peak_mib{suffix}"] = ours.facts["peak_mib"]
    for one, suffix in ((OURS, ""), (STOCK, "_datatrove"), (TUNED, "_datatrove_tuned")):
        figures |= _of_tables(tables, one.name, suffix)
    return figures


def _of_tables(
    tables: Mapping[str, Sequence[Mapping[str, Any]]], name: str, suffix: str
) -> dict[str, float]:
    """What the tables say of one contestant."""
    own = {
        title: [record for record in records if record["contestant"] == name]
        for title, records in tables.items()
    }
    figures: dict[str, float] = {}
    listed = own["listed pairs"]
    if listed:
        right = sum(record["found"] for record in listed)
        figures[f"duplicate_precision{suffix}"] = right / max(
            1, sum(record["found"] + record["wrong"] for record in listed)
        )
        figures[f"duplicate_recall{suffix}"] = right / sum(record["pairs"] for record in listed)
    for record in own["planted copies"]:
        found = record["exact copies found"] + record["near copies found"]
        planted = record["exact copies"] + record["near copies"]
        figures[f"planted_recall{suffix}"] = found / max(1, planted)
    for record in own["kill -9"]:
        figures[f"redone_after_kill_bytes{suffix}"] = record["bytes read twice"]
    broken = own["broken documents"]
    if broken:
        lost = sum(record["of these lost"] for record in broken)
        lost += sum(record["documents lost"] for record in own["kill -9"])
        figures[f"lost_documents{suffix}"] = lost
        neither = sum(record["neither"] for record in broken)
        figures[f"unrecorded_documents{suffix}"] = neither
    return figures
