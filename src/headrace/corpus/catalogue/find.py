"""Finding documents: simple filters as a question to the catalogue, answers in four formats."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from headrace.corpus.languages.tags import canonical, variety_of

if TYPE_CHECKING:
    from headrace.corpus.catalogue.catalogue import Answer

COLUMNS = ("id", "variety", "source", "licence", "domain", "title", "characters")
"""What a table of documents shows unless other columns are asked for."""


@dataclass(frozen=True)
class Filters:
    """What documents have to be like; those of one kind are alternatives, the kinds add up."""

    where: str | None = None
    """A condition in SQL."""
    languages: Sequence[str] = ()
    """``pt`` finds pt-BR as well, ``pes`` and ``fa`` are one."""
    sources: Sequence[str] = ()
    licences: Sequence[str] = ()
    """``*`` stands for anything: ``CC-BY-*``."""
    domains: Sequence[str] = ()
    """``example.org`` finds ``news.example.org`` as well."""
    cluster: str | None = None

    def condition(self) -> tuple[str, list[str]]:
        """A condition in SQL, and the values of its ``?``."""
        parts, values = [], []
        varieties = [_variety(tag) for tag in self.languages]
        for alternatives, sql, times in (
            (varieties, "(lower(variety) = ? OR starts_with(lower(variety), ? || '-'))", 2),
            (self.sources, "source = ?", 1),
            (self.licences, "lower(licence) GLOB ?", 1),
            (self.domains, "(domain = ? OR ends_with(domain, '.' || ?))", 2),
        ):
            if alternatives:
                parts.append("(" + " OR ".join([sql] * len(alternatives)) + ")")
                for text in alternatives:
                    exact = alternatives is self.sources
                    values += [text if exact else _pattern(text.lower(), sql)] * times
        if self.cluster is not None:
            parts.append("cluster = ?")
            values.append(self.cluster)
        if self.where is not None:
            parts.append(f"({self.where}\n)")
        return " AND ".join(parts) or "true", values


def _variety(tag: str) -> str:
    """The tag as the index has it; what is none stays as it is, and finds nothing."""
    known = canonical(tag)
    return variety_of(known) if known else tag


def _pattern(text: str, sql: str) -> str:
    """For GLOB: only ``*`` has a meaning."""
    if "GLOB" not in sql:
        return text
    return "".join(f"[{letter}]" if letter in "?[" else letter for letter in text)


def question(filters: Filters, columns: Sequence[str], limit: int | None) -> tuple[str, list[str]]:
    """A question for the documents, in the order of the index, and the values of its ``?``.

    ``columns`` are names or expressions of SQL.
    """
    condition, values = filters.condition()
    sql = f"SELECT {', '.join(columns)} FROM documents WHERE {condition}"
    sql += " ORDER BY language, shard, position"
    return sql if limit is None else f"{sql} LIMIT {limit}", values


def json_lines(answer: Answer) -> Iterator[str]:
    """One JSON document, an array with a row a line."""
    between = "[\n"
    for batch in answer:
        for row in batch.to_pylist(maps_as_pydicts="lossy"):
            yield between + json.dumps(_plain(row), ensure_ascii=False)
            between = ",\n"
    yield "\n]\n" if between != "[\n" else "[]\n"


def csv_lines(answer: Answer) -> Iterator[str]:
    """CSV (RFC 4180) with a row of names; lists and maps as JSON."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(answer.schema.names)
    for batch in answer:
        for row in batch.to_pylist(maps_as_pydicts="lossy"):
            writer.writerow(_cell(value) for value in row.values())
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue()


def write_parquet(answer: Answer, file: Any) -> int:
    """Write a Parquet file with the rows, batch by batch; their number."""
    import pyarrow.parquet as pq

    rows = 0
    with pq.ParquetWriter(file, answer.schema) as writer:
        for batch in answer:
            writer.write_batch(batch)
            rows += batch.num_rows
    return rows


def text_rows(answer: Answer) -> list[list[str]]:
    """The rows as cells of text."""
    return [
        ["–" if value is None else _cell(value) for value in row.values()]
        for batch in answer
        for row in batch.to_pylist(maps_as_pydicts="lossy")
    ]


def names_of_numbers(schema: pa.Schema) -> set[str]:
    """The columns that hold numbers."""
    kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
    return {field.name for field in schema if any(kind(field.type) for kind in kinds)}


def _cell(value: Any) -> str:
    plain = _plain(value)
    if plain is None:
        return ""
    if isinstance(plain, (dict, list)):
        return json.dumps(plain, ensure_ascii=False)
    if isinstance(plain, float):
        return f"{plain:.6g}"
    return str(plain)


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, Decimal):
        value = int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return str(value)
