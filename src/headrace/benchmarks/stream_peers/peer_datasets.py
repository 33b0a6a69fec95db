"""Hugging Face datasets: the ``webdataset`` builder, streaming, a buffer of samples shuffled."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datasets import load_dataset
from torch.utils.data import DataLoader


def _payloads(samples: list[dict[str, Any]]) -> list[str]:
    return [sample["txt"] for sample in samples]


class Loader:
    """A ``DataLoader`` around the streaming data set, as its documentation shows."""

    def __init__(self, task: dict[str, Any]) -> None:
        names = sorted(path.name for path in Path(task["tars"]).glob("*.tar"))
        self._data = load_dataset(
            "webdataset",
            data_files={"train": [f"{task.get('url') or task['tars']}/{name}" for name in names]},
            split="train",
            streaming=True,
        ).shuffle(seed=task["seed"], buffer_size=1000)
        self._loader: Any = DataLoader(
            self._data,
            batch_size=task["batch_size"],
            num_workers=task["workers"],
            collate_fn=_payloads,
        )

    def __iter__(self) -> Iterator[list[str]]:
        return iter(self._loader)

    def save(self) -> bytes:
        """The data set's state."""
        return pickle.dumps(self._data.state_dict())

    def load(self, state: bytes) -> None:
        """Go on from there."""
        self._data.load_state_dict(pickle.loads(state))
