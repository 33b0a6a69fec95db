"""JSON lines: an object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from headrace.corpus.documents import Record, Reject
from headrace.corpus.media.columns import record_of
from headrace.corpus.media.lines import LineFormat
from headrace.corpus.media.refusal import RefusalError
from headrace.corpus.media.settings import Column
from headrace.corpus.media.source_file import SourceFile


class JsonLinesReader(LineFormat):
    """Objects with a text, one a line; columns are names of members, or paths: ``meta.url``."""

    name = "json_lines"
    suffixes = (".jsonl", ".ndjson", ".json")
    standard_encoding = "utf-8"

    def read(self, file: SourceFile) -> Iterator[Record | Reject]:
        """A record for each line that is not blank."""

        def record(text: str, encoding: str, offset: int, length: int) -> Record:
            found = parsed(text)
            return record_of(
                lambda column: member(found, column),
                file.settings.fields,
                file.key,
                f"{file.key}#{offset}",
                format=self.name,
                encoding=encoding,
                offset=offset,
                length=length,
            )

        return self.each_line(file, record)


def parsed(text: str) -> dict[str, Any]:
    """The object of a line; :class:`RefusalError` says where it is none, without its text."""
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise RefusalError("unreadable", f"not JSON at character {error.pos}") from None
    if not isinstance(found, dict):
        raise RefusalError("unreadable", f"not an object: {type(found).__name__}")
    return found


def member(found: dict[str, Any], column: Column) -> Any:
    """The member of this name, or at the end of this path; None if there is none."""
    name = str(column)
    if name in found or "." not in name:
        return found.get(name)
    value: Any = found
    for step in name.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    return value
