"""The last stage: manifests, tables and quarantine of the whole corpus, and whether all adds up."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from headrace.corpus.building.shard_work import SHARD
from headrace.corpus.catalogue.schema import (
    FILTERED_NAME,
    FILTERED_SCHEMA,
    INDEX_NAME,
    INDEX_SCHEMA,
    LEFT_OUT_SCHEMA,
    ORIGINS_NAME,
    ORIGINS_SCHEMA,
    QUARANTINE_NAME,
    WRITTEN_SCHEMA,
)
from headrace.errors import HeadraceError
from headrace.shards import storage
from headrace.shards.manifest import FORMAT_VERSION, Manifest, ShardEntry, write_manifest

PACKAGES = (
    "headrace", "pyarrow", "xxhash", "regex", "langcodes", "py3langid", "lingua-language-detector",
    "rensa", "phonenumbers", "python-stdnum", "license-expression", "trafilatura", "resiliparse",
    "selectolax", "pypdfium2", "python-docx", "fastwarc", "fasttext-predict", "ftfy", "pytesseract",
)  # fmt: skip
"""On whose versions the content of a corpus may depend."""
_OF_ENCODERS = ("torch", "transformers", "tokenizers", "faiss-cpu", "faiss-gpu")


class CountError(HeadraceError):
    """What was read is not what was written, filtered and quarantined: a fault of the build."""


def package_versions(encoder: bool = False) -> dict[str, str]:
    """Versions of those of :data:`PACKAGES` that are installed, and of what an encoder needs."""
    found = {}
    for name in (*PACKAGES, *(_OF_ENCODERS if encoder else ())):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def write_manifests(
    output: Path, shards: Sequence[Mapping[str, Any]], about: Mapping[str, Any]
) -> dict[str, Manifest]:
    """Write the manifest of each language, and return them.

    Args:
        output: folder of the corpus.
        shards: lines of the ledger.
        about: goes into the metadata of all of them.
    """
    manifests = {}
    for language in sorted({shard["language"] for shard in shards}):
        own = [shard for shard in shards if shard["language"] == language]
        own.sort(key=lambda shard: int(shard["number"]))
        assert [shard["number"] for shard in own] == list(range(len(own))), "a shard is missing"
        entries = tuple(ShardEntry(**shard["entry"]) for shard in own)
        metadata = {**about, "language": language, "name": SHARD}
        manifests[language] = Manifest(FORMAT_VERSION, entries, None, metadata)
        write_manifest(str(output / language), manifests[language])
    return manifests


def join_tables(output: Path, index: Iterable[Path], filtered: Iterable[Path]) -> None:
    """Write the tables from the pieces of all shards and parts: index, filtered, origins of both.

    Args:
        output: folder of the corpus.
        index: pieces with the columns of :data:`WRITTEN_SCHEMA`.
        filtered: pieces with those of :data:`LEFT_OUT_SCHEMA`.
    """
    with _table(output / ORIGINS_NAME, ORIGINS_SCHEMA) as origins:
        for name, schema, files, whole in (
            (INDEX_NAME, INDEX_SCHEMA, index, WRITTEN_SCHEMA),
            (FILTERED_NAME, FILTERED_SCHEMA, filtered, LEFT_OUT_SCHEMA),
        ):
            with _table(output / name, schema) as table:
                for piece in files:
                    rows = pq.read_table(piece, schema=whole)
                    table.write_table(rows.select(schema.names))
                    origins.write_table(rows.select(ORIGINS_SCHEMA.names))


@contextmanager
def _table(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    with (
        storage.open_atomically(str(path)) as file,
        pq.ParquetWriter(file, schema, compression="zstd") as writer,
    ):
        yield writer


def join_quarantine(output: Path, files: Iterable[Path]) -> None:
    """Write ``quarantine.jsonl``: a line for each record that could not be used."""
    with storage.open_atomically(str(output / QUARANTINE_NAME)) as file:
        for piece in files:
            file.write(piece.read_bytes())


def count(output: Path, sources: Sequence[str], read: Mapping[str, int]) -> dict[str, Any]:
    """Counts by source, from what stands in the finished files.

    Args:
        output: folder of the corpus.
        sources: ids, in the recipe's order.
        read: records that readers found, by source.

    Returns:
        By source: ``read``, ``written``, ``filtered``, ``quarantined``, ``bytes`` (of text),
        ``rules`` (filtered by rule) and ``reasons`` (quarantined by reason).

    Raises:
        CountError: if they do not add up.
    """
    index = pq.read_table(output / INDEX_NAME, columns=["source", "bytes"])
    filtered = pq.read_table(output / FILTERED_NAME, columns=["source", "rule"])
    quarantined = _quarantined(output / QUARANTINE_NAME)
    written = Counter(index["source"].to_pylist())
    rules = Counter(zip(filtered["source"].to_pylist(), filtered["rule"].to_pylist(), strict=True))
    counts = {}
    for source in sources:
        own_rules = {rule: n for (name, rule), n in sorted(rules.items()) if name == source}
        reasons = {why: n for (name, why), n in sorted(quarantined.items()) if name == source}
        texts = index.filter(pc.equal(index["source"], source))["bytes"]
        counts[source] = {
            "read": read.get(source, 0),
            "written": written[source],
            "filtered": sum(own_rules.values()),
            "quarantined": sum(reasons.values()),
            "bytes": pc.sum(texts, min_count=0).as_py(),
            "rules": own_rules,
            "reasons": reasons,
        }
    wrong = [
        f"{source}: read {one['read']}, written {one['written']}, filtered {one['filtered']}, "
        f"quarantined {one['quarantined']}"
        for source, one in counts.items()
        if one["read"] != one["written"] + one["filtered"] + one["quarantined"]
    ]
    if wrong:
        raise CountError(f"the counts do not add up: {'; '.join(wrong)}")
    return counts


def language_counts(output: Path, manifests: Mapping[str, Manifest]) -> dict[str, Any]:
    """By language: folder, shards, documents, bytes of text, fingerprint.

    Raises:
        CountError: if the index does not have the documents that the manifests have.
    """
    index = pq.read_table(output / INDEX_NAME, columns=["language", "bytes"])
    counts = {}
    for language, manifest in manifests.items():
        texts = index.filter(pc.equal(index["language"], language))["bytes"]
        if len(texts) != manifest.samples:
            raise CountError(
                f"{language}: {manifest.samples} samples in shards, {len(texts)} in the index"
            )
        counts[language] = {
            "folder": language,
            "documents": manifest.samples,
            "bytes": pc.sum(texts, min_count=0).as_py(),
            "shards": len(manifest.shards),
            "fingerprint": manifest.fingerprint,
        }
    return counts


def varieties(output: Path) -> list[str]:
    """BCP-47 tags of what is written, sorted."""
    return sorted(
        pc.unique(pq.read_table(output / INDEX_NAME, columns=["variety"])["variety"]).to_pylist()
    )


def without_original(output: Path) -> Counter[str]:
    """Documents of which no original is kept, by source."""
    index = pq.read_table(output / INDEX_NAME, columns=["source", "original_bytes"])
    return Counter(index.filter(pc.is_null(index["original_bytes"]))["source"].to_pylist())


def private_counts(output: Path) -> dict[str, int]:
    """Private information that was found in what is written, by type."""
    column = pq.read_table(output / INDEX_NAME, columns=["private"])["private"]
    counts: Counter[str] = Counter()
    for chunk in column.chunks:
        for name, number in zip(chunk.keys.to_pylist(), chunk.items.to_pylist(), strict=True):
            counts[name] += number
    return dict(sorted(counts.items()))


def _quarantined(path: Path) -> Counter[tuple[str, str]]:
    counts: Counter[tuple[str, str]] = Counter()
    with path.open("rb") as file:
        for line in file:
            row = json.loads(line)
            counts[row["source"], row["reason"]] += 1
    return counts
