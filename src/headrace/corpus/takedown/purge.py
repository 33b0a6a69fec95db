"""Removes what a corpus and its caches still hold of removed documents, beside the shards."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from headrace.corpus.catalogue.schema import FILTERED_NAME, INDEX_NAME, QUARANTINE_NAME
from headrace.corpus.documents import document_id
from headrace.errors import CorpusError, Problem
from headrace.shards import storage
from headrace.shards.cache import ShardCache
from headrace.shards.manifest import read_manifest
from headrace.shards.reader import ShardReader

BUILD_NAME = ".build"
_LINES = frozenset({"text", "jsonl", "csv"})
"""Formats whose records are lines: a blank one is passed over."""
_ROWS = 65_536


def purge_tables(url: str, ids: Collection[str], sources: Collection[str]) -> dict[str, int]:
    """Drop the rows of removed documents from the tables of a corpus; how many from each.

    Args:
        url: folder of the corpus.
        ids: of the documents.
        sources: ids of sources that are removed as a whole, for what was never given an id.
    """
    dropped = {name: _purge_parquet(url, name, ids) for name in (INDEX_NAME, FILTERED_NAME)}
    where = storage.join(url, QUARANTINE_NAME)
    if storage.exists(where):
        lines = storage.read_bytes(where).splitlines(keepends=True)
        kept = [line for line in lines if not _is_of(json.loads(line), ids, sources)]
        dropped[QUARANTINE_NAME] = len(lines) - len(kept)
        if len(kept) != len(lines):
            storage.write_atomically(where, b"".join(kept))
    return {name: count for name, count in dropped.items() if count}


def renumber_index(url: str, folders: Mapping[str, str]) -> None:
    """Give the rows of the index the shards and positions that compacted sources have now.

    Args:
        url: folder of the corpus.
        folders: language -> URL of each of its sources.

    Raises :class:`CorpusError` if a document of the index is in no shard.
    """
    where = storage.join(url, INDEX_NAME)
    places: dict[str, tuple[str, int]] = {}
    for source in folders.values():
        reader = ShardReader(source)
        for shard, entry in enumerate(reader.manifest.shards):
            for position, key in enumerate(reader.keys(shard)):
                places[key] = (entry.name, position)
    with storage.open_for_reading(where) as file, pq.ParquetFile(file) as table:
        schema = table.schema_arrow
        with storage.open_atomically(where) as target, pq.ParquetWriter(target, schema) as writer:
            for batch in table.iter_batches(_ROWS):
                names = batch.column("id").to_pylist()
                missing = [name for name in names if name not in places]
                if missing:
                    what = "a document of the index is in no shard"
                    raise CorpusError(Problem(what, where, missing[0], "Build the corpus again"))
                rows = pa.Table.from_batches([batch])
                for place, column in enumerate(("shard", "position")):
                    values = pa.array(
                        [places[name][place] for name in names], schema.field(column).type
                    )
                    rows = rows.set_column(
                        schema.get_field_index(column), schema.field(column), values
                    )
                writer.write_table(rows)


def purge_build(url: str) -> bool:
    """Delete the intermediate files of the build, which have texts; whether there were any."""
    if not storage.is_local(url):
        from headrace.shards.filesystems import filesystem_of

        filesystem, path = filesystem_of(storage.join(url, BUILD_NAME))
        if filesystem.exists(path):
            filesystem.rm(path, recursive=True)
            return True
        return False
    folder = storage.local_path(storage.join(url, BUILD_NAME))
    if folder.is_dir():
        shutil.rmtree(folder)
        return True
    return False


def purge_shard_cache(url: str, cache: ShardCache) -> tuple[int, int]:
    """Delete the copies of shards as they were before they were overwritten.

    Returns:
        How many were deleted, and how many are in use and go later.
    """
    manifest = read_manifest(url)
    takedown = manifest.takedown
    results: list[bool | None] = []
    for entry in manifest.shards if takedown else ():
        overwritten = takedown.shards.get(entry.name) if takedown else None
        for former in overwritten.former if overwritten else ():
            results.append(cache.drop(url, replace(entry, hash=former)))
    return results.count(True), results.count(False)


def purge_raw(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Delete or blank the raw input of removed documents, as far as that can be done.

    A file that is one document is deleted.  A document that is a line of a plain local file becomes
    a line of spaces, so that what lies behind it keeps its place.

    Args:
        rows: ``file``, ``offset``, ``length`` and ``format`` of each document, as the index has
            them.

    Returns:
        ``files`` deleted, ``records`` blanked, and ``left``: files that have to be cleaned by hand.
    """
    deleted, blanked = 0, 0
    left: set[str] = set()
    lines: dict[str, list[tuple[int, int]]] = {}
    for row in rows:
        file, offset, length = row["file"], row["offset"], row["length"]
        if not file:
            continue
        if not storage.is_local(file):
            left.add(file)
        elif offset is None:
            path = storage.local_path(file)
            if path.is_file():
                path.unlink()
                deleted += 1
        elif row["format"] in _LINES and length and not _is_packed(file):
            lines.setdefault(file, []).append((offset, length))
        else:
            left.add(file)
    for file, places in lines.items():
        done = _blank(storage.local_path(file), places)
        blanked += done
        if done < len(places):
            left.add(file)
    return {"files": deleted, "records": blanked, "left": sorted(left)}


def _is_packed(file: str) -> bool:
    return file.lower().endswith((".gz", ".zst", ".bz2", ".xz", ".zip"))


def _blank(path: Path, places: Sequence[tuple[int, int]]) -> int:
    """Write spaces over lines of a file; how many, none of what is no whole line."""
    if not path.is_file():
        return 0
    size, done = path.stat().st_size, 0
    patches: list[tuple[int, int]] = []
    with path.open("rb") as file:
        for offset, length in sorted(places):
            file.seek(max(0, offset - 1))
            before = file.read(1) if offset else b"\n"
            file.seek(offset + length)
            after = file.read(1)
            file.seek(offset)
            last = file.read(length)[-1:]
            ends = after in (b"", b"\r", b"\n") or last == b"\n"
            if offset + length <= size and before == b"\n" and ends:
                patches.append((offset, length))
                done += 1
    if patches:
        with path.open("rb") as source, storage.open_atomically(str(path)) as target:
            shutil.copyfileobj(source, target, storage.PIECE_BYTES)
            for offset, length in patches:
                source.seek(offset)
                target.seek(offset)
                kept = bytes(byte if byte in b"\r\n" else 32 for byte in source.read(length))
                target.write(kept)
            target.seek(0, os.SEEK_END)
    return done


def _purge_parquet(url: str, name: str, ids: Collection[str]) -> int:
    where = storage.join(url, name)
    if not ids or not storage.exists(where):
        return 0
    wanted = pa.array(sorted(ids), pa.string())
    with storage.open_for_reading(where) as file, pq.ParquetFile(file) as table:
        found = sum(
            pc.sum(pc.is_in(batch.column("id"), wanted)).as_py() or 0
            for batch in table.iter_batches(_ROWS, columns=["id"])
        )
        if not found:
            return 0
        with (
            storage.open_atomically(where) as target,
            pq.ParquetWriter(target, table.schema_arrow) as writer,
        ):
            for batch in table.iter_batches(_ROWS):
                kept = batch.filter(pc.invert(pc.is_in(batch.column("id"), wanted)))
                writer.write_batch(kept)
    return int(found)


def _is_of(line: Mapping[str, Any], ids: Collection[str], sources: Collection[str]) -> bool:
    source, key = str(line.get("source")), str(line.get("key"))
    return source in sources or document_id(source, key) in ids
