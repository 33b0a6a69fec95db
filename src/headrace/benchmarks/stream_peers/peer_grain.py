"""Grain: a source of random access over mapped tars, globally shuffled."""

from __future__ import annotations

import json
import mmap
import pickle
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grain  # type: ignore[import-not-found]


def convert(tars: str, folder: str) -> None:
    """Note where every payload lies."""
    places = []
    for number, path in enumerate(sorted(Path(tars).glob("*.tar"))):
        with tarfile.open(path) as tar:
            places += [(number, member.offset_data, member.size) for member in tar]
    Path(folder).mkdir(parents=True, exist_ok=True)
    (Path(folder) / "places.json").write_text(json.dumps(places))


class TarSource:
    """What Grain calls a random access data source; Grain itself reads no tars."""

    def __init__(self, tars: str, folder: str) -> None:
        self._paths = [str(path) for path in sorted(Path(tars).glob("*.tar"))]
        self._places: list[tuple[int, int, int]] = json.loads(
            (Path(folder) / "places.json").read_text()
        )
        self._maps: list[mmap.mmap] = []

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, number: int) -> bytes:
        if not self._maps:
            for path in self._paths:
                with Path(path).open("rb") as file:
                    self._maps.append(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        shard, start, size = self._places[number]
        return self._maps[shard][start : start + size]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": []}


class Loader:
    """Batches of lists; it reads in the thread that asks, which is the fastest on few cores."""

    def __init__(self, task: dict[str, Any]) -> None:
        data = (
            grain.MapDataset.source(TarSource(task["tars"], task["folder"]))
            .seed(task["seed"])
            .shuffle()
            .to_iter_dataset(grain.ReadOptions(num_threads=0))
            .batch(task["batch_size"], batch_fn=list)
        )
        if task["workers"]:
            data = data.mp_prefetch(grain.MultiprocessingOptions(num_workers=task["workers"]))
        self._data = data
        self._iterator: Any = None
        self._state: Any = None

    def __iter__(self) -> Iterator[list[bytes]]:
        self._iterator = iter(self._data)
        if self._state is not None:
            self._iterator.set_state(self._state)
        return self._iterator  # type: ignore[no-any-return]

    def save(self) -> bytes:
        """The iterator's state."""
        return pickle.dumps(self._iterator.get_state())

    def load(self, state: bytes) -> None:
        """Go on from there, once the iterator is made."""
        self._state = pickle.loads(state)
