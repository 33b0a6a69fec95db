"""The stages of a search for duplicates, one after another, on any number of workers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from headrace.corpus.duplicates.buckets import bucket
from headrace.corpus.duplicates.decide import clusters_of, decide, join, members
from headrace.corpus.duplicates.layout import Part, prepare
from headrace.corpus.duplicates.pairs import pairs
from headrace.corpus.duplicates.semantic import embed, relate
from headrace.corpus.duplicates.settings import DuplicatesSettings
from headrace.corpus.duplicates.texts import check, cut, gather

Each = Callable[[Callable[[int], Any], Iterable[int]], Sequence[Any]]
"""Calls a function with every number, in any process and order; results in the numbers' order."""


@dataclass(frozen=True)
class Summary:
    """What was found."""

    clusters: int
    """Sets of two or more documents."""
    removed: dict[str, int]
    """Documents that are left out, by rule."""
    candidates: int
    """Pairs of different texts that shared a band and were compared; a pair counts once for each
    partition that has it."""
    accepted: int
    """Of these, near-duplicates."""
    unexamined: int
    """Texts in very large buckets that were not compared with all others there; once a bucket."""
    bands: tuple[int, int]
    """Bands of a signature, and the values of each."""
    related: int | None = None
    """Pairs of documents that mean the same; None: they were not looked for."""


def find_duplicates(
    parts: Sequence[Part],
    folder: Path,
    settings: DuplicatesSettings,
    each: Each = lambda function, numbers: list(map(function, numbers)),
) -> Summary:
    """Find duplicates over all parts, and decide which documents are kept.

    Afterwards :func:`headrace.corpus.duplicates.decide.read_decisions` says what becomes of the
    documents of a part.  The result depends on the parts and the settings alone.  Broken off and
    started again, it goes on where it was; a folder of another search is emptied.

    Args:
        parts: in the order of the recipe's sources, and in reading order.
        folder: for intermediate files, on a file system that all workers see.
        settings: what counts as a duplicate.
        each: runs the tasks of a stage; default: here, one after another.
    """
    layout = prepare(parts, folder, settings)
    each(partial(bucket, folder), range(len(parts)))
    found = each(partial(pairs, folder), range(layout.partitions))
    accepted = sum(one.accepted for one in found)
    if layout.reads_texts:
        gather(folder)
        each(partial(cut, folder), range(len(parts)))
        accepted += sum(each(partial(check, folder), range(layout.partitions)))
    join(folder)
    each(partial(members, folder, "copies"), range(len(parts)))
    removed = decide(folder, "copies")
    related = None
    if settings.semantic is not None:
        each(partial(embed, folder), range(len(parts)))
        related = relate(folder)
        each(partial(members, folder, "all"), range(len(parts)))
        removed = decide(folder, "all")
    return Summary(
        clusters=clusters_of(folder, layout.last_stage),
        removed=removed,
        candidates=sum(one.candidates for one in found),
        accepted=accepted,
        unexamined=sum(one.unexamined for one in found),
        bands=layout.bands,
        related=related,
    )
