"""What each step of a build costs, in the benchmark ``build``: where the time of each goes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from headrace.benchmarks.build_contestants import OURS, Entrants, Place, start_program, task_of
from headrace.benchmarks.programs import answer_of

Seconds = Mapping[str, float]
"""By step."""

_THEIRS = {
    "Jsonl": "read, write", "FTFY": "normalise", "Language ID": "language", "PII": "privacy",
    "MinHash stage 1": "signature", "MinHash stage 2": "find duplicates",
    "MinHash stage 3": "find duplicates", "MinHash stage 4": "find duplicates",
}  # fmt: skip
"""Names of datatrove's steps, which stand behind a picture, and ours."""
_AROUND = "MinHash stage 1"


def of_ours(entrants: Entrants, place: Place) -> Seconds:
    """Seconds a document of what is done to each, in a process of its own; imports left out."""
    task = task_of(OURS, place, 1)
    answer = answer_of(start_program(entrants, OURS, "headrace_steps", task))
    return {step: seconds for step, seconds in answer.items() if step != "cpu_s"}


def of_peer(place: Place) -> Seconds:
    """Seconds in all of a build of datatrove, as it counts them; loading its models is in them."""
    found: dict[str, float] = {}
    for path in sorted((place.work / "logs").glob("*/stats.json")):
        spent = {
            step["name"]: step["time_stats"]["total"] for step in json.loads(path.read_bytes())
        }
        for title, seconds in spent.items():
            name = next(ours for theirs, ours in _THEIRS.items() if title.endswith(theirs))
            if title.endswith(_AROUND):  # it counts the time in which it waits for its documents
                seconds -= sum(spent.values()) - seconds
            found[name] = found.get(name, 0.0) + seconds
    return found


def records(name: str, spent: Seconds, whole: float) -> list[dict[str, Any]]:
    """The lines of a contestant in the table.

    Args:
        name: of the contestant.
        spent: seconds a document, by step.
        whole: seconds a document of all of the build.
    """
    everything = {**spent, "everything else": whole - sum(spent.values())}
    return [
        {"contestant": name, "step": step, "ms a document": 1e3 * seconds}
        for step, seconds in everything.items()
    ]
