"""Reads every byte of a source and lists all that is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import IO, Any

from tqdm import tqdm

from headrace.errors import Problem, ShardError
from headrace.shards import storage
from headrace.shards.adopt import shared_keys, stray_tars
from headrace.shards.index import BLOCK_BYTES, BlockHasher, ShardIndex, index_url, read_index
from headrace.shards.manifest import Manifest, ShardEntry, read_manifest
from headrace.shards.parallel import in_processes, workers_for
from headrace.shards.reader import missing_files
from headrace.shards.sample import Sample
from headrace.shards.scan import scan_tar
from headrace.shards.shard import check_index
from headrace.shards.tars import FETCH_AGAIN, check_block
from headrace.shards.tombstones import broken_off, read_tombstones

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
    """Check manifest, tombstones, indexes, the hash of every block and tar, structure and fields.

    Nothing is raised for what is wrong with the source: all of it is in ``problems``.
    """
    (outcome,) = verify_sources([url], workers=1)
    return outcome


def verify_sources(urls: Sequence[str], workers: int | None = None) -> list[Verification]:
    """Verify several sources, shards side by side in ``workers`` processes.

    The outcomes do not depend on how many there are; None: as many as the data is worth, at most
    one for each core.
    """
    sources = [_open(url) for url in urls]
    calls = [
        partial(_verify_shard, source.url, entry, has_index)
        for source in sources
        for entry, has_index in source.whole
    ]
    sizes = [entry.bytes for source in sources for entry, _ in source.whole]
    if workers is None:
        workers = workers_for(sum(sizes))
    with tqdm(desc="verify", total=sum(sizes), unit="B", unit_scale=True, disable=None) as bar:
        found = iter(in_processes(calls, workers, lambda number: bar.update(sizes[number])))
    return [_outcome(source, [next(found) for _ in source.whole]) for source in sources]


@dataclass(frozen=True)
class _Opened:
    """A source before its shards are read."""

    url: str
    manifest: Manifest | None
    problems: list[Problem]
    whole: list[tuple[ShardEntry, bool]]
    """Shards whose size is right, and whether they have an index."""


def _open(url: str) -> _Opened:
    try:
        manifest = read_manifest(url)
        problems = [*broken_off(url), *missing_files(url, manifest.shards)]
        read_tombstones(url, manifest)
        names = storage.list_files(url) if storage.can_list(url) else _listed(url, manifest)
    except ShardError as error:
        return _Opened(url, None, list(error.problems), [])
    # What is missing or has another size is in the list already.
    whole = [
        (entry, index_url(entry.name) in names)
        for entry in manifest.shards
        if names.get(entry.name) == entry.bytes
    ]
    return _Opened(url, manifest, [*problems, *stray_tars(url, manifest, names)], whole)


def _outcome(source: _Opened, found: list[tuple[list[Problem], ShardIndex | None]]) -> Verification:
    if source.manifest is None:
        return Verification(source.url, None, 0, 0, 0, tuple(source.problems))
    problems = list(source.problems)
    owners: dict[str, str] = {}
    for (entry, _), (wrong, index) in zip(source.whole, found, strict=True):
        problems += wrong
        if index is not None:
            problems += shared_keys(entry.name, index, owners)
    return Verification(
        source.url,
        source.manifest.fingerprint,
        len(source.manifest.shards),
        source.manifest.samples,
        sum(entry.bytes for entry, _ in source.whole),
        tuple(problems),
    )


def _listed(url: str, manifest: Manifest) -> dict[str, int]:
    tars = [entry.name for entry in manifest.shards]
    return storage.sizes(url, [*tars, *(index_url(name) for name in tars)])


def _verify_shard(
    url: str, entry: ShardEntry, has_index: bool
) -> tuple[list[Problem], ShardIndex | None]:
    """What is wrong with one shard, and what a scan of its tar found."""
    tar_url = storage.join(url, entry.name)
    problems: list[Problem] = []
    index: ShardIndex | None = None
    scanned: ShardIndex | None = None
    try:
        if has_index:
            index = read_index(tar_url)
            check_index(index, entry, index_url(tar_url))
        with storage.open_local(tar_url) as file:
            hasher = BlockHasher()
            problems += _corrupt_blocks(file, entry, index, hasher)
            if not problems:
                scanned = scan_tar(file, entry.name, hasher)
                problems += _wrong_structure(file, entry, index, scanned)
    except ShardError as error:
        problems += error.problems
    return problems, scanned


def _corrupt_blocks(
    file: IO[bytes], entry: ShardEntry, index: ShardIndex | None, hasher: BlockHasher
) -> list[Problem]:
    """Every block whose hash is not that of the index; the whole tar against the manifest."""
    problems: list[Problem] = []
    for block in count():
        data = file.read(BLOCK_BYTES)
        if not data:
            break
        hasher.write(data)
        if index is not None:
            try:
                check_block(data, block, int(index.block_hashes[block]), entry)
            except ShardError as error:
                problems += error.problems
    if not problems and hasher.digest() != entry.hash:
        problems.append(
            Problem(
                "the tar is not the one that the manifest names",
                f"shard {entry.name} offset 0",
                f"xxh3 {hasher.digest()}, the manifest says {entry.hash}",
                FETCH_AGAIN,
            )
        )
    return problems


def _wrong_structure(
    file: IO[bytes], entry: ShardEntry, index: ShardIndex | None, scanned: ShardIndex
) -> list[Problem]:
    """The index against a fresh scan; fields that cannot be read."""
    problems: list[Problem] = []
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
