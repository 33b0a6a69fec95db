"""Tokens of the documents of a corpus, counted once for each tokenizer.

``tokens/`` of a corpus has a file for each shard and tokenizer with the counts that were made; a
takedown drops the rows of what it removes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from headrace.corpus.catalogue.catalogue import Catalogue
from headrace.errors import CorpusError, Problem
from headrace.shards import storage
from headrace.shards.reader import ShardReader
from headrace.shards.shard import Shard

FOLDER = "tokens"
_SCHEMA = pa.schema([pa.field("id", pa.string()), pa.field("tokens", pa.int64())])
_BATCH_BYTES = 4 << 20
"""Text that is encoded at once."""


@dataclass(frozen=True)
class TokenCounts:
    """Tokens of every document, and how they are known."""

    tokenizer: str
    """Its name on the hub, or that of its folder, without the place on this machine."""
    fingerprint: str
    """Of the tokenizer: 32 hexadecimal digits."""
    table: pa.Table
    """``id`` and ``tokens``; those of documents that were not counted are estimated."""
    counted: int
    """Documents that were counted."""
    sample: int | None
    """Documents of each language and source that were to be counted; None: all."""

    def to_json(self) -> dict[str, Any]:
        """For ``report.json``."""
        return {
            "tokenizer": self.tokenizer,
            "fingerprint": self.fingerprint,
            "documents": len(self.table),
            "counted": self.counted,
            "sample": self.sample,
        }


def count_tokens(catalogue: Catalogue, name: str, sample: int | None = None) -> TokenCounts:
    """Count the tokens of a corpus, special tokens left out; what was counted before is known.

    With ``sample`` so many documents of each language and source are counted, those with the
    smallest ids, which are hashes.  All others have the tokens per byte of the counted documents
    of their language and source, to whole tokens.

    Args:
        catalogue: of the corpus; the counts are written beside its tables.
        name: folder of a tokenizer, or its name on the hub.
        sample: documents of each language and source; None: all.

    Raises:
        EncodingError: if there is no such tokenizer.
        ShardError: if a shard cannot be read, or the counts cannot be written.
    """
    from headrace.encoding.tokenizer import load_tokenizer, tokenizer_fingerprint

    tokenizer = load_tokenizer(name)
    fingerprint = tokenizer_fingerprint(tokenizer)
    wanted = _wanted(catalogue, sample)
    known = _known(catalogue.url, fingerprint)
    _count_missing(catalogue, tokenizer.backend_tokenizer, fingerprint, wanted, known)
    chosen = [id_ for rows in wanted.values() for id_, _ in rows]
    counts = pa.table({"id": chosen, "tokens": [known[id_] for id_ in chosen]}, _SCHEMA)
    if Path(name).expanduser().is_dir():
        name = Path(name).expanduser().resolve().name
    return TokenCounts(name, fingerprint, _estimated(catalogue, counts), len(counts), sample)


_Places = Mapping[tuple[str, str], Sequence[tuple[str, int]]]
"""Language and shard -> ids of documents and their positions, in order."""


def _wanted(catalogue: Catalogue, sample: int | None) -> _Places:
    limit = "" if sample is None else f"QUALIFY {_RANK} <= {int(sample)}"
    rows = catalogue.rows(
        f"SELECT language, shard, id, position FROM documents {limit} "
        "ORDER BY language, shard, position"
    )
    places: dict[tuple[str, str], list[tuple[str, int]]] = defaultdict(list)
    for language, shard, id_, position in rows:
        places[language, shard].append((id_, position))
    return places


_RANK = "row_number() OVER (PARTITION BY language, source ORDER BY id)"


def _known(url: str, fingerprint: str) -> dict[str, int]:
    """Counts that were made before, by id."""
    known: dict[str, int] = {}
    folder = storage.join(url, FOLDER)
    for file in storage.list_files(folder, ".parquet"):
        if file.startswith(fingerprint):
            known |= _read(storage.join(folder, file))
    return known


def _read(url: str) -> dict[str, int]:
    try:
        with storage.open_for_reading(url) as file:
            table = pq.read_table(file, schema=_SCHEMA)
    except (pa.ArrowException, ValueError) as error:
        remedy = "Delete it: the tokens are counted again"
        raise CorpusError(Problem("damaged counts of tokens", url, str(error), remedy)) from error
    return dict(zip(table["id"].to_pylist(), table["tokens"].to_pylist(), strict=True))


def _count_missing(
    catalogue: Catalogue, backend: Any, fingerprint: str, wanted: _Places, known: dict[str, int]
) -> None:
    """Count what is not known yet, and write it, shard by shard."""
    missing = {
        place: [row for row in rows if row[0] not in known] for place, rows in wanted.items()
    }
    total = sum(map(len, missing.values()))
    readers: dict[str, ShardReader] = {}
    bar = tqdm(total=total, desc="count tokens", unit=" documents", disable=None if total else True)
    try:
        with bar:
            for (language, name), rows in missing.items():
                if not rows:
                    continue
                if language not in readers:
                    folder = storage.join(catalogue.url, catalogue.folders[language])
                    readers[language] = ShardReader(folder, require_all=False)
                made = dict(_counted(_shard(readers[language], name), backend, rows, bar))
                known |= made
                name = f"{fingerprint}-{language}-{name.removesuffix('.tar')}.parquet"
                where = storage.join(catalogue.url, FOLDER, name)
                before = _read(where) if storage.exists(where) else {}
                _write(where, before | made)
    finally:
        for reader in readers.values():
            reader.close()


def _write(url: str, counts: Mapping[str, int]) -> None:
    table = pa.table({"id": list(counts), "tokens": list(counts.values())}, _SCHEMA)
    with storage.open_atomically(url) as file:
        pq.write_table(table, file, compression="zstd")


_STALE = "Build the index again, or restore the shards: they do not fit each other"


def _shard(reader: ShardReader, name: str) -> Shard:
    names = [entry.name for entry in reader.manifest.shards]
    if name not in names:
        what = "the manifest does not have a shard of the index"
        raise CorpusError(Problem(what, reader.url, name, _STALE))
    return reader.shard(names.index(name))


def _counted(
    shard: Shard, backend: Any, rows: Sequence[tuple[str, int]], bar: tqdm[Any]
) -> Iterator[tuple[str, int]]:
    """Id and tokens of documents of a shard."""
    samples = np.array([position for _, position in rows], np.int64)
    if samples.max() >= len(shard) or shard.keys_of(samples) != [id_ for id_, _ in rows]:
        what = "the shard does not have the documents of the index"
        raise CorpusError(Problem(what, shard.name, remedy=_STALE))
    start = 0
    while start < len(rows):
        texts: list[str] = []
        size = 0
        while start + len(texts) < len(rows) and size < _BATCH_BYTES:
            place = start + len(texts)
            ((data,),) = shard.read_many(samples[place : place + 1], ["txt"])
            texts.append(data.decode("utf-8"))
            size += len(data)
        encoded = backend.encode_batch_fast(texts, add_special_tokens=False)
        for (id_, _), one in zip(rows[start : start + len(texts)], encoded, strict=True):
            yield id_, len(one)
        bar.update(len(texts))
        start += len(texts)


def _estimated(catalogue: Catalogue, counts: pa.Table) -> pa.Table:
    """``id`` and ``tokens`` of all documents."""
    return catalogue.table(
        """
        WITH rates AS (
            SELECT language, source, sum(tokens)::DOUBLE / greatest(sum(bytes), 1) AS rate
            FROM documents JOIN counts USING (id) GROUP BY ALL
        )
        SELECT documents.id AS id, coalesce(tokens, round(bytes * rate))::BIGINT AS tokens
        FROM documents JOIN rates USING (language, source) LEFT JOIN counts USING (id)
        ORDER BY id
        """,
        counts=counts,
    )
