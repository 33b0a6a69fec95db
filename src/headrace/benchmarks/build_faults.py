"""Faults, in the benchmark ``build``: documents that are broken, and a build that is killed."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from headrace.benchmarks.build_contestants import (
    Contestant,
    Entrants,
    Place,
    begin,
    rows_of,
    run,
    survivors,
    task_of,
    tree,
)
from headrace.benchmarks.build_data import Text, as_line
from headrace.benchmarks.programs import FailedError, answer_of
from headrace.corpus.building.part_work import part_path
from headrace.corpus.catalogue.schema import CORPUS_NAME, QUARANTINE_NAME

Record = dict[str, Any]

SHARE = 0.01
"""Of the documents, that are broken."""
_LONG = 50_000_000
_DEEP = 100_000
_WAIT_S = 0.02
_LONGEST_S = 300


def _cut_off(line: str) -> bytes:
    return line[: len(line) // 2].encode()


def _no_object(line: str) -> bytes:
    return json.dumps([line[:40]]).encode()


def _no_text(line: str) -> bytes:
    return json.dumps({**json.loads(line), "text": 7}).encode()


def _surrogate(line: str) -> bytes:
    found = json.loads(line)
    return json.dumps({**found, "text": f"{found['text']} \ud83d"}).encode()


def _undecodable(line: str) -> bytes:
    return line.encode().replace(b" ", b" \xff\xfe\x80 ", 1)


def _nul(line: str) -> bytes:
    return line.encode().replace(b" ", b"\x00", 1)


def _deep(line: str) -> bytes:
    return line[:-1].encode() + b', "more": ' + b"[" * _DEEP + b"]" * _DEEP + b"}"


def _long(line: str) -> bytes:
    found = json.loads(line)
    text = (found["text"] + " ") * (_LONG // len(found["text"]))
    return json.dumps({**found, "text": text}).encode()


POISONS: Mapping[str, Callable[[str], bytes]] = {
    "a line cut off": _cut_off,
    "an array in place of an object": _no_object,
    "a number in place of the text": _no_text,
    "a lone surrogate": _surrogate,
    "bytes that are not UTF-8": _undecodable,
    "a NUL byte": _nul,
    "100,000 nested lists": _deep,
    "a line of 50 MB": _long,
}
"""What is done to a line of JSON, by what it is then."""


def poison(texts: list[Text], kind: str, path: Path) -> tuple[set[str], set[str]]:
    """Write documents, one in a hundred of them broken; ids of the healthy and of the broken."""
    every = round(1 / SHARE)
    broken = set()
    with path.open("wb") as file:
        for number, text in enumerate(texts):
            line = as_line(text)
            if number % every == every // 2:
                broken.add(text.id)
                file.write(POISONS[kind](line) + b"\n")
            else:
                file.write(line.encode() + b"\n")
    return {text.id for text in texts} - broken, broken


def poisoned(
    entrants: Entrants, texts: list[Text], folder: Path, model: Path, per_file: int
) -> list[Record]:
    """What becomes of healthy and broken documents, for each contestant and kind of poison.

    A file a kind.  Ours builds from all files at once; the peer, which an exception ends, from
    each on its own, and only its first pass is looked at.
    """
    kinds: dict[str, tuple[Path, set[str], set[str]]] = {}
    for number, kind in enumerate(POISONS):
        path = folder / f"kind-{number}" / f"{number}.jsonl"
        path.parent.mkdir(parents=True)
        own = texts[number * per_file : (number + 1) * per_file]
        kinds[kind] = (path, *poison(own, kind, path))
    records: list[Record] = []
    for one in entrants.contestants:
        if one.tuned is None:
            records += _poisoned_ours(entrants, one, kinds, folder)
        elif not one.tuned:
            for kind, (path, healthy, broken) in kinds.items():
                place = Place(folder / f"peer-{path.stem}", [path], model)
                records.append(_poisoned_peer(entrants, one, place, kind, healthy, broken))
    return records


def _poisoned_ours(
    entrants: Entrants,
    one: Contestant,
    kinds: Mapping[str, tuple[Path, set[str], set[str]]],
    folder: Path,
) -> list[Record]:
    place = Place(folder / one.name, [path for path, _, _ in kinds.values()], Path())
    task = task_of(one, place, 1, duplicates=None, limits={"seconds": 20})
    run(entrants, one, task)
    kept = set(survivors(one, place))
    reasons: dict[str, Counter[str]] = {}
    for line in (place.output / QUARANTINE_NAME).read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        reasons.setdefault(Path(row["file"]).name, Counter())[row["reason"]] += 1
    counts = json.loads((place.output / CORPUS_NAME).read_bytes())["counts"]["documents"]
    if counts["read"] != len(kept) + counts["filtered"] + sum(
        sum(found.values()) for found in reasons.values()
    ):
        raise FailedError(f"the counts do not add up: {counts}")
    records = []
    for kind, (path, healthy, broken) in kinds.items():
        found = reasons.get(path.name, Counter())
        said = ", ".join(f"{count} {reason}" for reason, count in found.items())
        noted = sum(found.values())
        outcome = f"in quarantine: {said}" if said else "all are written"
        records.append(_record(one, kind, kept, healthy, broken, noted, outcome))
    return records


def _poisoned_peer(
    entrants: Entrants,
    one: Contestant,
    place: Place,
    kind: str,
    healthy: set[str],
    broken: set[str],
) -> Record:
    task = task_of(one, place, 1, stages=1)
    try:
        run(entrants, one, task)
        outcome = f"no error; {_warnings(place)} warnings in the log"
    except FailedError as error:
        text = re.sub(r"\s+", " ", str(error))
        outcome = f"the run ends: {text}"[:110]
    kept: set[str] = set()
    try:
        kept = {row["id"] for row in rows_of(place.work / "base")}
    except (EOFError, OSError, json.JSONDecodeError):
        outcome += "; its file cannot be read to the end"
    return _record(one, kind, kept, healthy, broken, 0, outcome)


def _warnings(place: Place) -> int:
    logs = (place.work / "logs" / "first" / "logs").glob("*.log")
    return sum(path.read_text(encoding="utf-8").count("| WARNING") for path in logs)


def _record(
    one: Contestant,
    kind: str,
    kept: set[str],
    healthy: set[str],
    broken: set[str],
    noted: int,
    outcome: str,
) -> Record:
    written = len(broken & kept)
    return {
        "contestant": one.name,
        "fault": kind,
        "healthy documents": len(healthy),
        "of these lost": len(healthy - kept),
        "broken documents": len(broken),
        "of these written": written,
        "in quarantine": noted,
        "neither": len(broken) - written - noted,
        "outcome": outcome,
    }


def killed(
    entrants: Entrants, one: Contestant, place: Place, expected: Mapping[str, int]
) -> Record:
    """Kill a build while it reads, start it again, and count what is done twice.

    All its processes are stopped, then killed, when half of the files are done and the next ones
    half way.  What of the others had been read by then is done again; what was done and is read
    again counts as well.

    Args:
        entrants: who is there.
        one: who builds.
        place: where; nothing is there yet.
        expected: how often each document is in the corpus of a build that was let alone.
    """
    workers = min(2, len(os.sched_getaffinity(0)))
    task = {**task_of(one, place, workers), "keep": True}
    sizes = {path.name: path.stat().st_size for path in place.files}
    process = begin(entrants, one, task)
    drain = threading.Thread(target=process.communicate, daemon=True)
    drain.start()
    began = time.monotonic()
    first: float | None = None
    half = len(place.files) // 2
    while len(_committed(one, place)) < half:
        if process.poll() is not None or time.monotonic() - began > _LONGEST_S:
            raise FailedError(f"{one.name}: it ended before it could be killed")
        if first is None and _committed(one, place):
            first = time.monotonic()
        time.sleep(_WAIT_S)
    of_a_file = (time.monotonic() - (first or began)) / max(1, half / workers - 1)
    time.sleep(of_a_file / 2)
    everyone = tree(process.pid)
    for signal_ in (signal.SIGSTOP, signal.SIGKILL):
        if signal_ == signal.SIGKILL:
            committed = _committed(one, place)
            read = _read_by(everyone, place)
        for number in everyone:
            _send(number, signal_)
    drain.join()
    unfinished = _unfinished(one, place, committed)
    in_flight = {name: read.get(name, 0) for name in sizes if name not in committed}
    for name in in_flight:
        if not in_flight[name] and _has_output(one, place, name):
            in_flight[name] = sizes[name]  # read to its end, and not yet noted
    marks = _marks(one, place)
    answer_of(begin(entrants, one, task))
    again = {name for name in committed if _marks(one, place)[name] != marks[name]}
    kept = Counter(survivors(one, place))
    return {
        "contestant": one.name,
        "fault": f"kill -9 with {len(committed)} of {len(place.files)} files done",
        "bytes in all": sum(sizes.values()),
        "bytes read twice": sum(in_flight.values()) + sum(sizes[name] for name in again),
        "finished files read again": len(again),
        "unfinished files under their final names": unfinished,
        "documents lost": sum((Counter(expected) - kept).values()),
        "documents too many": sum((kept - Counter(expected)).values()),
    }


def _send(process: int, signal_: signal.Signals) -> None:
    try:
        os.kill(process, signal_)
    except ProcessLookupError:
        return


def _committed(one: Contestant, place: Place) -> set[str]:
    """Names of the files that are done."""
    return set(_marks(one, place))


def _marks(one: Contestant, place: Place) -> dict[str, Any]:
    """Of each file that is done what changes if it is done again."""
    if one.tuned is None:
        ledger = place.output / ".build" / "parts.jsonl"
        if not ledger.exists():
            return {}
        lines = ledger.read_bytes().split(b"\n")[:-1]
        done = Counter(json.loads(line)["part"] for line in lines)
        return {place.files[part].name: times for part, times in done.items()}
    logs = place.work / "logs" / "first"
    found = {}
    for path in logs.glob("completions/*"):
        stats = logs / "stats" / f"{path.name}.json"
        found[place.files[int(path.name)].name] = stats.stat().st_mtime_ns
    return found


def _read_by(processes: list[int], place: Place) -> dict[str, int]:
    """How far processes have read in the files that they have open."""
    names = {str(path): path.name for path in place.files}
    found: dict[str, int] = {}
    for path, position in _open_files(processes):
        if path in names:
            found[names[path]] = max(found.get(names[path], 0), position)
    return found


def _open_files(processes: list[int]) -> Iterator[tuple[str, int]]:
    for process in processes:
        for link in Path(f"/proc/{process}/fd").glob("*"):
            try:
                target = str(link.readlink())
                facts = Path(f"/proc/{process}/fdinfo/{link.name}").read_text(encoding="ascii")
            except OSError:
                continue
            yield target, int(facts.split()[1])


def _has_output(one: Contestant, place: Place, name: str) -> bool:
    number = [path.name for path in place.files].index(name)
    if one.tuned is None:
        return part_path(place.output / ".build", f"{number:06d}").exists()
    return any((place.work / "base").glob(f"{number:05d}.jsonl*"))


def _unfinished(one: Contestant, place: Place, committed: set[str]) -> int:
    """Files of what is not done that look like those of what is."""
    if one.tuned is None:
        found = 0
        for path in (place.output / ".build" / "parts").glob("*.parquet"):
            try:
                pq.read_metadata(path)
            except (OSError, pa.ArrowInvalid):
                found += 1
        return found
    ranks = {rank for rank, path in enumerate(place.files) if path.name not in committed}
    written = (place.work / "base").glob("*.jsonl*")
    return sum(int(path.name.partition(".")[0]) in ranks for path in written)
