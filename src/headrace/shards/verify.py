"""Reads every byte of a source and lists all that is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from typing import IO, Any

import xxhash
from tqdm import tqdm

from headrace.errors import Problem, ShardError
from headrace.shards import storage
from headrace.shards.adopt import shared_keys
from headrace.shards.index import BLOCK_BYTES, ShardIndex, index_url, read_index
from headrace.shards.manifest import Manifest, ShardEntry, read_manifest
from headrace.shards.reader import missing_files
from headrace.shards.sample import Sample
from headrace.shards.scan import scan_tar
from headrace.shards.shard import check_index
from headrace.shards.tars import FETCH_AGAIN, check_block

_CHECKED_FIELDS = ("txt", "json")


@dataclass(frozen=True)
class Verification:
    """The outcome for one source."""

    url: str
    fingerprint: str | None
    """Of the manifest; None if it cannot be read."""
    shards: int
    samples: int
    bytes_read: int
    problems: tuple[Problem, ...]

    def to_json(self) -> dict[str, Any]:
        """The outcome as a JSON object; ``ok`` is true if there is no problem."""
        document = {**vars(self), "problems": [vars(problem) for problem in self.problems]}
        return {"ok": not self.problems, **document}


def verify_source(url: str) -> Verification:
    """Check manifest, indexes, the hash of every block and tar, the tar structure and the fields.

    Nothing is raised for what is wrong with the source: all of it is in ``problems``.
    """
    try:
        manifest = read_manifest(url)
    except ShardError as error:
        return Verification(url, None, 0, 0, 0, error.problems)
    problems = missing_files(url, manifest.shards)
    names = storage.list_files(url) if storage.can_list(url) else _listed(url, manifest)
    problems += _stray_tars(url, manifest, names)
    owners: dict[str, str] = {}
    bytes_read = 0
    total = sum(entry.bytes for entry in manifest.shards)
    with tqdm(desc="verify", total=total, unit="B", unit_scale=True, disable=None) as bar:
        for entry in manifest.shards:
            # What is missing or has another size is in the list already.
            if names.get(entry.name) == entry.bytes:
                problems += _verify_shard(url, entry, index_url(entry.name) in names, owners)
                bytes_read += entry.bytes
            bar.update(entry.bytes)
    return Verification(
        url,
        manifest.fingerprint,
        len(manifest.shards),
        manifest.samples,
        bytes_read,
        tuple(problems),
    )


def _listed(url: str, manifest: Manifest) -> dict[str, int]:
    tars = [entry.name for entry in manifest.shards]
    return storage.sizes(url, [*tars, *(index_url(name) for name in tars)])


def _stray_tars(url: str, manifest: Manifest, names: Mapping[str, int]) -> list[Problem]:
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


def _verify_shard(
    url: str, entry: ShardEntry, has_index: bool, owners: dict[str, str]
) -> list[Problem]:
    tar_url = storage.join(url, entry.name)
    problems: list[Problem] = []
    index: ShardIndex | None = None
    try:
        if has_index:
            index = read_index(tar_url)
            check_index(index, entry, index_url(tar_url))
        with storage.open_local(tar_url) as file:
            problems += _corrupt_blocks(file, entry, index)
            if not problems:
                problems += _wrong_structure(file, entry, index, owners)
    except ShardError as error:
        problems += error.problems
    return problems


def _corrupt_blocks(file: IO[bytes], entry: ShardEntry, index: ShardIndex | None) -> list[Problem]:
    """Every block whose hash is not that of the index; the whole tar against the manifest."""
    problems: list[Problem] = []
    whole = xxhash.xxh3_128()
    for block in count():
        data = file.read(BLOCK_BYTES)
        if not data:
            break
        whole.update(data)
        if index is not None:
            try:
                check_block(data, block, int(index.block_hashes[block]), entry)
            except ShardError as error:
                problems += error.problems
    if not problems and whole.hexdigest() != entry.hash:
        problems.append(
            Problem(
                "the tar is not the one that the manifest names",
                f"shard {entry.name} offset 0",
                f"xxh3 {whole.hexdigest()}, the manifest says {entry.hash}",
                FETCH_AGAIN,
            )
        )
    return problems


def _wrong_structure(
    file: IO[bytes], entry: ShardEntry, index: ShardIndex | None, owners: dict[str, str]
) -> list[Problem]:
    """The index against a fresh scan; keys that are not unique; fields that cannot be read."""
    file.seek(0)
    scanned = scan_tar(file, entry.name)
    problems = shared_keys(entry.name, scanned, owners)
    if index is not None and scanned.to_bytes() != index.to_bytes():
        problems.append(
            Problem(
                "the index does not fit the tar",
                f"shard {entry.name}",
                None,
                "Make it again: headrace index URL --rebuild",
            )
        )
    names, fields = scanned.field_names, scanned.member_fields.tolist()
    begins, sizes = scanned.member_offsets.tolist(), scanned.member_sizes.tolist()
    starts, keys = scanned.member_starts.tolist(), scanned.keys
    for number in range(len(scanned)):
        for member in range(starts[number], starts[number + 1]):
            name = names[fields[member]]
            if name in _CHECKED_FIELDS:
                file.seek(begins[member])
                sample = Sample(keys[number], {name: file.read(sizes[member])})
                problems += _wrong_field(sample, name, entry, begins[member])
    return problems


def _wrong_field(sample: Sample, name: str, entry: ShardEntry, offset: int) -> list[Problem]:
    try:
        _ = sample.text if name == "txt" else sample.metadata
    except ShardError as error:
        where = f"shard {entry.name} offset {offset}"
        return [
            Problem(f"{problem.what} ({problem.where})", where, problem.value, problem.remedy)
            for problem in error.problems
        ]
    return []
