"""One document of a corpus: what is known about it, its text, and the cluster that it is in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from headrace.corpus.catalogue.catalogue import Catalogue
from headrace.errors import CorpusError, Problem
from headrace.shards import ShardReader, storage

SHORTEST_PREFIX = 6
"""Digits of an id that may stand for the whole."""
LARGEST_CLUSTER = 20
"""Members of a cluster that are listed."""


@dataclass(frozen=True)
class Shown:
    """A document of a corpus."""

    row: Mapping[str, Any]
    """Its row of the index."""
    text: str
    spans: Sequence[Mapping[str, Any]]
    """What was taken out: type, start, end (code points of the text) and more of each."""
    metadata: Mapping[str, Any]
    """What its sample says beside the columns of the index."""
    place: str
    """Shard and position."""
    cluster: Sequence[Mapping[str, Any]]
    """The other members of its cluster: id, source, key, and the rule that left one out."""
    cluster_size: int
    """Of all its members, this one as well."""
    original: bytes | None = field(default=None, repr=False)
    """What it was read from; None: that is not kept."""

    def marked(self) -> str:
        """The text with each span as ``[its text TYPE]``."""
        parts, end = [], 0
        for span in sorted(self.spans, key=lambda span: int(span["start"])):
            start, stop = int(span["start"]), int(span["end"])
            if start < end or stop > len(self.text):
                continue
            parts += [self.text[end:start], f"[{self.text[start:stop]} {span['type']}]"]
            end = stop
        return "".join([*parts, self.text[end:]])

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            **self.row,
            "place": self.place,
            "text": self.text,
            "spans": list(self.spans),
            "metadata": dict(self.metadata),
            "cluster_size": self.cluster_size,
            "cluster_members": list(self.cluster),
        }


def show(catalogue: Catalogue, ids: Sequence[str]) -> list[Shown]:
    """The documents with these ids, or with ids that begin so, in the order asked for.

    Raises :class:`CorpusError` with every id that is not there, stands for several documents, was
    left out or removed, and :class:`ShardError` if a text cannot be read.
    """
    problems: list[Problem] = []
    rows = []
    for text in ids:
        row = _row(catalogue, text, problems)
        if row is not None:
            rows.append(row)
    if problems:
        raise CorpusError(problems)
    readers: dict[str, ShardReader] = {}
    try:
        return [_shown(catalogue, row, readers) for row in rows]
    finally:
        for reader in readers.values():
            reader.close()


def _row(catalogue: Catalogue, text: str, problems: list[Problem]) -> dict[str, Any] | None:
    prefix = text.lower()
    remedy = "Find documents with: headrace find CORPUS"
    if len(prefix) < SHORTEST_PREFIX:
        what = f"an id has 32 digits, of which at least {SHORTEST_PREFIX} are needed"
        problems.append(Problem(what, "ID", text, remedy))
        return None
    removed = [one for one in catalogue.removed if one.startswith(prefix)]
    answer = catalogue.ask(
        "SELECT * FROM documents WHERE starts_with(id, ?) LIMIT 2", [prefix], where="ID"
    )
    found: list[dict[str, Any]] = [
        row for batch in answer for row in batch.to_pylist(maps_as_pydicts="lossy")
    ]
    if len(found) + len(removed) > 1:
        problems.append(Problem("several documents have ids that begin so", "ID", text, remedy))
    elif removed:
        problems.append(Problem("the document has been removed", "ID", text))
    elif not found:
        rules = catalogue.rows("SELECT rule FROM filtered WHERE starts_with(id, ?)", [prefix])
        what = f"a rule has left it out: {rules[0][0]}" if rules else "no document has this id"
        problems.append(Problem(what, "ID", text, remedy))
    else:
        return found[0]
    return None


def _shown(catalogue: Catalogue, row: dict[str, Any], readers: dict[str, ShardReader]) -> Shown:
    folder = catalogue.folders.get(row["language"], row["language"])
    if folder not in readers:
        url = storage.join(catalogue.url, folder)
        readers[folder] = ShardReader(url, require_all=False)
    reader = readers[folder]
    names = [entry.name for entry in reader.manifest.shards]
    place = f"{storage.join(reader.url, row['shard'])}, sample {row['position']:,}"
    stale = "Make the index again, or restore the shards: they do not fit each other"
    if row["shard"] not in names:
        raise CorpusError(Problem("the manifest does not have its shard", place, None, stale))
    shard = reader.shard(names.index(row["shard"]))
    if row["position"] >= len(shard):
        raise CorpusError(Problem("the shard has fewer samples", place, str(len(shard)), stale))
    sample = shard[row["position"]]
    if sample.key != row["id"]:
        what = "another document lies there"
        raise CorpusError(Problem(what, place, sample.key, stale))
    metadata = sample.metadata
    size, members = _cluster(catalogue, row)
    return Shown(
        row=row,
        text=sample.text,
        spans=metadata.get("private") or (),
        metadata={k: v for k, v in metadata.items() if k not in row and k != "private"},
        place=place,
        cluster=members,
        cluster_size=size,
        original=sample.fields["orig"] if row["original_bytes"] is not None else None,
    )


def _cluster(catalogue: Catalogue, row: Mapping[str, Any]) -> tuple[int, list[dict[str, Any]]]:
    """How many documents its cluster has, and some of the others."""
    if row["cluster"] is None:
        return 1, []
    members = """
        (SELECT id, source, key, NULL AS rule FROM documents WHERE cluster = $1
         UNION ALL BY NAME SELECT id, source, key, rule FROM filtered WHERE cluster = $1)
    """
    size = catalogue.one(f"SELECT count(*) FROM {members}", [row["cluster"]])
    others = catalogue.rows(
        f"SELECT id, source, key, rule FROM {members} WHERE id <> $2 ORDER BY id "
        f"LIMIT {LARGEST_CLUSTER}",
        [row["cluster"], row["id"]],
    )
    names = ("id", "source", "key", "rule")
    return int(size), [dict(zip(names, other, strict=True)) for other in others]
