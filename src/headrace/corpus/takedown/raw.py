"""Raw input of removed documents: files are deleted, records blanked, and the rest is named.

A file that is one document is deleted, and so is every file of a source that is removed as a whole.
Of a file that holds many documents, those to be removed are blanked in their places, so that what
lies behind them keeps its own; each is read again first, and only what still is the document that
the build has read is touched.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from headrace.config.section import Section
from headrace.corpus.catalogue.schema import ORIGINS_NAME, QUARANTINE_NAME
from headrace.corpus.documents import Document, Record, document_id
from headrace.corpus.media.read import read_records
from headrace.corpus.media.registry import reader_of
from headrace.corpus.media.settings import Fields, MediaSettings
from headrace.corpus.normalise import Normalise, NormaliseSettings
from headrace.corpus.takedown.blank import PARQUET, blank_records, blank_rows
from headrace.corpus.takedown.places import Place
from headrace.corpus.takedown.request import (
    Match,
    Request,
    batches_of,
    check_origins,
    whole_sources,
)
from headrace.errors import CorpusError, Problem, UserError
from headrace.shards import storage
from headrace.shards.filesystems import translated

AnySection = TypeVar("AnySection", bound=Section)
Action = Literal["delete", "blank", "leave"]

_BY_HAND = "Take the documents out of it by hand, or delete it"


@dataclass(frozen=True)
class RawFile:
    """A file of raw input, the documents in it that are removed, and what happens to it."""

    url: str
    action: Action
    rows: Sequence[Mapping[str, Any]] = field(repr=False)
    """Of each document: ``id``, ``source``, ``content_hash``."""
    why: str = ""
    """Why it is left."""


@dataclass(frozen=True)
class Left:
    """Raw input of removed documents that is still there."""

    file: str
    documents: int
    reason: str
    remedy: str


@dataclass
class RawOutcome:
    """What was done to raw input."""

    files: int = 0
    """Files that were deleted."""
    records: int = 0
    """Documents that were blanked in files with others."""
    left: list[Left] = field(default_factory=list)
    """What was not done."""


def has_origins(place: Place) -> bool:
    """Whether it is known where the raw input of a corpus lies."""
    return place.corpus is not None and storage.exists(storage.join(place.url, ORIGINS_NAME))


def plan_raw(place: Place, match: Match, requests: Sequence[Request]) -> list[RawFile]:
    """What is to happen to the files of the documents that are to be removed, by URL.

    Raises :class:`CorpusError` for a single source of shards, and for a copy for publication, which
    do not know them.
    """
    if place.corpus is None:
        raise CorpusError(
            Problem(
                "a single source of shards does not know its raw input",
                "--raw-inputs",
                place.url,
                "Leave it out, and clean the raw input by hand",
            )
        )
    check_origins(place.url, "--raw-inputs")
    ids = pa.array([*match.ids, *match.filtered], pa.string())
    whole = whole_sources(place, requests)
    files: dict[str, list[Mapping[str, Any]]] = {}
    own: set[str] = set()
    others: set[str] = set()
    columns = ("id", "source", "format", "file", "content_hash")
    for batch in batches_of(place.url, ORIGINS_NAME, columns):
        for row in batch.filter(pc.is_in(batch.column("id"), ids)).to_pylist():
            files.setdefault(row["file"], []).append(row)
        if whole:
            inside = pc.is_in(batch.column("source"), pa.array(sorted(whole), pa.string()))
            for mask, found in ((inside, own), (pc.invert(inside), others)):
                found.update(pc.unique(batch.filter(mask).column("file")).to_pylist())
    for row in _quarantined(place.url) if whole else ():
        (own if row["source"] in whole else others).add(row["file"])
    ends = own - others
    planned = [RawFile(url, "delete", files.get(url, ())) for url in ends]
    planned += [_planned(url, rows) for url, rows in files.items() if url not in ends]
    return sorted(planned, key=lambda file: file.url)


def _quarantined(url: str) -> Iterator[Mapping[str, Any]]:
    """The lines about records that were rejected, also of files of which nothing came."""
    where = storage.join(url, QUARANTINE_NAME)
    if storage.exists(where):
        yield from map(json.loads, storage.read_bytes(where).splitlines())


def _planned(url: str, rows: list[Mapping[str, Any]]) -> RawFile:
    formats = {row["format"] for row in rows}
    try:
        readers = [reader_of(name) for name in sorted(formats)]
    except CorpusError as error:
        return RawFile(url, "leave", rows, error.problems[0].what)
    if all(reader.single for reader in readers):
        return RawFile(url, "delete", rows)
    if all(reader.name == PARQUET or reader.filler is not None for reader in readers):
        return RawFile(url, "blank", rows)
    names = ", ".join(sorted(formats))
    return RawFile(
        url, "leave", rows, f"single documents cannot be blanked in this format: {names}"
    )


def purge_raw(files: Sequence[RawFile], corpus: Mapping[str, Any]) -> RawOutcome:
    """Carry a plan out; a file that cannot be changed is named, and the others are done.

    Args:
        files: see :func:`plan_raw`.
        corpus: ``corpus.json``, which has the recipe.
    """
    outcome = RawOutcome()
    for file in files:
        try:
            if file.action == "leave":
                outcome.left.append(Left(file.url, len(file.rows), file.why, _BY_HAND))
            elif not storage.exists(file.url):
                what, remedy = "there is no such file", "If it was moved, clean it where it is now"
                outcome.left.append(Left(file.url, len(file.rows), what, remedy))
            elif file.action == "delete":
                _delete(file, outcome)
            else:
                _blank(file, corpus, outcome)
        except NotImplementedError:
            what, remedy = "files there cannot be changed", "Clean it where it comes from"
            outcome.left.append(Left(file.url, len(file.rows), what, remedy))
        except UserError as error:
            problem = error.problems[0]
            what = f"{problem.what}: {problem.value}" if problem.value else problem.what
            remedy = "Let it be written, and clean it by hand"
            outcome.left.append(Left(file.url, len(file.rows), what, remedy))
    return outcome


def _delete(file: RawFile, outcome: RawOutcome) -> None:
    names = 1
    if storage.is_local(file.url):
        path = storage.local_path(file.url)
        with translated(file.url, "delete it"):
            target = path.resolve()
            names = target.stat().st_nlink
            target.unlink()
            path.unlink(missing_ok=True)  # a link to it
    else:
        storage.delete(file.url)
    outcome.files += 1
    if names > 1:
        what = "it was deleted, but its bytes have another name (a hard link)"
        remedy = "Find it, for example in a backup of the folder, and delete it"
        outcome.left.append(Left(file.url, len(file.rows), what, remedy))


def _blank(file: RawFile, corpus: Mapping[str, Any], outcome: RawOutcome) -> None:
    """Blank the documents of a file that are still what was read."""
    found: dict[str, list[Record]] = {}
    changed: set[str] = set()
    settings: MediaSettings | None = None
    normalise = Normalise(_section(NormaliseSettings, corpus["recipe"].get("normalise", {})))
    for source in sorted({row["source"] for row in file.rows}):
        settings = _settings_of(corpus, source)
        wanted = {row["id"]: row["content_hash"] for row in file.rows if row["source"] == source}
        for id_, record in _records(file.url, source, settings, wanted):
            read = normalise(Document(id=id_, source=source, key=record.key, text=record.text,
                                      content_hash=""))  # fmt: skip
            if isinstance(read, Document) and read.content_hash == wanted[id_]:
                found.setdefault(id_, []).append(record)
            else:
                changed.add(id_)
    assert settings is not None, "a planned file has documents"
    records = [record for some in found.values() for record in some]
    formats = {row["format"] for row in file.rows}
    if records:
        if formats == {PARQUET}:
            blank_rows(file.url, [record.metadata["row"] for record in records])
        else:
            blank_records(file.url, settings, records)
    outcome.records += len(records)
    missing = {row["id"] for row in file.rows} - found.keys() - changed
    for ids, what in (
        (changed, "the text under a removed document's key is not what the build has read"),
        (missing, "documents are not in it any more"),
    ):
        if ids:
            remedy = "Look whether it holds other versions of them, and clean it by hand"
            outcome.left.append(Left(file.url, len(ids), what, remedy))


def _records(
    url: str, source: str, settings: MediaSettings, wanted: Collection[str]
) -> list[tuple[str, Record]]:
    """The records of a file that have the ids of documents.

    A key begins with the path of its file below the folder of its source, which is the end of the
    file's own path: which end it is shows when a key gives an id.
    """
    parts = PurePosixPath(url).parts
    ends = ["/".join(parts[-count:]) for count in range(1, len(parts) + 1)]
    found: list[tuple[str, Record]] = []
    for record in read_records(url, settings, key=""):
        if not isinstance(record, Record):
            continue
        for end in ends:
            id_ = document_id(source, end + record.key)
            if id_ in wanted:
                ends = [end]
                found.append((id_, record))
                break
    return found


def _settings_of(corpus: Mapping[str, Any], source: str) -> MediaSettings:
    """How the files of a source are read.

    Columns that may be missing, since the recipe did not name them, cannot be told from those that
    it named as they are by default: here they may be missing.
    """
    about = next(one for one in corpus["recipe"]["sources"] if one["id"] == source)
    own = {name: about[name] for name in MediaSettings.model_fields if name in about}
    defaults = Fields().model_dump(mode="json")
    fields = own.get("fields", {}).items()
    own["fields"] = {name: value for name, value in fields if value != defaults[name]}
    return _section(MediaSettings, own)


def _section(kind: type[AnySection], values: Mapping[str, Any]) -> AnySection:
    return kind.model_validate_json(json.dumps(values))
