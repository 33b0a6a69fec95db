"""Carries out a takedown: tombstones, then bytes, then everything that was made of them.

Every part is done atomically and may be done twice, so a takedown that is broken off is finished by
giving the same command again.  The log has a line before anything is changed, and one at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from headrace.corpus.privacy import Key
from headrace.corpus.takedown.log import append_to_log, read_log
from headrace.corpus.takedown.places import Place
from headrace.corpus.takedown.purge import (
    purge_build,
    purge_shard_cache,
    purge_tables,
    renumber_index,
)
from headrace.corpus.takedown.raw import RawFile, RawOutcome, purge_raw
from headrace.corpus.takedown.request import Match, Request, removed_samples, whole_sources
from headrace.encoding.purge import purge_sidecars
from headrace.errors import CorpusError, Problem
from headrace.shards import storage
from headrace.shards.cache import ShardCache
from headrace.shards.compact import compact_source, finish_compaction
from headrace.shards.overwrite import changing, is_interrupted, overwrite_removed
from headrace.shards.reader import ShardReader
from headrace.shards.tombstones import add_tombstones

Stage = Literal["tombstone", "overwrite", "compact"]
STAGES: tuple[Stage, ...] = ("tombstone", "overwrite", "compact")
_LOCK = ".takedown.lock"


@dataclass(frozen=True)
class Caches:
    """Where copies of a corpus and what was made of it lie on this machine."""

    encoded: tuple[Path, ...] = ()
    """Folders of encoded sidecars (``headrace.data.cache_dir``)."""
    shards: tuple[Path, ...] = ()
    """Folders of copies of remote shards (``headrace.data.shard_cache.folder``)."""


@dataclass
class Outcome:
    """What a takedown has done."""

    epochs: dict[str, int] = field(default_factory=dict)
    """By language, the newest tombstones."""
    overwritten: dict[str, list[str]] = field(default_factory=dict)
    """By language, the shards whose bytes were changed."""
    compacted: list[str] = field(default_factory=list)
    """Languages that have a new version."""
    emptied: list[str] = field(default_factory=list)
    """Languages of which nothing is left, so that there is no new version of them."""
    rows: dict[str, int] = field(default_factory=dict)
    """Rows that were dropped from each table."""
    sidecars: int = 0
    """Encoded sidecars that were deleted."""
    cached: int = 0
    """Copies of shards that were deleted."""
    cached_in_use: int = 0
    """Copies that are still there, since jobs use them."""
    raw: RawOutcome | None = None
    """None: it was not asked for."""


def take_down(
    place: Place,
    match: Match,
    requests: Sequence[Request],
    *,
    stage: Stage = "tombstone",
    key: Key | None = None,
    caches: Caches = Caches(),
    raw_inputs: Sequence[RawFile] | None = None,
) -> Outcome:
    """Remove documents for good; without any, bring what was removed before to a further stage.

    Args:
        place: the corpus or source.
        match: the documents.
        requests: what was asked for, for the log.
        stage: how far to go.
        key: signs the log.
        caches: where copies are to be deleted.
        raw_inputs: what happens to the raw input, see
            :func:`~headrace.corpus.takedown.raw.plan_raw`; None: it stays.

    Raises:
        UserError: if something cannot be read or written, or the log was tampered with.
    """
    outcome = Outcome()
    if stage == "compact":
        _check_local(place)
    with _alone(place.url):
        read_log(place.url, key)
        for url in place.folders.values():
            _finish_interrupted(url)
        # Before the index forgets them.
        removed = removed_samples(place, match)
        begun = append_to_log(
            place.url,
            {
                "action": "remove",
                "stage": stage,
                "requests": [request.recorded(key) for request in requests],
                "documents": len(match.ids),
                "near_duplicates": match.of_clusters,
                "filtered": len(match.filtered),
                "by_language": dict(sorted(match.by_language.items())),
                "by_source": dict(sorted(match.by_source.items())),
                "ids": sorted(match.ids),
            },
            key,
        )
        for language, url in place.folders.items():
            _remove_from_source(language, url, removed.get(language, ()), stage, caches, outcome)
        if place.corpus is not None:
            if raw_inputs is not None:  # before the tables forget where it is
                outcome.raw = purge_raw(raw_inputs, place.corpus)
            ids = {*match.ids, *match.filtered}
            outcome.rows = purge_tables(place.url, ids, whole_sources(place, requests))
            purge_build(place.url)
        if stage == "compact":
            _compact(place, outcome)
        append_to_log(
            place.url,
            {
                "action": "finished",
                "of": begun["number"],
                "epochs": outcome.epochs,
                "overwritten": {name: len(some) for name, some in outcome.overwritten.items()},
                "compacted": outcome.compacted,
                "emptied": outcome.emptied,
                "rows": outcome.rows,
                "sidecars": outcome.sidecars,
                "cached": outcome.cached,
                "raw": _counts(outcome.raw),
            },
            key,
        )
    return outcome


def _counts(raw: RawOutcome | None) -> dict[str, int] | None:
    """For the log, which names no files."""
    if raw is None:
        return None
    return {"files": raw.files, "records": raw.records, "left": len(raw.left)}


def _finish_interrupted(url: str) -> None:
    """Finish what an earlier takedown that was killed left half done in a source."""
    if storage.is_local(url):
        finish_compaction(storage.local_path(url))
    if is_interrupted(url):
        with changing(url):
            overwrite_removed(url)


def _remove_from_source(
    language: str,
    url: str,
    removed: Sequence[Any],
    stage: Stage,
    caches: Caches,
    outcome: Outcome,
) -> None:
    with changing(url):
        epoch = add_tombstones(url, removed)
        if not epoch:
            return
        outcome.epochs[language] = epoch
        for folder in caches.encoded:
            outcome.sidecars += purge_sidecars(url, folder)
        if stage != "tombstone":
            changed = overwrite_removed(url)
            if changed:
                outcome.overwritten[language] = changed
        for folder in caches.shards:
            dropped, in_use = purge_shard_cache(url, ShardCache(folder))
            outcome.cached += dropped
            outcome.cached_in_use += in_use


def _check_local(place: Place) -> None:
    problems = [
        Problem(
            "a source on a store cannot be compacted in its place",
            url,
            remedy="Overwrite it (--stage overwrite), or copy it to a local folder first",
        )
        for url in place.folders.values()
        if not storage.is_local(url)
    ]
    if problems:
        raise CorpusError(problems)


def _compact(place: Place, outcome: Outcome) -> None:
    """New versions of the languages from which something was removed, and their places in it."""
    for language in outcome.epochs:
        url = place.folders[language]
        with ShardReader(url) as reader:
            lives = bool(reader.living)
        if lives:
            compact_source(url)
        (outcome.compacted if lives else outcome.emptied).append(language)
    if place.corpus is not None and outcome.compacted:
        renumber_index(place.url, place.folders)


@contextmanager
def _alone(url: str) -> Iterator[None]:
    if not storage.is_local(url):
        yield
        return
    lock = FileLock(storage.local_path(url) / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        what = "another process removes documents from this corpus"
        raise CorpusError(Problem(what, url, remedy="Wait for it to end")) from error
    try:
        yield
    finally:
        lock.release()
