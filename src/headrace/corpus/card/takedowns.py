"""The log of takedowns as a changelog may show it: never whom or what was asked for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from headrace.errors import CorpusError, Problem
from headrace.shards import storage

LOG_NAME = "takedowns.jsonl"


@dataclass(frozen=True)
class Takedown:
    """One entry of the log."""

    time: str
    documents: int
    by: str
    """What the documents were found by: ``domain``, ``subject``; never its value."""
    stages: str


def read_takedowns(url: str) -> list[Takedown]:
    """The entries of the log, oldest first; none where there is no log.

    Raises :class:`CorpusError` for a line that is no entry.
    """
    where = storage.join(url, LOG_NAME)
    if not storage.exists(where):
        return []
    found = []
    for number, line in enumerate(storage.read_bytes(where).splitlines(), start=1):
        try:
            found.append(_entry(json.loads(line)))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            remedy = "Bring the log back from a copy of the corpus"
            place = f"{where}:{number}"
            raise CorpusError(Problem("not an entry of the log", place, None, remedy)) from error
    return found


def _entry(row: dict[str, Any]) -> Takedown:
    return Takedown(
        time=str(row["time"]),
        documents=int(row["documents"]),
        by=str(row["by"]),
        stages=str(row.get("stages") or ""),
    )
