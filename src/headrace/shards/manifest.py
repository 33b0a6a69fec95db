"""``manifest.json``: the ordered list of the shards of a source, with counts and hashes.

It is written last, so that a folder with a manifest is a finished source.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import xxhash

from headrace.errors import Problem, ShardError
from headrace.shards import storage
from headrace.shards.filesystems import NO_SUCH_FILE
from headrace.shards.retry import DEFAULT_RETRY, RetryPolicy

MANIFEST_NAME = "manifest.json"
FORMAT_VERSION = 1
_KEYS = {"version", "fingerprint", "parent", "samples", "shards", "metadata"}
TAKEDOWN = "takedown"
"""Key of the metadata under which stands what was removed; it is of one source alone."""
_HASH = re.compile(r"[0-9a-f]{32}")
_REBUILD = "Build the source again, or make a manifest with: headrace index URL"


@dataclass(frozen=True)
class ShardEntry:
    """One shard as the manifest pins it."""

    name: str
    """File name in the source's folder, with ``.tar``."""
    samples: int
    bytes: int
    """Size of the tar."""
    hash: str
    """xxh3-128 of the tar's bytes, 32 hexadecimal digits."""


@dataclass(frozen=True)
class Overwritten:
    """A shard whose removed samples were overwritten, at the same length."""

    epoch: int
    """Tombstones up to this epoch are overwritten."""
    former: tuple[str, ...]
    """Hashes that the tar had before, oldest first."""


@dataclass(frozen=True)
class Takedown:
    """What was removed from a source since it was built: the ``takedown`` part of the metadata."""

    epoch: int
    """Files ``tombstones/000001.json`` up to this number belong to the source."""
    origin: str
    """Fingerprint of the manifest before anything was overwritten."""
    fingerprint: str
    """Fingerprint of the manifest that this is part of."""
    shards: Mapping[str, Overwritten] = field(default_factory=dict)
    """By file name."""

    def as_json(self) -> dict[str, Any]:
        """For the metadata of a manifest."""
        shards = {
            name: {"epoch": shard.epoch, "former": list(shard.former)}
            for name, shard in self.shards.items()
        }
        return {**vars(self), "shards": shards}


@dataclass(frozen=True)
class Manifest:
    """The shards of a source in their order, and what is known about them."""

    version: int
    """Version of the manifest's format."""
    shards: tuple[ShardEntry, ...]
    parent: str | None = None
    """Fingerprint of the manifest this one was made from, if any."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Free JSON: language, counts, input hashes."""

    @cached_property
    def samples(self) -> int:
        """Number of samples in all shards."""
        return sum(shard.samples for shard in self.shards)

    @cached_property
    def fingerprint(self) -> str:
        """xxh3-128 (hex) over names, counts, sizes and hashes in order; metadata has no part."""
        rows = [[shard.name, shard.samples, shard.bytes, shard.hash] for shard in self.shards]
        return xxhash.xxh3_128_hexdigest(json.dumps(rows).encode())

    @cached_property
    def takedown(self) -> Takedown | None:
        """What was removed from the source; None: nothing ever was.

        Raises :class:`ShardError` if the entry is damaged, or the shards are others than those
        that documents were removed from: it would not be known which are to be left out.
        """
        found = self.metadata.get(TAKEDOWN)
        if found is None:
            return None
        takedown = _takedown(found)
        if takedown is None:
            what = "what the manifest says of removed documents is damaged"
            raise ShardError(Problem(what, MANIFEST_NAME, repr(found)[:80], _REBUILD))
        if takedown.fingerprint != self.fingerprint:
            raise ShardError(
                Problem(
                    "the shards are not those that documents were removed from",
                    MANIFEST_NAME,
                    f"{self.fingerprint}, {takedown.fingerprint} then",
                    "Bring the shards back, or build the source again without the documents",
                )
            )
        return takedown

    @property
    def identity(self) -> str:
        """The fingerprint that the source had before removed samples were overwritten.

        It names the source as a stream sees it: the same samples at the same positions.
        """
        return self.fingerprint if self.takedown is None else self.takedown.origin

    def with_takedown(self, shards: Iterable[ShardEntry], takedown: Takedown) -> Manifest:
        """The manifest after a removal: the same shards, some of them with other bytes.

        The fingerprint in ``takedown`` is set here.
        """
        others = tuple(shards)
        fingerprint = replace(self, shards=others, metadata={}).fingerprint
        entry = replace(takedown, fingerprint=fingerprint).as_json()
        return replace(self, shards=others, metadata={**self.metadata, TAKEDOWN: entry})


def write_manifest(url: str, manifest: Manifest) -> None:
    """Write ``manifest.json`` into the folder ``url`` atomically."""
    document: dict[str, Any] = {
        "version": manifest.version,
        "fingerprint": manifest.fingerprint,
        "parent": manifest.parent,
        "samples": manifest.samples,
        "shards": [vars(shard) for shard in manifest.shards],
        "metadata": dict(manifest.metadata),
    }
    document["digest"] = _digest(document)
    text = json.dumps(document, ensure_ascii=False, indent=1) + "\n"
    storage.write_atomically(storage.join(url, MANIFEST_NAME), text.encode("utf-8"))


def read_manifest(url: str, retry: RetryPolicy = DEFAULT_RETRY) -> Manifest:
    """Read and check the manifest of the folder ``url``.

    Raises :class:`ShardError` with every problem: none there, not JSON, another version, an entry
    that is not well formed, a shard named twice, a fingerprint that does not fit the entries, a
    digest (which manifests of older versions lack) that does not fit the rest.
    """
    where = storage.join(url, MANIFEST_NAME)
    try:
        return storage.read_parsed(where, lambda data: _parsed(data, where), retry)
    except ShardError as error:
        if error.problems[0].what == NO_SUCH_FILE:
            raise ShardError(_absent(url, where)) from error
        raise


def _parsed(data: bytes, where: str) -> Manifest:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ShardError(Problem("not JSON", where, str(error), _REBUILD)) from error
    if not isinstance(document, dict):
        raise ShardError(Problem("not a JSON object", where, type(document).__name__, _REBUILD))
    if document.get("version") != FORMAT_VERSION:
        raise ShardError(
            Problem(
                f"the manifest's version is not {FORMAT_VERSION}",
                where,
                repr(document.get("version")),
                "Use the version of Headrace that wrote it, or build the source again",
            )
        )
    problems: list[Problem] = []
    entries = _entries(document.get("shards"), where, problems)
    metadata, parent = document.get("metadata", {}), document.get("parent")
    if not isinstance(metadata, dict):
        problems.append(Problem("metadata is not an object", where, repr(metadata)[:80], _REBUILD))
    if parent is not None and not isinstance(parent, str):
        problems.append(Problem("parent is not a string", where, repr(parent)[:80], _REBUILD))
    if problems:
        raise ShardError(problems)
    manifest = Manifest(FORMAT_VERSION, tuple(entries), parent, metadata)
    changed = "the file was changed by hand, or damaged"
    if document.get("fingerprint") != manifest.fingerprint:
        found = repr(document.get("fingerprint"))
        what = f"the fingerprint does not fit the list of shards: {changed}"
        raise ShardError(Problem(what, where, found, _REBUILD))
    digest = document.pop("digest", None)
    if document.keys() != _KEYS or (digest is not None and digest != _digest(document)):
        what = f"the digest does not fit the content: {changed}"
        raise ShardError(Problem(what, where, repr(digest)[:80], _REBUILD))
    return manifest


def _digest(document: Mapping[str, Any]) -> str:
    """xxh3-128 (hex) over a whole document without its digest, written in one way."""
    text = json.dumps(document, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return xxhash.xxh3_128_hexdigest(text.encode())


def _entries(value: Any, where: str, problems: list[Problem]) -> list[ShardEntry]:
    if not isinstance(value, list) or not value:
        problems.append(Problem("the list of shards is empty", where, remedy=_REBUILD))
        return []
    entries: list[ShardEntry] = []
    names: set[str] = set()
    for number, row in enumerate(value):
        place = f"{where}: shards.{number}"
        entry = _entry(row)
        if entry is None:
            problems.append(Problem("not a shard entry", place, repr(row)[:120], _REBUILD))
        elif entry.name in names:
            problems.append(Problem("a shard is listed twice", place, entry.name, _REBUILD))
        elif entry.samples == 0:
            problems.append(Problem("a shard is empty", place, entry.name, _REBUILD))
        else:
            names.add(entry.name)
            entries.append(entry)
    return entries


def _entry(row: Any) -> ShardEntry | None:
    """The entry of a JSON object, or None if a value is missing or out of range.

    A name must be a plain file name: a manifest from elsewhere must not point out of its folder.
    """
    if not isinstance(row, dict) or set(row) != {"name", "samples", "bytes", "hash"}:
        return None
    name, samples, size, digest = row["name"], row["samples"], row["bytes"], row["hash"]
    plain = isinstance(name, str) and name.endswith(".tar") and "/" not in name and "\\" not in name
    counts = all(type(count) is int and count >= 0 for count in (samples, size))
    if not (plain and counts and isinstance(digest, str) and _HASH.fullmatch(digest)):
        return None
    return ShardEntry(name, samples, size, digest)


def _takedown(found: Any) -> Takedown | None:
    """The entry of the metadata; None if it is not well formed."""
    try:
        shards = {
            str(name): Overwritten(int(shard["epoch"]), tuple(map(str, shard["former"])))
            for name, shard in found["shards"].items()
        }
        epoch, origin, fingerprint = found["epoch"], found["origin"], found["fingerprint"]
    except (TypeError, KeyError, ValueError, AttributeError):
        return None
    sound = type(epoch) is int and epoch >= 1
    if not (sound and _HASH.fullmatch(str(origin)) and _HASH.fullmatch(str(fingerprint))):
        return None
    return Takedown(epoch, origin, fingerprint, shards)


def _absent(url: str, where: str) -> Problem:
    from headrace.shards.ledger import LEDGER_NAME

    names = storage.list_files(url)
    if LEDGER_NAME in names:
        what, remedy = "a build was interrupted here", "Run the same build again: it goes on"
    elif any(name.endswith(".tar") for name in names):
        what, remedy = "tars without a manifest", f"Run: headrace index {url}"
    else:
        what, remedy = "no manifest", "Check the path, or build the source: headrace build --help"
    return Problem(what, where, remedy=remedy)
