"""Headrace: ``ShardStream`` over the tars as they are, with an index beside each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

from headrace.shards.adopt import index_source
from headrace.shards.cache import ShardCache
from headrace.shards.reader import ShardReader
from headrace.stream import ShardStream


def convert(tars: str, folder: str) -> None:
    """Index the tars; ``folder`` holds links to them."""
    index_source(folder)


class Loader:
    """The stream, or a ``DataLoader`` around it where there are workers."""

    def __init__(self, task: dict[str, Any]) -> None:
        source: str | ShardReader = task["folder"]
        if "url" in task:
            source = ShardReader(task["url"], cache=ShardCache(task["cache"]))
        self._stream = ShardStream(
            {"text": source},
            seed=task["seed"],
            batch_size=task["batch_size"],
            fields="txt",
            rank=task.get("rank", 0),
            world_size=task.get("world_size", 1),
            bad_shards=task.get("bad_shards", "refuse"),
        )
        self._workers: int = task["workers"]

    def __iter__(self) -> Iterator[list[bytes]]:
        if self._workers:
            return iter(DataLoader(self._stream, batch_size=None, num_workers=self._workers))
        return iter(self._stream)

    def save(self) -> bytes:
        """The state as JSON."""
        return json.dumps(self._stream.state_dict()).encode()

    def load(self, state: bytes) -> None:
        """Go on from there."""
        self._stream.load_state_dict(json.loads(state))
