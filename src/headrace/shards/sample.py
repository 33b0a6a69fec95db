"""One sample of a shard: a key and its fields."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import xxhash

from headrace.errors import Problem, ShardError

_KEY = re.compile(r"[A-Za-z0-9_-]+")
_FIELD = re.compile(r"[a-z0-9_][a-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample: ``fields`` maps a field name (``txt``, ``json``) to its bytes."""

    key: str
    fields: Mapping[str, bytes]
    origin: str = field(default="", compare=False)
    """Where the sample was read from (``file:line``), for messages only; never stored."""

    @property
    def text(self) -> str:
        """Field ``txt`` as text; :class:`ShardError` if it is missing or not UTF-8."""
        try:
            return self._field("txt").decode("utf-8")
        except UnicodeDecodeError as error:
            raise ShardError(
                Problem("field txt is not UTF-8", f"sample {self.key}", value=str(error))
            ) from error

    @property
    def metadata(self) -> dict[str, Any]:
        """Field ``json`` as a dict; :class:`ShardError` if it is missing or not a JSON object."""
        try:
            value = json.loads(self._field("json"))
        except (ValueError, RecursionError) as error:
            raise ShardError(
                Problem("field json is not JSON", f"sample {self.key}", value=str(error))
            ) from error
        if not isinstance(value, dict):
            raise ShardError(
                Problem(
                    "field json is not a JSON object", f"sample {self.key}", type(value).__name__
                )
            )
        return value

    def _field(self, name: str) -> bytes:
        if name not in self.fields:
            raise ShardError(
                Problem(
                    f"the sample has no field {name}",
                    f"sample {self.key}",
                    value=", ".join(self.fields),
                    remedy=f"Write the source with a field {name}",
                )
            )
        return self.fields[name]


def make_sample(key: str, text: str, metadata: Mapping[str, Any], origin: str = "") -> Sample:
    """A sample with the fields ``txt`` (UTF-8) and ``json`` (UTF-8, no spaces, order kept).

    ``ValueError`` (``UnicodeEncodeError``) if a string holds a lone surrogate.
    """
    encoded = json.dumps(metadata, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    fields = {"txt": text.encode("utf-8"), "json": encoded.encode("utf-8")}
    return Sample(key, fields, origin)


def key_of(identifier: str) -> str:
    """A WebDataset key for any identifier: letters, digits, ``_`` and ``-``.

    An identifier that is a key already is returned as it is; any other gets its odd characters
    replaced by ``_`` and a hash appended, so that different identifiers keep different keys.
    """
    if _KEY.fullmatch(identifier) and len(identifier) <= 80:
        return identifier
    safe = re.sub(r"[^A-Za-z0-9_-]", "_", identifier)[:60]
    return f"{safe}-{xxhash.xxh3_64_hexdigest(identifier.encode('utf-8', 'surrogatepass'))}"


def is_key(key: str) -> bool:
    """Whether this key may be written: letters, digits, ``_`` and ``-``, at most 80 of them."""
    return len(key) <= 80 and _KEY.fullmatch(key) is not None


def is_field(name: str) -> bool:
    """Whether this field name may be written: it becomes the file extension in the tar."""
    return len(name) <= 16 and _FIELD.fullmatch(name) is not None
