"""webdataset: the tars through its usual pipeline, shards and a buffer of samples shuffled."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import webdataset


def _payload(sample: dict[str, Any]) -> bytes:
    content: bytes = sample["txt"]
    return content


class Loader:
    """``WebDataset`` with a ``WebLoader`` where there are workers."""

    def __init__(self, task: dict[str, Any]) -> None:
        data = (
            webdataset.WebDataset(_tars(task), shardshuffle=100, seed=task["seed"])
            .shuffle(1000)
            .map(_payload)
            .batched(task["batch_size"], collation_fn=list, partial=True)
        )
        self._data: Any = data
        if task["workers"]:
            self._data = webdataset.WebLoader(data, batch_size=None, num_workers=task["workers"])

    def __iter__(self) -> Iterator[list[bytes]]:
        return iter(self._data)


def _tars(task: dict[str, Any]) -> list[str]:
    names = sorted(path.name for path in Path(task["tars"]).glob("*.tar"))
    if task.get("url"):
        return [f"{task['url']}/{name}" for name in names]
    return [f"{task['tars']}/{name}" for name in names]
