"""Makes indexes and a manifest for tars that something else wrote."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from tqdm import tqdm

from headrace.errors import Problem, ShardError
from headrace.shards import storage
from headrace.shards.index import ShardIndex, build_index, index_url, read_index
from headrace.shards.ledger import LEDGER_NAME
from headrace.shards.manifest import (
    FORMAT_VERSION,
    MANIFEST_NAME,
    Manifest,
    ShardEntry,
    read_manifest,
    write_manifest,
)
from headrace.shards.parallel import in_processes, workers_for
from headrace.shards.tombstones import broken_off


def index_source(
    url: str,
    *,
    rebuild: bool = False,
    metadata: Mapping[str, Any] | None = None,
    workers: int | None = 1,
) -> Manifest:
    """Index the tars in a folder, in the order of their names, and write its manifest.

    Where the folder has a manifest, only missing indexes are made, each must fit what the
    manifest says of its shard, and it must name all tars; ``rebuild`` trusts the tars instead,
    makes every index anew and replaces the manifest, whose metadata is kept and whose fingerprint
    becomes the parent.
    ``workers`` processes scan side by side; None: as many as the data is worth.

    Raises :class:`ShardError` with the problems of all tars; the manifest is written only if
    there are none.
    """
    names = storage.list_files(url)
    if not names and not storage.exists(url):
        raise ShardError(
            Problem("no such folder", url, None, "Give the folder that holds *.tar files")
        )
    if LEDGER_NAME in names:
        raise ShardError(
            Problem("a build was interrupted here", url, None, "Run the same build again")
        )
    if interrupted := broken_off(url):
        raise ShardError(interrupted)
    before = read_manifest(url) if MANIFEST_NAME in names else None
    tars = [name for name in names if name.endswith(".tar")]
    if before is not None and not rebuild:
        tars = [entry.name for entry in before.shards]
    if not tars:
        raise ShardError(
            Problem("no tars in this folder", url, None, "Give the folder that holds *.tar files")
        )
    problems: list[Problem] = []
    if before is not None and not rebuild:
        problems += stray_tars(url, before, names)
    entries: list[ShardEntry] = []
    owners: dict[str, str] = {}
    calls = [
        partial(_index, url, name, fresh=rebuild or index_url(name) not in names) for name in tars
    ]
    if workers is None:
        workers = workers_for(sum(names.get(name, 0) for name in tars))
    with tqdm(desc="index", total=len(tars), unit=" shards", disable=None) as bar:
        found = in_processes(calls, workers, lambda _: bar.update())
    for name, index in zip(tars, found, strict=True):
        if not isinstance(index, ShardIndex):
            problems += index
            continue
        entries.append(ShardEntry(name, len(index), index.tar_bytes, index.tar_hash))
        problems += shared_keys(name, index, owners)
    if before is not None and not rebuild and not problems:
        problems = _differences(before, entries)
    if problems:
        raise ShardError(problems)
    if before is not None and not rebuild:
        return before
    manifest = Manifest(
        FORMAT_VERSION,
        tuple(entries),
        before.fingerprint if before else None,
        {**(before.metadata if before else {}), **(metadata or {})},
    )
    write_manifest(url, manifest)
    return manifest


def _index(url: str, name: str, *, fresh: bool) -> ShardIndex | list[Problem]:
    tar_url = storage.join(url, name)
    try:
        if not fresh:
            index = read_index(tar_url)
            if storage.size_of(tar_url) == index.tar_bytes:
                return index
        return build_index(tar_url)
    except ShardError as error:
        return list(error.problems)


def shared_keys(name: str, index: ShardIndex, owners: dict[str, str]) -> list[Problem]:
    """Problems of keys that another shard has too, at most three for each shard."""
    problems: list[Problem] = []
    for position, key in enumerate(index.keys):
        owner = owners.setdefault(key, name)
        if owner != name and len(problems) < 3:
            problems.append(
                Problem(
                    f"the key is in shard {owner} too",
                    f"shard {name} offset {int(index.sample_offsets[position])}",
                    key,
                    "Write the tars again with keys that are unique in the whole source",
                )
            )
    return problems


def stray_tars(url: str, manifest: Manifest, names: Mapping[str, int]) -> list[Problem]:
    """Problems of tars in the folder (sizes by name) that are no part of its source."""
    listed = {entry.name for entry in manifest.shards}
    return [
        Problem(
            "a tar that the manifest does not name",
            f"shard {name}",
            storage.join(url, name),
            f"Move it away, or take it in with: headrace index {url} --rebuild",
        )
        for name in names
        if name.endswith(".tar") and name not in listed
    ]


def _differences(manifest: Manifest, entries: list[ShardEntry]) -> list[Problem]:
    return [
        Problem(
            "the tar is not the one that the manifest names",
            f"shard {wanted.name}",
            f"xxh3 {found.hash}, the manifest says {wanted.hash}",
            "Copy the shard again, or trust the tars with --rebuild",
        )
        for wanted, found in zip(manifest.shards, entries, strict=True)
        if wanted != found
    ]
