"""Writing the kept documents of a language: which shard gets which, and one shard."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from headrace.corpus.building.outcomes import DOCUMENT_COLUMNS
from headrace.corpus.building.part_work import part_path
from headrace.corpus.building.settle import kept_path
from headrace.corpus.catalogue.schema import WRITTEN_SCHEMA
from headrace.shards import storage
from headrace.shards.open_shard import OpenShard, shard_name
from headrace.shards.sample import Sample

SHARD = "shard"
"""First part of the names of shards."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Kept documents of one language in one part."""

    part: int
    first: int
    """The first of them, counted among the kept documents of that language in the part."""
    count: int


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """What goes into a shard."""

    language: str
    number: int
    pieces: tuple[Piece, ...]

    @property
    def name(self) -> str:
        """Of the tar."""
        return shard_name(SHARD, self.number)


def plan_shards(counts: Sequence[dict[str, int]], samples_per_shard: int) -> list[ShardPlan]:
    """Deal the kept documents out to shards.

    Args:
        counts: kept documents by language, of each part in order.
        samples_per_shard: of every shard but the last of a language.

    Returns:
        Shards by language and number; every document is in exactly one, in the order of the parts.
    """
    plans: list[ShardPlan] = []
    for language in sorted({language for part in counts for language in part}):
        pieces: list[Piece] = []
        room = samples_per_shard
        number = 0
        for part, by_language in enumerate(counts):
            first, left = 0, by_language.get(language, 0)
            while left:
                taken = min(room, left)
                pieces.append(Piece(part, first, taken))
                first, left, room = first + taken, left - taken, room - taken
                if room == 0:
                    plans.append(ShardPlan(language, number, tuple(pieces)))
                    number, room = number + 1, samples_per_shard
                    pieces = []
        if pieces:
            plans.append(ShardPlan(language, number, tuple(pieces)))
    return plans


def index_path(folder: Path, plan: ShardPlan) -> Path:
    """The rows of a shard for the index."""
    return folder / "index" / f"{plan.language}-{plan.number:06d}.parquet"


def write_shard(folder: Path, output: Path, originals: bool, plan: ShardPlan) -> dict[str, Any]:
    """Write a shard, its index and its rows of the corpus's index; the line of the ledger.

    The tar is put in its place last but for the line: whoever does it again writes the same bytes.

    Args:
        folder: of what lies between the stages.
        output: of the corpus.
        originals: whether samples have the field ``orig``.
        plan: of the shard.
    """
    columns = ["id", "text", "json", *(["original"] if originals else [])]
    url = storage.join(str(output), plan.language, plan.name)
    rows: list[pa.Table] = []
    shard = OpenShard(url)
    try:
        position = 0
        for piece in plan.pieces:
            for table in _documents(folder, plan.language, piece, columns):
                for key, *contents in zip(
                    *(table[name].to_pylist() for name in columns), strict=True
                ):
                    # all samples of a source have the same fields
                    fields = zip(("txt", "json", "orig"), contents, strict=False)
                    shard.add(Sample(key, {name: data or b"" for name, data in fields}))
                rows.append(_index_rows(table, plan.name, position))
                position += len(table)
        with storage.open_atomically(str(index_path(folder, plan))) as file:
            pq.write_table(pa.concat_tables(rows), file, compression="zstd")
        entry = shard.commit()
    except BaseException:
        shard.discard()
        raise
    return {"language": plan.language, "number": plan.number, "entry": asdict(entry)}


def _documents(
    folder: Path, language: str, piece: Piece, columns: Sequence[str]
) -> Iterator[pa.Table]:
    """Rows of a piece, by row group of its part; ``cluster`` is what the search has found."""
    name = f"{piece.part:06d}"
    kept = pq.read_table(kept_path(folder, name), filters=[("language", "=", language)])
    kept = kept.slice(piece.first, piece.count)
    rows = np.asarray(kept["row"])
    with pq.ParquetFile(part_path(folder, name)) as parquet:
        start = 0
        for group in range(parquet.num_row_groups):
            end = start + parquet.metadata.row_group(group).num_rows
            low, high = np.searchsorted(rows, [start, end])
            if low < high:
                chosen = list(dict.fromkeys([*DOCUMENT_COLUMNS, *columns]))
                table = parquet.read_row_group(group, columns=chosen)
                table = table.take(pa.array(rows[low:high] - start))
                for name in ("cluster", "cluster_kind"):
                    found = kept[name].slice(low, high - low)
                    table = table.set_column(table.schema.get_field_index(name), name, found)
                yield table
            start = end


def _index_rows(table: pa.Table, shard: str, first: int) -> pa.Table:
    count = len(table)
    columns = [table[name] for name in DOCUMENT_COLUMNS]
    columns += [pa.array([shard] * count), pa.array(range(first, first + count), pa.int64())]
    return pa.table(columns, schema=WRITTEN_SCHEMA)
