"""Records whose source has another one of the same key: the first one counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from headrace.corpus.building.outcomes import FILTERED, KEPT, OUTCOME_SCHEMA, REJECTED
from headrace.corpus.documents import RejectReason
from headrace.errors import MissingExtraError
from headrace.file_hash import hash_of
from headrace.shards import storage

REASON: RejectReason = "repeated key"
_STAYS = ("source", "key", "file", "offset")
"""Columns of a row that is rejected, beside its outcome, rule and detail."""


def find_repeated(files: Sequence[Path], folder: Path) -> dict[int, list[int]]:
    """Rows of documents whose id an earlier row has, by number of the part.

    Args:
        files: tables of the parts, in order.
        folder: for what does not fit into memory.
    """
    try:
        import duckdb
    except ImportError as error:
        raise MissingExtraError("duckdb", "corpus", "building a corpus") from error
    names = [str(file) for file in files]
    query = """
        with rows as (
            select id, list_position($files, filename) - 1 as part, file_row_number as row
            from read_parquet($files, filename = true, file_row_number = true)
            where id is not null
        ), first as (
            select id, min((part, row)) as place from rows group by id having count(*) > 1
        )
        select part, row from rows join first using (id)
        where (part, row) != place order by part, row
    """
    with duckdb.connect(config={"threads": 1, "temp_directory": str(folder)}) as connection:
        found = connection.execute(query, {"files": names}).fetchall()
    repeated: dict[int, list[int]] = {}
    for part, row in found:
        repeated.setdefault(part, []).append(row)
    return repeated


def reject_rows(file: Path, rows: Sequence[int]) -> dict[str, Any]:
    """Write the table of a part again, with these rows rejected and without what they had.

    Returns:
        What is different in the part's line of the ledger.
    """
    chosen = np.asarray(rows)
    outcomes: Counter[str] = Counter()
    with (
        pq.ParquetFile(file) as parquet,
        storage.open_atomically(str(file)) as output,
        pq.ParquetWriter(output, OUTCOME_SCHEMA, compression="zstd") as writer,
    ):
        start = 0
        for group in range(parquet.num_row_groups):
            table = parquet.read_row_group(group)
            low, high = np.searchsorted(chosen, [start, start + len(table)])
            table = _rejected(table, (chosen[low:high] - start).tolist()) if low < high else table
            writer.write_table(table)
            outcomes.update(table["outcome"].to_pylist())
            start += len(table)
    counts = {outcome: outcomes[outcome] for outcome in (KEPT, FILTERED, REJECTED)}
    return {**counts, "bytes": file.stat().st_size, "hash": hash_of(file)}


def _rejected(table: pa.Table, rows: Sequence[int]) -> pa.Table:
    known = table.to_pylist()
    for row in rows:
        old = known[row]
        known[row] = {
            "outcome": REJECTED,
            "rule": REASON,
            "detail": "an earlier record of the source has it",
            **{name: old[name] for name in _STAYS},
        }
    return pa.Table.from_pylist(known, OUTCOME_SCHEMA)
