"""What became of each record of a part, as a table: the rows that workers hand over.

A row has the columns of the corpus's tables, and what only the build itself needs: the outcome,
the text, and the JSON of the sample.  The text is there only where the document is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from headrace.corpus.catalogue.schema import LEFT_OUT_SCHEMA, WRITTEN_SCHEMA, document_row
from headrace.corpus.documents import Document, Filtered, Reject
from headrace.corpus.duplicates.signatures import SIGNATURE

KEPT, FILTERED, REJECTED = "kept", "filtered", "rejected"

DOCUMENT_COLUMNS = [name for name in WRITTEN_SCHEMA.names if name in set(LEFT_OUT_SCHEMA.names)]
"""What is known of a document whether it is written or left out."""

OUTCOME_SCHEMA = pa.schema(
    [
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("rule", pa.string()),
        pa.field("detail", pa.string()),
        *(WRITTEN_SCHEMA.field(name).with_nullable(True) for name in DOCUMENT_COLUMNS),
        pa.field("text", pa.large_binary()),
        pa.field("json", pa.large_binary()),
        pa.field("original", pa.large_binary()),
        pa.field(SIGNATURE, pa.binary()),
    ]
)
"""``rule`` is the reason of a rejected record; ``text``, ``json`` and ``original`` are the fields
of a sample."""


def kept_row(
    document: Document,
    governance: Mapping[str, str | None],
    sample: Mapping[str, bytes],
    original: bytes | None,
    columns: Mapping[str, Any],
) -> dict[str, Any]:
    """The row of a document that no rule of its own leaves out.

    Args:
        document: as all steps have left it.
        governance: of its source.
        sample: its fields ``txt`` and ``json``.
        original: the bytes that it was read from; None: they are not kept.
        columns: what the search for duplicates needs of it.
    """
    return {
        "outcome": KEPT,
        **document_row(document, governance),
        "text": sample["txt"],
        "json": sample["json"],
        "original": original,
        "original_bytes": None if original is None else len(original),
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
