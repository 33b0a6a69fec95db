"""What a corpus holds, in numbers: the content of ``report.json``, and the facts of its card."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from headrace.corpus.catalogue.catalogue import Catalogue
from headrace.corpus.catalogue.distributions import quality_of, registers_of
from headrace.corpus.catalogue.speakers import Speakers, representation
from headrace.corpus.catalogue.tokens import TokenCounts
from headrace.corpus.languages.tags import UNDETERMINED, agree

FORMAT_VERSION = 1
SIZES = ("documents", "bytes", "characters", "words", "tokens")
_SUMS = (
    "count(*)::BIGINT AS documents, coalesce(sum(bytes), 0)::BIGINT AS bytes, "
    "coalesce(sum(characters), 0)::BIGINT AS characters, sum(words)::BIGINT AS words, "
    "sum(tokens)::BIGINT AS tokens"
)
_SIZED = "(SELECT documents.*, tokens FROM documents LEFT JOIN tokens USING (id))"
GROUPS = ("language", "variety", "region", "source", "licence", "register", "script", "format")
"""What documents are counted by: columns, and the tags that describe how a text is written."""
CELLS = ("language", "region", "source", "licence", "register")
"""What they are counted by at once."""
_REGISTER = "register['shape'] || coalesce(', ' || register['sentences'] || ' sentences', '')"
UNKNOWN = "unknown"
"""Stands for a value that is not known."""

_NO_TOKENS = pa.table({"id": pa.array([], pa.string()), "tokens": pa.array([], pa.int64())})

Row = dict[str, Any]


def summarise(
    catalogue: Catalogue, speakers: Speakers | None = None, tokens: TokenCounts | None = None
) -> dict[str, Any]:
    """The numbers of a corpus as JSON values; documents that have been removed do not count.

    Shares are from 0 to 1, entropies in bits.

    Args:
        catalogue: the corpus.
        speakers: languages and their speakers, to compare the shares of languages with.
        tokens: of all documents; without them the sizes have None in their place.
    """
    catalogue.add("tokens", _NO_TOKENS if tokens is None else tokens.table)
    by = {column: _sizes(catalogue, (column,)) for column in GROUPS}
    totals = _totals(catalogue)
    summary: dict[str, Any] = {
        "format": FORMAT_VERSION,
        "name": catalogue.name,
        "version": catalogue.corpus.get("version"),
        "tokens": None if tokens is None else tokens.to_json(),
        "totals": totals,
        "by": by,
        "cells": _sizes(catalogue, CELLS),
        "registers": registers_of(catalogue),
        "entropy": {name: entropy(by[name]) for name in ("language", "source", "region")},
        "removal": _removal(catalogue),
        "private": _private(catalogue),
        "duplicates": _duplicates(catalogue, totals),
        "identification": _identification(catalogue, totals),
        "quality": quality_of(catalogue),
        "quarantine": _named(
            catalogue,
            ("source", "reason", "documents"),
            f"SELECT coalesce(source, '{UNKNOWN}'), coalesce(reason, '{UNKNOWN}'), count(*) "
            "FROM quarantine GROUP BY ALL ORDER BY ALL",
        ),
    }
    if speakers is not None:
        summary["speakers"] = representation(by["variety"], speakers)
    return summary


def _named(catalogue: Catalogue, names: Sequence[str], sql: str) -> list[Row]:
    return [dict(zip(names, row, strict=True)) for row in catalogue.rows(sql)]


def _sizes(catalogue: Catalogue, columns: Sequence[str]) -> list[Row]:
    """Sizes by the values of some columns, most documents first.

    Words and tokens are None where those of none of the documents have been counted.
    """
    found = {column: _REGISTER if column == "register" else column for column in columns}
    values = ", ".join(f"coalesce({sql}, '{UNKNOWN}') AS {name}" for name, sql in found.items())
    names = ", ".join(columns)
    return _named(
        catalogue,
        (*columns, *SIZES),
        f"SELECT {names}, {_SUMS} FROM "
        f"(SELECT {values}, bytes, characters, words, tokens FROM {_SIZED}) "
        f"GROUP BY {names} ORDER BY documents DESC, {names}",
    )


def _totals(catalogue: Catalogue) -> Row:
    """Sizes of all, and what became of the records that were read.

    A takedown deletes the rows of what it removes: what the build counted and is in no table any
    more has been removed.
    """
    (row,) = catalogue.rows(f"SELECT {_SUMS} FROM {_SIZED}")
    totals: Row = dict(zip(SIZES, row, strict=True))
    totals["filtered"] = catalogue.one("SELECT count(*) FROM filtered")
    totals["quarantined"] = catalogue.one("SELECT count(*) FROM quarantine")
    present = sum(totals[name] for name in ("documents", "filtered", "quarantined"))
    counts = catalogue.corpus.get("counts")
    if counts:
        totals["read"] = sum(source["read"] for source in counts.values())
        totals["removed"] = totals["read"] - present
    else:
        totals["removed"] = len(catalogue.removed)
        totals["read"] = present + totals["removed"]
    return totals


def entropy(rows: Sequence[Mapping[str, Any]]) -> Row:
    """Shannon entropy of the shares of characters.

    ``bits``, the ``largest`` it can be with as many values, and how many values of equal shares
    would have the same (``effective``).
    """
    total = sum(row["characters"] for row in rows)
    shares = [row["characters"] / total for row in rows if row["characters"]]
    bits = math.fsum(-share * math.log2(share) for share in shares) + 0.0
    return {"bits": bits, "largest": math.log2(len(rows) or 1), "effective": 2**bits}


def _removal(catalogue: Catalogue) -> list[Row]:
    """Documents that each rule left out, by language, and their share of those with the language.

    What was removed later counts as kept by the rules: it is in neither number.
    """
    return _named(
        catalogue,
        ("language", "rule", "documents", "of", "share"),
        f"""
        WITH rows AS (
            SELECT coalesce(language, '{UNDETERMINED}') AS language, NULL AS rule FROM documents
            UNION ALL
            SELECT coalesce(language, '{UNDETERMINED}'), rule FROM filtered
        ), totals AS (SELECT language, count(*) AS of_all FROM rows GROUP BY language)
        SELECT language, rule, count(*), any_value(of_all), count(*) / any_value(of_all)
        FROM rows JOIN totals USING (language) WHERE rule IS NOT NULL
        GROUP BY language, rule ORDER BY language, rule
        """,
    )


def _private(catalogue: Catalogue) -> list[Row]:
    """Private information that was found and replaced, by type and language."""
    return _named(
        catalogue,
        ("language", "type", "findings", "documents"),
        f"""
        SELECT language, entry.key, sum(entry.value)::BIGINT, count(*) FROM (
            SELECT coalesce(language, '{UNDETERMINED}') AS language,
                   unnest(map_entries(private)) AS entry FROM documents
        ) WHERE entry.value > 0 GROUP BY ALL ORDER BY ALL
        """,
    )


def _duplicates(catalogue: Catalogue, totals: Mapping[str, Any]) -> Row:
    (row,) = catalogue.rows(
        """
        WITH members AS (
            SELECT cluster FROM documents WHERE cluster IS NOT NULL
            UNION ALL SELECT cluster FROM filtered WHERE cluster IS NOT NULL
        ), clusters AS (SELECT cluster, count(*) AS size FROM members GROUP BY cluster)
        SELECT count(*), coalesce(sum(size), 0)::BIGINT, coalesce(max(size), 0),
               arg_max(cluster, size) FROM clusters WHERE size > 1
        """
    )
    names = ("clusters", "documents_in_clusters", "largest", "largest_id")
    found: Row = dict(zip(names, row, strict=True))
    found["kinds"] = dict(
        catalogue.rows(
            """
            WITH members AS (
                SELECT cluster, cluster_kind FROM documents WHERE cluster IS NOT NULL
                UNION ALL SELECT cluster, cluster_kind FROM filtered WHERE cluster IS NOT NULL
            ), clusters AS (
                SELECT max(cluster_kind) AS kind FROM members GROUP BY cluster HAVING count(*) > 1
            )
            SELECT coalesce(kind, 'unknown') AS kind, count(*) FROM clusters
            GROUP BY ALL ORDER BY kind
            """
        )
    )
    left_out = catalogue.rows(
        "SELECT rule, count(*) FROM filtered WHERE contains(rule, 'duplicate') "
        "GROUP BY rule ORDER BY rule"
    )
    found["left_out"] = dict(left_out)
    seen = totals["documents"] + totals["filtered"]
    found["share"] = sum(found["left_out"].values()) / seen if seen else 0.0
    return found


def _identification(catalogue: Catalogue, totals: Mapping[str, Any]) -> Row:
    """How languages were found, and how that fits what the documents declare.

    ``undecided`` documents declare a language, and the detector abstained.
    """
    undetected = _named(
        catalogue,
        ("source", "documents"),
        f"SELECT source, count(*) FROM documents WHERE language = '{UNDETERMINED}' "
        "GROUP BY source ORDER BY count(*) DESC, source",
    )
    declared = "declared_language IS NOT NULL AND detected_language IS NOT NULL"
    both = f"{declared} AND detected_language <> '{UNDETERMINED}'"
    pairs = _named(
        catalogue,
        ("declared", "detected", "documents"),
        "SELECT declared_language, detected_language, count(*) FROM documents "
        f"WHERE {both} GROUP BY ALL ORDER BY count(*) DESC, 1, 2",
    )
    disagreements = [row for row in pairs if not agree(row["declared"], row["detected"])]
    compared = sum(row["documents"] for row in pairs)
    found = sum(row["documents"] for row in undetected)
    return {
        "methods": dict(
            catalogue.rows(
                "SELECT coalesce(language_method, 'none'), count(*) FROM documents "
                "GROUP BY ALL ORDER BY count(*) DESC, 1"
            )
        ),
        "undetected": found,
        "undetected_share": found / totals["documents"] if totals["documents"] else 0.0,
        "undetected_by_source": undetected,
        "mixed": catalogue.one("SELECT count(*) FROM documents WHERE cardinality(languages) > 1"),
        "undecided": catalogue.one(
            f"SELECT count(*) FROM documents WHERE {declared} "
            f"AND detected_language = '{UNDETERMINED}'"
        ),
        "compared": compared,
        "agreeing": compared - sum(row["documents"] for row in disagreements),
        "disagreements": disagreements,
    }
