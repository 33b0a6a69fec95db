"""What becomes of the records of a part, once it is known which documents are duplicates."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from headrace.corpus.building.outcomes import DOCUMENT_COLUMNS, FILTERED, KEPT, REJECTED
from headrace.corpus.building.part_work import part_path
from headrace.corpus.catalogue.schema import LEFT_OUT_SCHEMA
from headrace.corpus.duplicates.decide import Decision, read_decisions
from headrace.shards import storage

_KEPT_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("language", pa.string(), nullable=False),
        pa.field("cluster", pa.string()),
        pa.field("cluster_kind", pa.string()),
    ]
)


def kept_path(folder: Path, name: str) -> Path:
    """Which rows of a part are written, under which language."""
    return folder / "settled" / f"{name}.kept.parquet"


def filtered_path(folder: Path, name: str) -> Path:
    """The rows of a part that rules have left out, as they are in the corpus."""
    return folder / "settled" / f"{name}.filtered.parquet"


def quarantine_path(folder: Path, name: str) -> Path:
    """The rejected records of a part, as lines."""
    return folder / "settled" / f"{name}.quarantine.jsonl"


def settle_part(folder: Path, duplicates: Path | None, number: int) -> dict[str, Any]:
    """Write which rows of a part are kept, and what is said of the others.

    Args:
        folder: of what lies between the stages.
        duplicates: folder of the search for duplicates, if there was one.
        number: of the part.

    Returns:
        Counts: ``languages`` (kept documents by language), ``filtered`` (by rule), ``rejected``
        (by reason).
    """
    name = f"{number:06d}"
    done = folder / "settled" / f"{name}.json"
    if done.exists():
        return dict(json.loads(done.read_bytes()))
    decisions = read_decisions(duplicates, number) if duplicates is not None else {}
    table = pq.read_table(
        part_path(folder, name), columns=["outcome", "rule", "detail", *DOCUMENT_COLUMNS]
    )
    outcomes = table["outcome"].to_pylist()
    languages = table["language"].to_pylist()
    kept: list[dict[str, Any]] = []
    left_out: list[int] = []
    rejected: list[int] = []
    for row, outcome in enumerate(outcomes):
        decision = decisions.get(row)
        if outcome == REJECTED:
            rejected.append(row)
        elif outcome == FILTERED or (decision is not None and decision.rule is not None):
            left_out.append(row)
        else:
            found = {"row": row, "language": languages[row]}
            if decision is not None:
                found |= {"cluster": decision.cluster, "cluster_kind": decision.kind}
            kept.append(found)
    filtered = _filtered(table, left_out, decisions)
    lines = _quarantine(table.take(pa.array(rejected, pa.int64())))
    _write(kept_path(folder, name), pa.Table.from_pylist(kept, _KEPT_SCHEMA))
    _write(filtered_path(folder, name), filtered)
    storage.write_atomically(str(quarantine_path(folder, name)), "".join(lines).encode())
    counts = {
        "languages": Counter(one["language"] for one in kept),
        "filtered": Counter(filtered["rule"].to_pylist()),
        "rejected": Counter(table["rule"].take(pa.array(rejected, pa.int64())).to_pylist()),
    }
    storage.write_atomically(str(done), json.dumps(counts).encode())
    return dict(json.loads(json.dumps(counts)))


def _filtered(table: pa.Table, rows: list[int], decisions: dict[int, Decision]) -> pa.Table:
    """The rows as the table of filtered documents has them; a duplicate names what is kept."""
    taken = table.take(pa.array(rows, pa.int64()))
    names = ("rule", "detail", "cluster", "cluster_kind")
    rules, details, clusters, kinds = (taken[name].to_pylist() for name in names)
    outcomes = taken["outcome"].to_pylist()
    for place, row in enumerate(rows):
        decision = decisions.get(row)
        if outcomes[place] == KEPT and decision is not None:
            rules[place], details[place] = decision.rule, decision.kept
            clusters[place], kinds[place] = decision.cluster, decision.kind
    replaced = dict(zip(names, (rules, details, clusters, kinds), strict=True))
    columns = [
        pa.array(replaced[field.name], field.type) if field.name in replaced else taken[field.name]
        for field in LEFT_OUT_SCHEMA
    ]
    return pa.table(columns, schema=LEFT_OUT_SCHEMA)


def _quarantine(table: pa.Table) -> list[str]:
    names = {"key": "key", "source": "source", "file": "file", "offset": "offset"}
    chosen = table.select([*names, "rule", "detail"]).rename_columns([*names, "reason", "detail"])
    return [json.dumps(row, ensure_ascii=False) + "\n" for row in chosen.to_pylist()]


def _write(path: Path, table: pa.Table) -> None:
    with storage.open_atomically(str(path)) as file:
        pq.write_table(table, file, compression="zstd")
