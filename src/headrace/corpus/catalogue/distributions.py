"""How the quality measures of a corpus are distributed, and how often each register occurs."""

from __future__ import annotations

from typing import Any

from headrace.corpus.catalogue.catalogue import Catalogue

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_MOST_VALUES = 12
"""A register with more values than these is a measure, or its rarest values are one."""
REST = "other values"


def quality_of(catalogue: Catalogue) -> list[dict[str, Any]]:
    """Quantiles (:data:`QUANTILES`) of each quality measure, over all and by language."""
    rows = catalogue.rows(
        f"""
        WITH measures AS (
            SELECT coalesce(language, 'und') AS language, entry.key AS measure,
                   entry.value AS value FROM (
                SELECT language, unnest(map_entries(quality)) AS entry FROM documents
            ) WHERE isfinite(entry.value)
        )
        SELECT measure, language, count(*), quantile_cont(value, {list(QUANTILES)})
        FROM measures GROUP BY GROUPING SETS ((measure), (measure, language))
        ORDER BY measure, language NULLS FIRST
        """
    )
    return [
        {"measure": measure, "language": language, "documents": count, "quantiles": quantiles}
        for measure, language, count, quantiles in rows
    ]


def registers_of(catalogue: Catalogue) -> list[dict[str, Any]]:
    """Documents and characters by language and value of each register tag.

    A tag whose values are numbers, more than :data:`_MOST_VALUES` of them, is a measure: it has
    ``quantiles`` in place of ``values``.  Of other tags with many values the rarest are one.
    """
    tags = catalogue.rows(
        """
        SELECT entry.key, count(DISTINCT entry.value),
               bool_and(try_cast(entry.value AS DOUBLE) IS NOT NULL)
        FROM (SELECT unnest(map_entries(register)) AS entry FROM documents)
        GROUP BY entry.key ORDER BY entry.key
        """
    )
    found = []
    for tag, values, numeric in tags:
        if numeric and values > _MOST_VALUES:
            found.append({"tag": tag, "quantiles": _quantiles(catalogue, tag)})
        else:
            found.append({"tag": tag, "values": _values(catalogue, tag)})
    return found


def _quantiles(catalogue: Catalogue, tag: str) -> list[dict[str, Any]]:
    rows = catalogue.rows(
        f"""
        WITH measured AS (
            SELECT coalesce(language, 'und') AS language,
                   try_cast(register[$1] AS DOUBLE) AS value FROM documents
        )
        SELECT language, count(*), quantile_cont(value, {list(QUANTILES)})
        FROM measured WHERE isfinite(value) GROUP BY language ORDER BY language
        """,
        [tag],
    )
    return [
        {"language": language, "documents": count, "quantiles": quantiles}
        for language, count, quantiles in rows
    ]


def _values(catalogue: Catalogue, tag: str) -> list[dict[str, Any]]:
    rows = catalogue.rows(
        f"""
        WITH tagged AS (
            SELECT coalesce(language, 'und') AS language, register[$1] AS value, characters
            FROM documents WHERE register[$1] IS NOT NULL
        ), often AS (
            SELECT value FROM tagged GROUP BY value ORDER BY count(*) DESC, value
            LIMIT {_MOST_VALUES}
        )
        SELECT language, if(value IN (FROM often), value, '{REST}') AS value, count(*),
               sum(characters)::BIGINT
        FROM tagged GROUP BY ALL ORDER BY ALL
        """,
        [tag],
    )
    return [
        {"language": language, "value": value, "documents": count, "characters": characters}
        for language, value, count, characters in rows
    ]
