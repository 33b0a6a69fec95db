"""What a worker and the process in which it examines documents say to each other.

msgpack over pipes: no message can make the reader of it run anything.  Text may have lone
surrogates.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import msgpack

from headrace.corpus.building.parts import Slice
from headrace.corpus.recipe.files import InputFile, Stamp

READY = "ready"
"""The steps are made."""
RECORD = "record"
"""A record was found: its key and offset.  What follows is its row."""
ROW = "row"
SLICE_DONE = "slice"
CHANGED = "changed"
"""The file is not what it was when the build began: what it was, and where."""
MEMORY = "memory"
"""The record needs more memory than there is; the process ends."""
FAILED = "failed"
"""The build cannot go on: problems, or a traceback."""

_UNICODE = "surrogatepass"


def packed(message: Any) -> bytes:
    """A message as bytes."""
    return bytes(msgpack.packb(message, unicode_errors=_UNICODE, default=_plain))


def _plain(value: Any) -> Any:
    """Numbers of numpy, and other things that hold one value."""
    return value.item()


class Unpacker:
    """Messages out of the pieces in which a pipe gives them."""

    def __init__(self) -> None:
        self._unpacker = msgpack.Unpacker(
            unicode_errors=_UNICODE, max_buffer_size=2**31 - 1, use_list=False
        )

    def feed(self, data: bytes) -> Iterator[Any]:
        """The messages that end in these bytes."""
        self._unpacker.feed(data)
        yield from self._unpacker


def slice_message(one: Slice, skip: int, *, careful: bool) -> dict[str, Any]:
    """A slice to be read, all but its first ``skip`` records; carefully: each is sent at once."""
    file = one.file
    return {
        "source": file.source,
        "url": file.url,
        "key": file.key,
        "size": file.stamp.size,
        "version": file.stamp.version,
        "start": one.start,
        "end": one.end,
        "skip": skip,
        "careful": careful,
    }


def slice_of(message: Mapping[str, Any]) -> Slice:
    """The slice of a message."""
    stamp = Stamp(message["size"], message["version"])
    file = InputFile(message["source"], message["url"], message["key"], stamp)
    return Slice(file, message["start"], message["end"])


def row_message(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row without what is empty; pairs stay pairs."""
    return {name: value for name, value in row.items() if value is not None}


def settings_message(recipe_json: str, memory_bytes: int, seconds: float) -> bytes:
    """The first message to a process: as JSON, on a line."""
    settings = {"recipe": recipe_json, "memory": memory_bytes, "seconds": seconds}
    return json.dumps(settings).encode() + b"\n"
