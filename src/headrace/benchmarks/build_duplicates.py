"""Duplicates, in the benchmark ``build``: what is found of pairs whose similarity is known."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from headrace.benchmarks.build_contestants import (
    Entrants,
    Place,
    clusters,
    run,
    task_of,
)
from headrace.benchmarks.build_data import NEAR

Pair = tuple[str, str]
SETS: Mapping[str, Mapping[str, Any]] = {
    "licence_texts": {},
    "udhr_variants": {"unit": "characters"},
}
"""Sets with lists of pairs, and how ours compares them: as the lists were made."""


def listed_pairs(
    entrants: Entrants, folder: Path, new_place: Callable[[Sequence[Path]], Place]
) -> list[dict[str, Any]]:
    """Pairs that are found and missed, for each contestant and set.

    Clusters are compared: all pairs of documents within one count, in the list as in what is
    found.
    """
    records = []
    for name, near in SETS.items():
        wanted = pairs_of(joined(listed(folder / f"{name}.pairs.tsv")))
        for one in entrants.contestants:
            place = new_place([])
            source = place.folder / "input" / f"{name}.jsonl"
            source.parent.mkdir(parents=True)
            source.write_text("".join(_lines(folder / f"{name}.jsonl")), encoding="utf-8")
            place = Place(place.folder, [source], place.model)
            options: dict[str, Any] = {"clusters": True}
            if one.tuned is None:
                options = {"duplicates": {"near": near}}
            run(entrants, one, task_of(one, place, 1, **options))
            found = pairs_of(clusters(one, place))
            records.append(
                {
                    "contestant": one.name,
                    "set": name,
                    "pairs": len(wanted),
                    "found": len(found & wanted),
                    "wrong": len(found - wanted),
                }
            )
    return records


def listed(path: Path) -> list[Pair]:
    """Pairs of a list that are as similar as near-duplicates are."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t"))[1:]
    return [(row[0], row[1]) for row in rows if float(row[2]) >= NEAR]


def joined(pairs: Iterable[Pair]) -> list[set[str]]:
    """Clusters: what is joined by chains of pairs."""
    found: list[set[str]] = []
    for pair in pairs:
        touched = [one for one in found if not one.isdisjoint(pair)]
        found = [one for one in found if one.isdisjoint(pair)]
        found.append(set(pair).union(*touched))
    return found


def pairs_of(clusters_: Iterable[set[str]]) -> set[Pair]:
    """All pairs of documents within clusters."""
    return {pair for one in clusters_ for pair in combinations(sorted(one), 2)}


def _lines(path: Path) -> Iterable[str]:
    """Id and text of each document, and nothing that only one side would look at."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            yield json.dumps({"id": row["id"], "text": row["text"]}, ensure_ascii=False) + "\n"
