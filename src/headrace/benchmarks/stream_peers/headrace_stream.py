"""Headrace: ``ShardStream`` over the tars as they are, with an index beside each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

from headrace.shards.adopt import index_source
from headrace.shards.cache import ShardCache
from headrace.stream import ShardStream


def convert(tars: str, folder: str) -> None:
    """Index the tars; ``folder`` holds links to them."""
    index_source(folder)


class Loader:
    """The stream, or a ``DataLoader`` around it where there are workers."""

    def __init__(self, task: dict[str, Any]) -> None:
        self._stream = ShardStream(
            {"text": task.get("url", task["folder"])},
            seed=task["seed"],
            batch_size=task["batch_size"],
            fields="txt",
            rank=task.get("rank", 0),
            world_size=task.get("world_size", 1),
            cache=ShardCache(task["cache"]) if "url" in task else None,
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
