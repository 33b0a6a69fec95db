"""First stage: the documents of a part under the keys of their bands, sorted by partition."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from headrace.corpus.duplicates.bands import band_keys, text_keys
from headrace.corpus.duplicates.layout import Layout, load_layout, write_array
from headrace.corpus.duplicates.signatures import SIGNATURE

ENTRY = np.dtype([("key", "<u8"), ("text", "<u8"), ("number", "<i8")])
"""``text`` is the half of the document's content hash: copies of a text stand together."""


def bucket(folder: Path, number: int) -> None:
    """Write what the next stages need of one part.

    ``bands-N.npy`` has its entries, sorted by partition, and ``bands-N-starts.npy`` where each
    partition begins; ``signatures-N.npy`` (``[rows, permutations]``) and ``hashes-N.npy`` (``[rows,
    2]``) can be read at any row.  A part whose files are there is left alone.
    """
    layout = load_layout(folder)
    done = layout.path("bands", number)
    if done.exists():
        return
    rows, hashes, signatures, signed = _read(layout, number)
    texts = hashes[rows, 0]
    numbers = rows + int(layout.firsts[number])
    keys, numbered = [text_keys(texts)], [np.arange(len(rows))]
    if signatures is not None:
        write_array(layout.path("signatures", number), signatures)
        banded = np.flatnonzero(signed[rows])
        keys.append(band_keys(signatures[rows[banded]], *layout.bands).ravel())
        numbered.append(np.repeat(banded, layout.bands[0]))
    write_array(layout.path("hashes", number), hashes)
    entries = np.empty(sum(map(len, keys)), ENTRY)
    entries["key"] = np.concatenate(keys)
    places = np.concatenate(numbered)
    entries["text"] = texts[places]
    entries["number"] = numbers[places]
    partition = partition_of(entries["key"], layout.partitions)
    order = np.argsort(partition, kind="stable")
    starts = np.searchsorted(partition[order], np.arange(layout.partitions + 1))
    write_array(layout.path("bands", number, "-starts.npy"), starts)
    write_array(done, entries[order])


def partition_of(keys: NDArray[np.uint64], partitions: int) -> NDArray[np.int64]:
    """The partition of each key; by their upper bits, as the lowest says what kind they are of."""
    return ((keys >> np.uint64(1)) % np.uint64(partitions)).astype(np.int64)


def _read(
    layout: Layout, number: int
) -> tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.uint32] | None, NDArray[np.bool_]]:
    """Rows that take part; of all rows the hashes, the signatures, and which have one."""
    near = layout.settings.near
    columns = ["outcome", "content_hash", *([SIGNATURE] if near is not None else [])]
    table = pq.read_table(layout.parts[number].file, columns=columns)
    count = len(table)
    kept = np.asarray(pc.fill_null(pc.equal(table["outcome"], "kept"), False))
    rows = np.flatnonzero(kept).astype(np.int64)
    hashes = np.zeros((count, 2), np.uint64)
    digits = "".join(table["content_hash"].filter(pa.array(kept)).to_pylist())
    hashes[rows] = np.frombuffer(bytes.fromhex(digits), ">u8").reshape(-1, 2)
    signed = np.zeros(count, np.bool_)
    if near is None:
        return rows, hashes, None, signed
    column: Any = table[SIGNATURE]
    signed = kept & np.asarray(pc.is_valid(column))
    signatures = np.zeros((count, near.permutations), np.uint32)
    values = b"".join(column.filter(pa.array(signed)).to_pylist())
    signatures[signed] = np.frombuffer(values, "<u4").reshape(-1, near.permutations)
    return rows, hashes, signatures, signed
