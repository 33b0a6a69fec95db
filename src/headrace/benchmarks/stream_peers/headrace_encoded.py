"""Padded batches of token ids of the same text: from sidecars, and by tokenising on the way.

``kind`` says which: ``encoded`` (plan, sidecars, collate), ``online`` (our raw stream and the same
tokenizer, a batch at a time).  The online kinds make no labels, which is less work than ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, IterableDataset

from headrace.encoding.collate import collate_token_classification
from headrace.encoding.sidecar import EncodedSource, encode_source
from headrace.encoding.token_classification import TokenClassificationEncoder
from headrace.encoding.tokenizer import load_tokenizer
from headrace.shards.reader import ShardReader
from headrace.stream import ShardStream
from headrace.stream.batching import BatchPlan
from headrace.stream.plan import Source, StagePlan
from headrace.tasks.labels import load_label_set

LABELS = "multiconer_v2"
MAX_LENGTH = 1024
"""Tokens; the documents have fewer, so that nobody cuts anything."""


def encode(folder: str) -> EncodedSource:
    """Open the sidecars, and make them where they are missing."""
    return encode_source(
        ShardReader(f"{folder}/shards"),
        TokenClassificationEncoder(
            load_tokenizer(f"{folder}/tokenizer"), load_label_set(LABELS), MAX_LENGTH
        ),
        cache_dir=Path(folder) / "encoded",
        language="mul",
        verify=False,
    )


def convert(tars: str, folder: str) -> None:
    """Encode the source in ``folder``; ``tars`` is not used."""
    encode(folder)


class _Online(IterableDataset[dict[str, NDArray[np.int64]]]):
    def __init__(self, task: dict[str, Any]) -> None:
        self._stream = ShardStream(
            {"text": f"{task['folder']}/shards"},
            seed=task["seed"],
            batch_size=task["batch_size"],
            fields="txt",
        )
        self._tokenizer = load_tokenizer(f"{task['folder']}/tokenizer")

    def __iter__(self) -> Iterator[dict[str, NDArray[np.int64]]]:
        for texts in self._stream:
            yield self._tokenizer(
                [text.decode() for text in texts],
                truncation=True,
                max_length=MAX_LENGTH,
                padding=True,
                return_tensors="np",
            )


class Loader:
    """Yields ``input_ids``, int64 ``[samples, tokens]``; in a check, the ids of each row."""

    def __init__(self, task: dict[str, Any]) -> None:
        self._task = task
        self.counted = {"tokens": 0}
        """Without padding."""
        if task["kind"] == "online":
            online = _Online(task)
            workers = task["workers"]
            self._batches: Any = (
                DataLoader(online, batch_size=None, num_workers=workers) if workers else online
            )
        else:
            self._batches = _encoded(task)

    def __iter__(self) -> Iterator[Any]:
        for batch in self._batches:
            mask = batch["attention_mask"]
            self.counted["tokens"] += int(mask.sum())
            if self._task["action"] == "check":
                rows = zip(np.asarray(batch["input_ids"]), np.asarray(mask), strict=True)
                yield [ids[real > 0].astype("<i8").tobytes() for ids, real in rows]
            else:
                yield batch["input_ids"]


def _encoded(task: dict[str, Any]) -> Iterator[dict[str, NDArray[np.int64]]]:
    source = encode(task["folder"])
    plan = StagePlan(
        [
            Source(
                name="text",
                url=source.url,
                shard_sizes=tuple(len(shard) for shard in source.shards),
                fingerprint=source.fingerprint,
            )
        ],
        seed=task["seed"],
        stage="benchmark",
    )
    batches = BatchPlan(
        plan,
        [[shard.lengths for shard in source.shards]],
        batch_size=task["batch_size"],
    )
    pad_id = load_tokenizer(f"{task['folder']}/tokenizer").pad_token_id
    for step in range(batches.steps_per_epoch):
        yield collate_token_classification([source], batches.batch(step), pad_id=pad_id)
