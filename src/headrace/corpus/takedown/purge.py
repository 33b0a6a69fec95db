"""Removes what a corpus and its caches still hold of removed documents, beside the shards."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from headrace.corpus.catalogue.schema import (
    FILTERED_NAME,
    INDEX_NAME,
    ORIGINS_NAME,
    QUARANTINE_NAME,
)
from headrace.corpus.catalogue.tokens import FOLDER as TOKENS
from headrace.corpus.documents import document_id
from headrace.errors import CorpusError, Problem
from headrace.shards import storage
from headrace.shards.cache import ShardCache
from headrace.shards.manifest import read_manifest
from headrace.shards.reader import ShardReader

BUILD_NAME = ".build"
_ROWS = 65_536


def purge_tables(url: str, ids: Collection[str], sources: Collection[str]) -> dict[str, int]:
    """Drop the rows of removed documents from the tables of a corpus; how many from each.

    Args:
        url: folder of the corpus.
        ids: of the documents.
        sources: ids of sources that are removed as a whole, for what was never given an id.
    """
    # the origins last: until then the same command finds the documents again
    tables = (FILTERED_NAME, INDEX_NAME, ORIGINS_NAME)
    dropped = {name: _purge_parquet(url, name, ids) for name in tables}
    counts = storage.list_files(storage.join(url, TOKENS), ".parquet")
    dropped[TOKENS] = sum(_purge_parquet(url, f"{TOKENS}/{name}", ids) for name in counts)
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
        How many were deleted, and how many stay since they are in use.
    """
    takedown = read_manifest(url).takedown
    shards = takedown.shards.values() if takedown is not None else ()
    return cache.drop({former for shard in shards for former in shard.former})


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
