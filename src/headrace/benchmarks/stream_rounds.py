"""The rounds of the benchmark ``stream``: raw samples, over HTTP, and going on from a state."""

from __future__ import annotations

import itertools
import json
import shutil
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from headrace.benchmarks.frame import Row, interleave
from headrace.benchmarks.programs import FailedError, Task
from headrace.benchmarks.stream_contestants import Contestant, Entrants
from headrace.benchmarks.stream_data import DataSet, link_tars
from headrace.benchmarks.stream_server import Line, serve

BATCH_SIZE = 32
HTTP_TIME_LIMIT_S = 120
DELAY_S = 0.02
FAILING_SHARE = 0.01
DEPTHS = (0.01, 0.5, 0.99)
AT_ONCE = 2
"""Processes that run side by side where nothing is timed."""


@dataclass
class Course:
    """Contestants, where their data lies, and what went wrong on the way."""

    entrants: Entrants
    folder: Path
    """For everything that is made."""
    seed: int
    tables: dict[str, list[dict[str, Any]]] = field(
        default_factory=lambda: {"absent": [], "preparation": [], "failures": []}
    )
    """For the report, beside the rows."""
    excluded: set[tuple[str, str]] = field(default_factory=set)
    """Contestant and data set where the contestant does not serve what it should."""
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.tables["absent"] += [
            {"contestant": name, "reason": reason} for name, reason in self.entrants.absent.items()
        ]

    def new_folder(self) -> Path:
        """A folder that nobody has used, not made yet."""
        return self.folder / "temporary" / str(next(self._numbers))

    def task(self, contestant: Contestant, data: DataSet, workers: int = 0) -> Task:
        """What every program needs to know."""
        return {
            "tars": str(data.tars),
            "folder": str(self.converted(contestant, data)),
            "samples": data.samples,
            "workers": workers,
            "batch_size": BATCH_SIZE,
            "seed": self.seed,
        }

    def converted(self, contestant: Contestant, data: DataSet) -> Path:
        """Where the contestant's own form of the data is."""
        if contestant.converts is None:
            return data.tars
        return self.folder / "converted" / contestant.module / data.tars.name

    def entered(
        self, data: DataSet, *, http: bool = False, resumes: bool = False
    ) -> list[Contestant]:
        """The contestants that can and may run with this data set."""
        return [
            one
            for one in self.entrants.contestants
            if (one.name, data.tars.name) not in self.excluded
            and (one.reads_http or not http)
            and (one.resumes or not resumes)
        ]

    def failed(self, contestant: Contestant, where: str, error: Exception | str) -> None:
        """Note that a contestant failed."""
        self.tables["failures"].append(
            {"contestant": contestant.name, "where": where, "error": str(error)[:300]}
        )


def prepare(course: Course, data: DataSet, contestants: Iterable[Contestant]) -> None:
    """Let each contestant make what it reads, and note how long it took and how much it is."""
    for contestant in contestants:
        folder = course.converted(contestant, data)
        if contestant.converts is None or folder.exists():
            continue
        if contestant.in_place:
            link_tars(data.tars, folder)
        try:
            found = course.entrants.run(
                contestant, {**course.task(contestant, data), "action": "convert"}
            )
        except FailedError as error:
            course.failed(contestant, f"preparing {data.tars.name}", error)
            course.excluded.add((contestant.name, data.tars.name))
            continue
        made = [path for path in folder.rglob("*") if path.is_file()]
        new = [path for path in made if not (data.tars / path.name).exists()]
        course.tables["preparation"].append(
            {
                "contestant": contestant.name,
                "data": data.tars.name,
                "made": contestant.converts,
                "seconds": found["seconds"],
                "bytes": sum(path.stat().st_size for path in new),
                "tar bytes": data.tar_bytes,
            }
        )


def check(course: Course, data: DataSet) -> dict[str, Any]:
    """Let everybody serve an epoch, compare it with the tars, and exclude whoever differs.

    Returns what was found without workers, by contestant: it has the memory over an epoch.
    """
    # What it serves are no bytes yet; the same loader is checked with bytes.
    contestants = [one for one in course.entered(data) if "views" not in one.options]
    turns = [(one, workers) for one in contestants for workers in one.workers]

    def run(turn: tuple[Contestant, int]) -> Any:
        contestant, workers = turn
        task = {**course.task(contestant, data, workers), "action": "check"}
        found = _attempt(
            course, contestant, task, f"an epoch of {data.tars.name}, {workers} workers"
        )
        if found is None:
            return None
        difference = difference_between(found, data)
        if difference is None:
            return found
        course.failed(contestant, f"an epoch of {data.tars.name}, {workers} workers", difference)
        return None

    with ThreadPoolExecutor(AT_ONCE) as pool:
        progress = tqdm(total=len(turns), desc=f"check {data.tars.name}", unit="run", disable=None)
        with progress:
            all_found = []
            for found in pool.map(run, turns):
                all_found.append(found)
                progress.update(1)
    memory = {}
    for (contestant, workers), found in zip(turns, all_found, strict=True):
        if found is None:
            course.excluded.add((contestant.name, data.tars.name))
        elif not workers:
            memory[contestant.name] = found
    return memory


def difference_between(found: Mapping[str, Any], data: DataSet) -> str | None:
    """How what was served differs from the data set; None if it has the very same samples."""
    if found["samples"] != data.samples:
        return f"served {found['samples']} samples of {data.samples}"
    if found["payload_bytes"] != data.payload_bytes or int(found["digest"]) != data.digest:
        return "served other samples than the tars hold"
    return None


def raw_rounds(
    course: Course, data: DataSet, title: str, workers: int, rounds: int, seconds: float
) -> list[Row]:
    """Samples a second from the page cache, after the first batch."""
    contestants = [one for one in course.entered(data) if workers in one.workers]
    found = interleave(
        {
            one.name: partial(
                _attempt,
                course,
                one,
                {**course.task(one, data, workers), "action": "serve", "seconds": seconds},
                f"{title}, {workers} workers",
            )
            for one in contestants
        },
        rounds,
    )
    mean = data.payload_bytes / data.samples
    rows = []
    for name, all_runs in found.items():
        runs = [run for run in all_runs if run is not None]
        if not runs:
            continue
        rates = tuple(run["samples"] / run["seconds"] for run in runs)
        rows.append(
            Row(
                name=name,
                unit="samples/s",
                values=rates,
                facts={
                    "mb_per_s": statistics.median(rates) * mean / 1e6,
                    "cpu_us_a_sample": _median(
                        1e6 * run["cpu_s"] / run["cpu_samples"] for run in runs
                    ),
                    "import_s": _median(run["import_s"] for run in runs),
                    "first_batch_ms": _median(1e3 * run["first_batch_s"] for run in runs),
                    "peak_mib": _median(run["peak_mib"] for run in runs),
                    "rounds_done": len(runs),
                },
                group=f"{title}, page cache, {workers} workers",
            )
        )
    return rows


def http_rounds(course: Course, data: DataSet, failing_share: float, rounds: int) -> list[Row]:
    """Samples a second of a whole epoch over HTTP with an empty cache, from its construction."""
    title = f"1 KB samples, HTTP with {DELAY_S * 1e3:.0f} ms delay"
    if failing_share:
        title += f", {failing_share:.0%} of requests failing"
    seeds = {one.name: itertools.count(course.seed) for one in course.entered(data, http=True)}

    def run(contestant: Contestant) -> dict[str, Any] | None:
        line = Line(DELAY_S, failing_share, next(seeds[contestant.name]))
        cache = course.new_folder()
        # Each round gets a server of its own, so that its failures fall on the same requests.
        with serve(course.converted(contestant, data), line) as url:
            task = {
                **course.task(contestant, data),
                "action": "serve",
                "url": url,
                "cache": str(cache),
                "seconds": HTTP_TIME_LIMIT_S,
            }
            found = _attempt(course, contestant, task, title)
        shutil.rmtree(cache, ignore_errors=True)
        if found is not None and found["cpu_samples"] != data.samples:
            served = f"served {found['cpu_samples']} samples of {data.samples} without an error"
            course.failed(contestant, title, served)
            return None
        return found and {**found, "requests": line.requests, "failures": line.failures}

    contestants = {one.name: partial(run, one) for one in course.entered(data, http=True)}
    rows = []
    for name, all_runs in interleave(contestants, rounds).items():
        runs = [one for one in all_runs if one is not None]
        if runs:
            rows.append(
                Row(
                    name=name,
                    unit="samples/s",
                    values=tuple(
                        data.samples / (run["first_batch_s"] + run["seconds"]) for run in runs
                    ),
                    facts={
                        "first_batch_ms": _median(1e3 * run["first_batch_s"] for run in runs),
                        "requests": _median(run["requests"] for run in runs),
                        "failed_requests": sum(run["failures"] for run in runs),
                        "rounds_done": len(runs),
                    },
                    group=title,
                )
            )
    return rows


def resume_rounds(course: Course, data: DataSet, rounds: int) -> list[Row]:
    """Milliseconds from construction to the first batch of a stream that goes on, by depth."""
    contestants = course.entered(data, resumes=True)

    def save(contestant: Contestant) -> list[Task] | None:
        folder = course.new_folder()
        stops = [
            {
                "at": max(1, int(depth * data.samples)),
                "state": str(folder / f"state-{depth}"),
                "served": str(folder / f"served-{depth}"),
            }
            for depth in DEPTHS
        ]
        folder.mkdir(parents=True)
        task = {**course.task(contestant, data), "action": "save", "stops": stops}
        found = _attempt(course, contestant, task, "saving states")
        return found and [{**a, **b} for a, b in zip(stops, found["stops"], strict=True)]

    with ThreadPoolExecutor(AT_ONCE) as pool:
        saved = {
            one.name: stops
            for one, stops in zip(contestants, pool.map(save, contestants), strict=True)
            if stops
        }
    rows: list[Row] = []
    for number, depth in enumerate(DEPTHS):
        stops = {name: all_stops[number] for name, all_stops in saved.items()}
        rows += _resume_at(course, data, depth, stops, rounds)
    return rows


def _resume_at(
    course: Course, data: DataSet, depth: float, stops: Mapping[str, Task], rounds: int
) -> list[Row]:
    """Rows of one depth; in the first round the rest of the epoch is served and compared."""
    title = f"resume at {depth:.0%} of an epoch"
    turns: dict[str, Iterator[int]] = {name: itertools.count() for name in stops}

    def run(contestant: Contestant) -> Any:
        stop = stops[contestant.name]
        task = {**course.task(contestant, data), "action": "resume", "state": stop["state"]}
        if next(turns[contestant.name]) == 0:
            task |= {
                "served": stop["served"] + "-after",
                "remaining": data.samples - stop["samples"],
            }
        return _attempt(course, contestant, task, title)

    found = interleave(
        {
            one.name: partial(run, one)
            for one in course.entered(data, resumes=True)
            if one.name in stops
        },
        rounds,
    )
    rows = []
    for name, all_runs in found.items():
        if all_runs[0] is None:
            continue
        files = [stops[name]["served"], stops[name]["served"] + "-after"]
        lost, repeated = lost_and_repeated(files, data)
        rows.append(
            Row(
                name=name,
                unit="ms",
                values=tuple(1e3 * run["resume_s"] for run in all_runs if run is not None),
                facts={
                    "state_bytes": stops[name]["state_bytes"],
                    "samples_lost": lost,
                    "samples_repeated": repeated,
                },
                group=title,
            )
        )
    return rows


def lost_and_repeated(files: Sequence[str], data: DataSet) -> tuple[int, int]:
    """Samples of an epoch that occur in none of the files of hashes, and those that do again."""
    served = Counter(
        itertools.chain.from_iterable(json.loads(Path(file).read_text()) for file in files)
    )
    return data.samples - len(served), sum(served.values()) - len(served)


def _attempt(course: Course, contestant: Contestant, task: Task, where: str) -> Any:
    """What the contestant found, or None where it failed, which is noted."""
    try:
        return course.entrants.run(contestant, task)
    except FailedError as error:
        course.failed(contestant, where, error)
        return None


def _median(values: Iterable[float]) -> float:
    return statistics.median(values)
