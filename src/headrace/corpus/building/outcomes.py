"""What became of each record of a part, as a table: the rows that workers hand over.

A row has the columns of the corpus's tables, and what only the build itself needs: the outcome,
the text, and the JSON of the sample.  The text is there only where the document is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from headrace.corpus.catalogue.schema import FILTERED_SCHEMA, INDEX_SCHEMA, document_row
from headrace.corpus.documents import Document, Filtered, Reject
from headrace.corpus.duplicates.signatures import SIGNATURE

KEPT, FILTERED, REJECTED = "kept", "filtered", "rejected"

DOCUMENT_COLUMNS = [name for name in INDEX_SCHEMA.names if name in set(FILTERED_SCHEMA.names)]
"""Columns that the index and the table of filtered documents have in common."""

OUTCOME_SCHEMA = pa.schema(
    [
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("rule", pa.string()),
        pa.field("detail", pa.string()),
        *(INDEX_SCHEMA.field(name).with_nullable(True) for name in DOCUMENT_COLUMNS),
        pa.field("text", pa.large_binary()),
        pa.field("json", pa.large_binary()),
        pa.field(SIGNATURE, pa.binary()),
    ]
)
"""``rule`` is the reason of a rejected record; ``text`` and ``json`` are the fields of a sample."""


def kept_row(
    document: Document,
    governance: Mapping[str, str | None],
    sample: Mapping[str, bytes],
    columns: Mapping[str, Any],
) -> dict[str, Any]:
    """The row of a document that no rule of its own leaves out.

    Args:
        document: as all steps have left it.
        governance: of its source.
        sample: its fields ``txt`` and ``json``.
        columns: what the search for duplicates needs of it.
    """
    return {
        "outcome": KEPT,
        **document_row(document, governance),
        "text": sample["txt"],
        "json": sample["json"],
        **columns,
    }


def filtered_row(filtered: Filtered, governance: Mapping[str, str | None]) -> dict[str, Any]:
    """The row of a document that a rule leaves out; its text is not in it."""
    return {
        "outcome": FILTERED,
        "rule": filtered.rule,
        "detail": filtered.detail,
        **document_row(filtered.document, governance),
    }


def rejected_row(reject: Reject, source: str, file: str) -> dict[str, Any]:
    """The row of a record that could not be used."""
    return {
        "outcome": REJECTED,
        "rule": reject.reason,
        "detail": reject.detail,
        "source": source,
        "key": reject.key,
        "file": file,
        "offset": reject.offset,
    }
