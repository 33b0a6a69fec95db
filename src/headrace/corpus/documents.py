"""What a document is on its way from a file to a shard: read, examined, and kept or not.

Every record of every file ends as exactly one of three things, and the counts of a build add up:
a :class:`Document` that is written, a :class:`Filtered` one that a rule of the recipe leaves out,
or a :class:`Reject` that could not be used and goes into quarantine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Literal

import xxhash

RejectReason = Literal[
    "unreadable",
    "encrypted",
    "encoding",
    "empty",
    "too large",
    "time limit",
    "memory limit",
    "crashed",
    "changed while read",
    "not supported",
    "repeated key",
    "private information",
]
"""Why a record went into quarantine.  A reason never holds text of the document."""


@dataclass(frozen=True, slots=True)
class Record:
    """One document as a reader finds it."""

    key: str
    """Names it in its source, the same in every version: the path of its file below the source's
    folder and, where a file holds several, ``#`` and an id or number."""
    text: str
    """As it was read: not normalised, and with all its private information."""
    url: str | None = None
    """Where it came from, if the file says so."""
    language: str | None = None
    """BCP-47 tag that the file declares for it."""
    licence: str | None = None
    """Licence that the document itself names: an SPDX expression, a name or a URL."""
    title: str | None = None
    collected_at: str | None = None
    """ISO 8601 date or time, if the file says so."""
    format: str = "text"
    """Name of the reader."""
    encoding: str | None = None
    """Of the file's text, as it was declared or detected; None where the format has none."""
    offset: int | None = None
    """Byte of the (decompressed) file where the record begins; None: it is the whole file."""
    length: int | None = None
    """Its bytes there."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """What else the file says: JSON values, kept with the document under their names."""
    original: bytes | None = field(default=None, repr=False)
    """The bytes that it was read from, where these are neither the file nor the range of it that
    ``offset`` and ``length`` name."""


@dataclass(frozen=True, slots=True)
class Reject:
    """A record that cannot be used; it goes into quarantine and the build goes on."""

    key: str
    """As of a :class:`Record`; the path of the file where not even that is known."""
    reason: RejectReason
    detail: str = ""
    """More about it, for whoever looks into it; never text of the document."""
    offset: int | None = None


@dataclass(frozen=True, slots=True)
class Filtered:
    """A document that a rule of the recipe leaves out."""

    document: Document
    rule: str
    """The rule, as the report counts it: ``licence``, ``exact duplicate``, ``quality:words``."""
    detail: str = ""
    """The value that decided, never text of the document."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A document with all that is known about it; each step returns one with more of it."""

    id: str
    """:func:`document_id`: 32 hexadecimal digits, also the key of its sample."""
    source: str
    """Id of its source in the recipe, which holds its governance metadata."""
    key: str
    text: str
    """NFC; without private information once that step has been taken."""
    content_hash: str
    """:func:`content_hash` of the text as it came out of the normalisation."""
    url: str | None = None
    title: str | None = None
    collected_at: str | None = None
    format: str = "text"
    encoding: str | None = None
    file: str = ""
    """URL of its file."""
    offset: int | None = None
    length: int | None = None
    language: str = "und"
    """Code of the language under which it is written, without script and region; ``und``."""
    variety: str | None = None
    """BCP-47 tag with script, region and variant as far as they are known."""
    language_score: float | None = None
    """Confidence of the detection, 0 to 1."""
    language_method: str = "none"
    """What decided: ``declared``, or the name of the detector."""
    detected_language: str | None = None
    declared_language: str | None = None
    languages: Mapping[str, float] = field(default_factory=dict)
    """Shares of the text by language where it is in several; empty otherwise."""
    script: str | None = None
    """ISO 15924 code of most of its letters."""
    register: Mapping[str, Any] = field(default_factory=dict)
    """Simple measures of style, see docs/corpus.md."""
    licence: str = "LicenseRef-unknown"
    """SPDX expression."""
    licence_evidence: str | None = None
    """Where that comes from: ``source``, ``document``, or what was found in it."""
    private: tuple[Mapping[str, Any], ...] = ()
    """What was taken out: type, start, end, detector, validator, score, action of each span."""
    private_counts: Mapping[str, int] = field(default_factory=dict)
    """Findings by type."""
    subject_keys: tuple[str, ...] = ()
    """Keyed hashes by which a person's documents are found."""
    quality: Mapping[str, float] = field(default_factory=dict)
    """Measures by name."""
    cluster: str | None = None
    """Id of the (near-)duplicate cluster it belongs to: the id of the first document of it."""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def tag(self) -> str:
        """All that is known of its language, in one BCP-47 tag."""
        return self.variety or self.language


def document_id(source: str, key: str) -> str:
    """The id of a document: blake2b-128 of its source's id and its key, 32 hexadecimal digits.

    It depends on where a document comes from and not on what it says, so that a new version of the
    document takes the place of the old one.
    """
    digest = blake2b(digest_size=16, person=b"headrace-doc")
    for part in (source, key):
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def content_hash(text: str) -> str:
    """xxh3-128 of a text, 32 hexadecimal digits; give it the normalised text."""
    return xxhash.xxh3_128_hexdigest(text.encode("utf-8", "surrogatepass"))
