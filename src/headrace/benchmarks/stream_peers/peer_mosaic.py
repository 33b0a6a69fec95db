"""Mosaic Streaming: ``StreamingDataset`` over its own shards (MDS)."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from streaming import (  # type: ignore[import-not-found]
    MDSWriter,
    StreamingDataLoader,
    StreamingDataset,
)


def convert(tars: str, folder: str) -> None:
    """Write all payloads into shards of 64 MB with a hash each."""
    with MDSWriter(
        out=folder, columns={"txt": "bytes"}, hashes=["xxh3_64"], size_limit=1 << 26
    ) as writer:
        for path in sorted(Path(tars).glob("*.tar")):
            with tarfile.open(path) as tar:
                for member in tar:
                    content = tar.extractfile(member)
                    assert content is not None
                    writer.write({"txt": content.read()})


def _payloads(samples: list[dict[str, bytes]]) -> dict[str, list[bytes]]:
    # The loader counts the samples of a batch by the first value of a dict.
    return {"txt": [sample["txt"] for sample in samples]}


class Loader:
    """``StreamingDataLoader``; with ``remote``, shards are copied from there and hashes checked."""

    def __init__(self, task: dict[str, Any]) -> None:
        remote = task.get("remote")
        data = StreamingDataset(
            remote=remote,
            local=task["cache"] if remote else task["folder"],
            validate_hash="xxh3_64" if remote else None,
            batch_size=task["batch_size"],
            shuffle=True,
            shuffle_seed=task["seed"],
            num_canonical_nodes=1,
        )
        self._loader = StreamingDataLoader(
            data,
            batch_size=task["batch_size"],
            num_workers=task["workers"],
            collate_fn=_payloads,
        )

    def __iter__(self) -> Iterator[list[bytes]]:
        for batch in self._loader:
            yield batch["txt"]

    def save(self) -> bytes:
        """The loader's state."""
        return json.dumps(self._loader.state_dict()).encode()

    def load(self, state: bytes) -> None:
        """Go on from there."""
        self._loader.load_state_dict(json.loads(state))
