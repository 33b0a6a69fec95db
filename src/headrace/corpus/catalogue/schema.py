"""The columns of the tables of a corpus: what it holds, and what was left out of it.

``index.parquet`` has a row for each document that was written, ``filtered.parquet`` one for each
that a rule left out; neither has its text.  ``origins.parquet`` has what of both is not for
publication, and is needed to take documents down.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa

from headrace.corpus.documents import Document

INDEX_NAME = "index.parquet"
FILTERED_NAME = "filtered.parquet"
ORIGINS_NAME = "origins.parquet"
QUARANTINE_NAME = "quarantine.jsonl"
CORPUS_NAME = "corpus.json"
GOVERNANCE = ("custodian", "region", "jurisdiction", "consent_basis")
"""Columns that are not of the document but of its source."""

_DOCUMENT = [
    pa.field("id", pa.string(), nullable=False),
    pa.field("source", pa.string(), nullable=False),
    pa.field("custodian", pa.string()),
    pa.field("region", pa.string()),
    pa.field("jurisdiction", pa.string()),
    pa.field("consent_basis", pa.string()),
    pa.field("key", pa.string(), nullable=False),
    pa.field("url", pa.string()),
    pa.field("domain", pa.string()),
    pa.field("file", pa.string()),
    pa.field("offset", pa.int64()),
    pa.field("length", pa.int64()),
    pa.field("format", pa.string()),
    pa.field("encoding", pa.string()),
    pa.field("title", pa.string()),
    pa.field("collected_at", pa.string()),
    pa.field("language", pa.string()),
    pa.field("variety", pa.string()),
    pa.field("language_score", pa.float64()),
    pa.field("language_method", pa.string()),
    pa.field("detected_language", pa.string()),
    pa.field("declared_language", pa.string()),
    pa.field("languages", pa.map_(pa.string(), pa.float64())),
    pa.field("script", pa.string()),
    pa.field("register", pa.map_(pa.string(), pa.string())),
    pa.field("licence", pa.string()),
    pa.field("licence_evidence", pa.string()),
    pa.field("content_hash", pa.string()),
    pa.field("characters", pa.int64()),
    pa.field("bytes", pa.int64()),
    pa.field("words", pa.int64()),
    pa.field("original_bytes", pa.int64()),
    pa.field("quality", pa.map_(pa.string(), pa.float64())),
    pa.field("private", pa.map_(pa.string(), pa.int64())),
    pa.field("subject_keys", pa.list_(pa.string())),
    pa.field("cluster", pa.string()),
    pa.field("cluster_kind", pa.string()),
]
ORIGIN_COLUMNS = ("file", "content_hash", "subject_keys")
"""Of a document, but not for publication: paths of this machine; the hash of a text with its
private information, by which guesses could be tested; keyed hashes that say which documents one
person is in."""
_PUBLIC = [field for field in _DOCUMENT if field.name not in ORIGIN_COLUMNS]
_OF_ORIGIN = ("id", "source", "format", *ORIGIN_COLUMNS)
ORIGINS_SCHEMA = pa.schema([field for field in _DOCUMENT if field.name in _OF_ORIGIN])
"""Rows are those of the index and then those of the filtered documents."""
_PLACE = [
    pa.field("shard", pa.string(), nullable=False),
    pa.field("position", pa.int64(), nullable=False),
]
_RULE = [pa.field("rule", pa.string(), nullable=False), pa.field("detail", pa.string())]

WRITTEN_SCHEMA = pa.schema([*_DOCUMENT, *_PLACE])
"""All that a build knows of a document that it has written."""
LEFT_OUT_SCHEMA = pa.schema([*_DOCUMENT, *_RULE])
"""All that a build knows of a document that a rule has left out."""
INDEX_SCHEMA = pa.schema([*_PUBLIC, *_PLACE])
"""``shard`` is the name of the tar in the folder of the row's language, ``position`` the number of
the sample in it, from 0 on; ``original_bytes`` is null where no original is kept,
``cluster_kind`` is ``exact``, ``near`` or ``semantic``.  Rows are sorted by language, shard and
position."""
FILTERED_SCHEMA = pa.schema([*_PUBLIC, *_RULE])
"""Rows are in the order of the sources and their files.  What the steps behind the rule would have
found is null or empty."""


def document_row(document: Document, governance: Mapping[str, str | None]) -> dict[str, Any]:
    """The columns that both tables have, and those of their origins.

    Args:
        document: with its text, which is counted and not kept.  Its original and the kind of its
            cluster are not known here.
        governance: the values of :data:`GOVERNANCE` of its source.
    """
    text = document.text
    words = document.quality.get("words")
    return {
        "id": document.id,
        "source": document.source,
        **{name: governance.get(name) for name in GOVERNANCE},
        "key": document.key,
        "url": document.url,
        "domain": domain_of(document.url),
        "file": document.file,
        "offset": document.offset,
        "length": document.length,
        "format": document.format,
        "encoding": document.encoding,
        "title": document.title,
        "collected_at": document.collected_at,
        "language": document.language,
        "variety": document.tag,
        "language_score": document.language_score,
        "language_method": document.language_method,
        "detected_language": document.detected_language,
        "declared_language": document.declared_language,
        "languages": sorted(document.languages.items()),
        "script": document.script,
        "register": sorted((name, str(value)) for name, value in document.register.items()),
        "licence": document.licence,
        "licence_evidence": document.licence_evidence,
        "content_hash": document.content_hash,
        "characters": len(text),
        "bytes": len(text.encode("utf-8", "surrogatepass")),
        "words": None if words is None else round(words),
        "original_bytes": None,
        "quality": sorted(document.quality.items()),
        "private": sorted(document.private_counts.items()),
        "subject_keys": list(document.subject_keys),
        "cluster": document.cluster,
        "cluster_kind": None,
    }


def domain_of(url: str | None) -> str | None:
    """The host of a URL in lower case, without user, port and a leading ``www.``; None without."""
    if url is None:
        return None
    try:
        host = urlsplit(url).hostname
    except ValueError:
        return None
    return host.rstrip(".").removeprefix("www.") or None if host else None
