"""What is asked to be removed, and which documents that is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from headrace.corpus.catalogue.catalogue import sources_of
from headrace.corpus.catalogue.schema import (
    FILTERED_NAME,
    INDEX_NAME,
    ORIGINS_NAME,
    ORIGINS_SCHEMA,
    domain_of,
)
from headrace.corpus.documents import content_hash
from headrace.corpus.normalise import normalise
from headrace.corpus.privacy import Key, subject_keys
from headrace.corpus.takedown.places import Place
from headrace.errors import CorpusError, Problem
from headrace.shards import storage
from headrace.shards.reader import ShardReader
from headrace.shards.tombstones import Removed

Kind = Literal["id", "url", "domain", "source", "custodian", "subject", "text"]
KINDS: tuple[Kind, ...] = ("id", "url", "domain", "source", "custodian", "subject", "text")
_COLUMNS = {
    "id": "id",
    "url": "url",
    "domain": "domain",
    "source": "source",
    "custodian": "custodian",
    "subject": "subject_keys",
    "text": "content_hash",
}
_READ = ["id", "source", "custodian", "url", "domain", "cluster", "language"]
_OF_ORIGINS = ("subject", "text")
"""Kinds that are looked up in ``origins.parquet``."""
_ROWS = 65_536
_SECRET = ("subject", "url", "text")
"""What may name a person: the log has a digest in its place."""


@dataclass(frozen=True)
class Request:
    """Something that is asked to be removed."""

    kind: Kind
    value: str = field(repr=False)
    """As it was given: never to be logged for a ``subject``."""
    wanted: tuple[str, ...] = field(repr=False)
    """Values of the index that fit it."""

    def recorded(self, key: Key | None) -> dict[str, Any]:
        """What the log says of it: what may name a person is there as a digest alone."""
        if self.kind == "subject":
            return {"kind": self.kind, "keys": list(self.wanted)}
        if self.kind not in _SECRET:
            return {"kind": self.kind, "value": self.value}
        if key is not None:
            return {"kind": self.kind, "keyed": key.digest("takedown", self.value).hex()}
        digest = blake2b(self.value.encode("utf-8", "surrogatepass"), digest_size=16)
        return {"kind": self.kind, "digest": digest.hexdigest()}


def make_request(
    kind: Kind, value: str, key: Key | None = None, regions: Sequence[str] = ()
) -> Request:
    """Make one of what a user gave.

    Args:
        kind: what the value is.
        value: an id, URL, host, id of a source, name of a custodian, mail address or telephone
            number, or whole text.
        key: the key of the corpus, for a ``subject``.
        regions: countries of a telephone number without a calling code.

    Raises:
        CorpusError: if it is empty, or a subject without a key.
    """
    if not value.strip():
        raise CorpusError(Problem("nothing is named", f"--{kind}", repr(value), "Name something"))
    if kind == "subject":
        if key is None:
            raise CorpusError(
                Problem(
                    "a person's documents are found by a keyed hash",
                    "--subject",
                    remedy="Give the key that the corpus was built with: --key FILE",
                )
            )
        return Request(kind, value, subject_keys(value, key, regions))
    if kind == "domain":
        return Request(kind, value, (domain_of(f"//{value}") or value.lower(),))
    if kind == "text":
        wanted = tuple(dict.fromkeys((content_hash(normalise(value).text), content_hash(value))))
        return Request(kind, value, wanted)
    return Request(kind, value, (value,))


@dataclass
class Match:
    """The documents that a request is about."""

    ids: dict[str, str] = field(default_factory=dict)
    """Id -> language of those that are in shards."""
    of_clusters: int = 0
    """How many of them are only near-duplicates of what was named."""
    filtered: set[str] = field(default_factory=set)
    """Ids of those that a rule had left out: they have a row in a table, and raw input."""
    by_source: Counter[str] = field(default_factory=Counter)
    by_language: Counter[str] = field(default_factory=Counter)

    def __bool__(self) -> bool:
        return bool(self.ids or self.filtered)


def resolve(place: Place, requests: Sequence[Request], *, clusters: bool = True) -> Match:
    """The documents that any of some requests is about.

    With ``clusters`` near-duplicates go with them: the copy that was kept of a document that was
    left out as a duplicate is found as well.

    Raises :class:`CorpusError` for requests that a single source cannot answer.
    """
    if place.corpus is None:
        return _resolve_in_source(place, requests)
    named = _named_in_origins(place.url, requests)
    groups: set[str] = set()
    tables = (INDEX_NAME, FILTERED_NAME)
    others = [request for request in requests if request.kind not in _OF_ORIGINS]
    found = pa.array(sorted(named), pa.string())
    for name in tables:
        for batch in batches_of(place.url, name):
            rows = batch.filter(pc.or_(_fits(batch, others), pc.is_in(batch.column("id"), found)))
            named.update(rows.column("id").to_pylist())
            groups.update(filter(None, rows.column("cluster").to_pylist()))
    match = Match()
    wanted_ids, wanted_groups = pa.array(sorted(named), pa.string()), pa.array(sorted(groups))
    for name in tables:
        for batch in batches_of(place.url, name):
            fits = pc.is_in(batch.column("id"), wanted_ids)
            if clusters and groups:
                fits = pc.or_(fits, pc.is_in(batch.column("cluster"), wanted_groups))
            for row in batch.filter(fits).to_pylist():
                if name == INDEX_NAME:
                    match.ids[row["id"]] = row["language"]
                    match.of_clusters += row["id"] not in named
                    match.by_source[row["source"]] += 1
                    match.by_language[row["language"]] += 1
                else:
                    match.filtered.add(row["id"])
    return match


def _named_in_origins(url: str, requests: Sequence[Request]) -> set[str]:
    """Ids of the documents that are named by what is not in the other tables."""
    own = [request for request in requests if request.kind in _OF_ORIGINS]
    named: set[str] = set()
    if own:
        check_origins(url, f"--{own[0].kind}")
        for batch in batches_of(url, ORIGINS_NAME, ORIGINS_SCHEMA.names):
            named.update(batch.filter(_fits(batch, own)).column("id").to_pylist())
    return named


def check_origins(url: str, option: str) -> None:
    """Raise :class:`CorpusError` if the corpus is a copy that was published."""
    if not storage.exists(storage.join(url, ORIGINS_NAME)):
        raise CorpusError(
            Problem(
                f"the corpus has no {ORIGINS_NAME}: it is a copy for publication",
                option,
                url,
                "Remove documents from the corpus that was built, and publish it again",
            )
        )


def whole_sources(place: Place, requests: Sequence[Request]) -> set[str]:
    """Ids of the sources of a corpus that are removed as a whole."""
    assert place.corpus is not None
    ids = {value for r in requests if r.kind == "source" for value in r.wanted}
    custodians = {value.lower() for r in requests if r.kind == "custodian" for value in r.wanted}
    for source in sources_of(place.corpus):
        if str(source.get("custodian")).lower() in custodians:
            ids.add(str(source.get("id")))
    return ids


def removed_samples(place: Place, match: Match) -> dict[str, list[Removed]]:
    """Language -> the samples of its shards that have the ids of a match, found by their keys."""
    found: dict[str, list[Removed]] = {}
    for language, url in place.folders.items():
        wanted = {id_ for id_, of in match.ids.items() if of == language}
        if not wanted:
            continue
        reader = ShardReader(url, require_all=False)
        found[language] = [
            Removed(entry.name, number, key)
            for shard, entry in enumerate(reader.manifest.shards)
            for number, key in enumerate(reader.keys(shard))
            if key in wanted
        ]
    return found


def batches_of(url: str, name: str, columns: Sequence[str] | None = None) -> Iterator[Any]:
    """The rows of a table of a corpus, some at a time; none where there is no such table.

    Raises :class:`CorpusError` if it cannot be read.
    """
    where = storage.join(url, name)
    if not storage.exists(where):
        return
    try:
        with storage.open_for_reading(where) as file, pq.ParquetFile(file) as table:
            yield from table.iter_batches(_ROWS, columns=list(columns or _READ))
    except (pa.ArrowException, KeyError) as error:
        remedy = "Bring it back from a copy of the corpus"
        raise CorpusError(Problem("it cannot be read", where, str(error)[:120], remedy)) from error


def _fits(batch: Any, requests: Iterable[Request]) -> Any:
    fits = pa.array([False] * len(batch))
    for request in requests:
        column = batch.column(_COLUMNS[request.kind])
        wanted = pa.array(request.wanted, pa.string())
        if request.kind == "subject":
            lists = pc.list_parent_indices(column)
            rows = lists.filter(pc.is_in(pc.list_flatten(column), wanted))
            here = pc.is_in(pa.array(range(len(batch)), rows.type), rows)
        elif request.kind == "custodian":
            here = pc.is_in(pc.utf8_lower(column), pc.utf8_lower(wanted))
        else:
            here = pc.is_in(column, wanted)
            if request.kind == "domain":
                (domain,) = request.wanted
                below = pc.fill_null(pc.ends_with(column, f".{domain}"), False)
                here = pc.or_(here, below)
        fits = pc.or_(fits, here)
    return fits


def _resolve_in_source(place: Place, requests: Sequence[Request]) -> Match:
    other = [request.kind for request in requests if request.kind != "id"]
    if other:
        raise CorpusError(
            Problem(
                "a single source of shards has no index to look this up in",
                f"--{other[0]}",
                place.url,
                "Name the samples by their keys: --id",
            )
        )
    wanted = {value for request in requests for value in request.wanted}
    reader = ShardReader(place.url, require_all=False)
    match = Match()
    for shard, entry in enumerate(reader.manifest.shards):
        for key in wanted.intersection(reader.keys(shard)):
            match.ids[key] = ""
            match.by_source[entry.name] += 1
            match.by_language[""] += 1
    return match
