"""litData: ``StreamingDataset`` over its own chunks."""

from __future__ import annotations

import pickle
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from litdata import (  # type: ignore[import-not-found]
    StreamingDataLoader,
    StreamingDataset,
    optimize,
)
from torch.distributed import init_process_group


def _payloads(path: str) -> Iterator[bytes]:
    with tarfile.open(path) as tar:
        for member in tar:
            content = tar.extractfile(member)
            assert content is not None
            yield content.read()


def convert(tars: str, folder: str) -> None:
    """Write all payloads into chunks of 16 MB.

    The usual 64 MB would make two chunks of the whole data set.  Where two workers share a chunk,
    it is read sample by sample, ten times as slowly, and with two chunks chance decides that.
    """
    optimize(
        fn=_payloads,
        inputs=[str(path) for path in sorted(Path(tars).glob("*.tar"))],
        output_dir=folder,
        chunk_bytes="16MB",
        num_workers=2,
        start_method="fork",
    )


def _payload(view: memoryview | bytes) -> bytes:
    return bytes(view)


def _batch(views: list[memoryview | bytes]) -> list[bytes]:
    return [bytes(view) for view in views]


class Loader:
    """Without workers the data set itself, which is faster than its loader.

    It serves views of the mapped file, of which no byte has been read yet; with ``views`` they are
    handed on as they are, else copied into ``bytes``, which is what everybody else serves.
    """

    def __init__(self, task: dict[str, Any]) -> None:
        self._batch_size: int = task["batch_size"]
        if task.get("world_size", 1) > 1:
            init_process_group("gloo")  # it knows of ranks from there and nowhere else
        self._data = StreamingDataset(
            task["folder"],
            shuffle=True,
            seed=task["seed"],
            drop_last=False,
            transform=None if task.get("views") or task["workers"] else _payload,
        )
        self._loader = None
        if task["workers"] or task["action"] in {"save", "resume"}:
            self._loader = StreamingDataLoader(
                self._data,
                batch_size=self._batch_size,
                num_workers=task["workers"],
                collate_fn=_batch,
            )

    def __iter__(self) -> Iterator[list[bytes]]:
        if self._loader is not None:
            yield from self._loader
            return
        batch: list[bytes] = []
        size = self._batch_size
        for payload in self._data:
            batch.append(payload)
            if len(batch) == size:
                yield batch
                batch = []
        if batch:
            yield batch

    def save(self) -> bytes:
        """The loader's state."""
        assert self._loader is not None
        return pickle.dumps(self._loader.state_dict())

    def load(self, state: bytes) -> None:
        """Go on from there."""
        assert self._loader is not None
        self._loader.load_state_dict(pickle.loads(state))
