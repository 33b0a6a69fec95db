"""The log of takedowns as a changelog may show it: never whom or what was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headrace.corpus.takedown.log import read_log

_STAGES = {
    "tombstone": "no longer served; their bytes are still in the shards",
    "overwrite": "their bytes are overwritten",
    "compact": "the shards are written again without them",
}


@dataclass(frozen=True)
class Takedown:
    """One removal of the log."""

    time: str
    documents: int
    near_duplicates: int
    """Of these, those that were only near-duplicates of what was asked for."""
    found_by: tuple[str, ...]
    """What they were found by: ``domain``, ``subject``; never its value."""
    state: str
    """How far it got, in words."""


def read_takedowns(url: str) -> list[Takedown]:
    """The removals of the log, oldest first; none where there is no log.

    Raises :class:`CorpusError` for a log that was changed.
    """
    lines = read_log(url).lines
    finished = {line.get("of") for line in lines if line.get("action") == "finished"}
    return [_entry(line, finished) for line in lines if line.get("action") == "remove"]


def _entry(line: Mapping[str, Any], finished: set[Any]) -> Takedown:
    state = _STAGES.get(line["stage"], str(line["stage"]))
    if line["number"] not in finished:
        state = "begun and not finished: give the command again"
    return Takedown(
        time=str(line["time"]),
        documents=int(line["documents"]),
        near_duplicates=int(line["near_duplicates"]),
        found_by=tuple(dict.fromkeys(str(request["kind"]) for request in line["requests"])),
        state=state,
    )
