"""A record from the columns of a row, or from the members of an object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

from headrace.corpus.documents import Record
from headrace.corpus.media.refusal import RefusalError
from headrace.corpus.media.settings import Column, Fields

_MOST_NAMES = 20


def record_of(
    value_of: Callable[[Any], Any], fields: Fields, file_key: str, place_key: str, **known: Any
) -> Record:
    """The record of a row.

    Args:
        value_of: The value of a column in this row; None if it has none.
        file_key: Key of the file; the id follows it if the row has one.
        place_key: Key of the record if it has no id.
        known: What else is known of the record: format, encoding, offset, length.

    Raises:
        RefusalError: if there is no text, or no id where the recipe names its column.
    """
    text = value_of(fields.text)
    if text is None:
        raise RefusalError("unreadable", f"nothing in {named(fields.text)}, which holds the text")
    if not isinstance(text, str):
        kind = type(text).__name__
        raise RefusalError("unreadable", f"{named(fields.text)} is no text: {kind}")
    identifier = None if fields.id is None else value_of(fields.id)
    if identifier in (None, ""):
        if fields.id is not None and "id" in fields.model_fields_set:
            raise RefusalError("unreadable", f"nothing in {named(fields.id)}, which holds the id")
        key = place_key
    elif isinstance(identifier, (str, int, float)):
        key = f"{file_key}#{identifier}"
    else:
        kind = type(identifier).__name__
        raise RefusalError("unreadable", f"{named(fields.id)} is no id: {kind}")
    others: dict[str, Any] = {
        name: _string(value_of(column))
        for name in ("url", "language", "licence", "title", "collected_at")
        if (column := getattr(fields, name)) is not None
    }
    metadata = {
        str(column): _json(value)
        for column in fields.metadata
        if (value := value_of(column)) is not None
    }
    return Record(key, text, metadata=metadata, **others, **known)


def check_columns(fields: Fields, names: Sequence[str]) -> None:
    """Raise :class:`RefusalError` if a table of these columns lacks one that the recipe names."""
    wanted = [fields.text, *(getattr(fields, name) for name in fields.model_fields_set)]
    columns = [
        str(column)
        for entry in wanted
        for column in (entry if isinstance(entry, tuple) else (entry,))
        if column is not None
    ]
    missing = sorted({c for c in columns if c not in names and c.partition(".")[0] not in names})
    if missing:
        there = ", ".join(names[:_MOST_NAMES]) + (", …" if len(names) > _MOST_NAMES else "")
        raise RefusalError("unreadable", f"no column {', '.join(missing)}; there are: {there}")


def named(column: Column | None) -> str:
    """A column, in a sentence."""
    return f"column {column}" if isinstance(column, int) else f"field {column!r}"


def _string(value: Any) -> str | None:
    """A value as the text of a member of the record; None for what is none, such as a list."""
    if isinstance(value, date):  # or a datetime
        return value.isoformat()
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    return value or None if isinstance(value, str) else None


def _json(value: Any) -> Any:
    """A value as JSON has it; what JSON has no way to write becomes text."""
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if isinstance(value, dict):
        return {str(name): _json(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json(item) for item in value]
    return _string(value) or str(value)
