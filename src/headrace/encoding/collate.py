"""Samples of encoded sources as one padded batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from headrace.encoding.sidecar import EncodedSource
from headrace.encoding.token_classification import IGNORED


class SampleLocations(Protocol):
    """Where the samples of a batch lie: three int64 arrays of the same length."""

    @property
    def source(self) -> NDArray[np.int64]:
        """Number of the source."""
        ...

    @property
    def shard(self) -> NDArray[np.int64]:
        """Number of the shard in the source."""
        ...

    @property
    def sample(self) -> NDArray[np.int64]:
        """Number of the sample in the shard."""
        ...


def collate_token_classification(
    sources: Sequence[EncodedSource],
    locations: SampleLocations,
    *,
    pad_id: int,
    pad_to_multiple_of: int = 1,
    words: bool = False,
) -> dict[str, NDArray[Any]]:
    """The samples at these locations of these sources, padded on the right to the longest.

    Returns ``input_ids``, ``attention_mask`` and ``labels`` (-100 on padding), each int64
    ``[samples, tokens]``; no locations give ``[0, 0]``.  ``tokens`` is a multiple of
    `pad_to_multiple_of`.  With `words` also the flat arrays that evaluation needs:
    ``word_positions`` and ``word_tags``, int16 ``[words]``, delimited by ``word_offsets``, int64
    ``[samples + 1]``.
    """
    source, shard, sample = locations.source, locations.shard, locations.sample
    count = len(sample)
    groups = _groups(source, shard)
    length = 0
    pieces: list[tuple[NDArray[np.int64], list[NDArray[Any]], NDArray[np.int64]]] = []
    for rows in groups:
        encoded = sources[int(source[rows[0]])].shards[int(shard[rows[0]])]
        flat, lengths = encoded.gather(sample[rows], ("tokens", "labels"))
        pieces.append((rows, flat, lengths))
        length = max(length, int(lengths.max()))
    length = -(-length // pad_to_multiple_of) * pad_to_multiple_of

    row_lengths = np.zeros(count, dtype=np.int64)
    for rows, _, lengths in pieces:
        row_lengths[rows] = lengths
    is_token = np.arange(length) < row_lengths[:, None]
    input_ids = np.full((count, length), pad_id, dtype=np.int64)
    labels = np.full((count, length), IGNORED, dtype=np.int64)
    for rows, (tokens, tags), lengths in pieces:
        row = np.repeat(rows, lengths)
        column = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        input_ids[row, column] = tokens
        labels[row, column] = tags
    batch: dict[str, NDArray[Any]] = {
        "input_ids": input_ids,
        "attention_mask": is_token.astype(np.int64),
        "labels": labels,
    }
    if words:
        batch |= _words(sources, locations)
    return batch


def _words(sources: Sequence[EncodedSource], locations: SampleLocations) -> dict[str, NDArray[Any]]:
    shards = [
        sources[int(source)].shards[int(shard)]
        for source, shard in zip(locations.source, locations.shard, strict=True)
    ]
    samples = [int(sample) for sample in locations.sample]
    nothing = np.zeros(0, dtype=np.int16)
    positions = [shard.word_positions(i) for shard, i in zip(shards, samples, strict=True)]
    tags = [shard.word_tags(i) for shard, i in zip(shards, samples, strict=True)]
    offsets = np.zeros(len(samples) + 1, dtype=np.int64)
    offsets[1:] = np.cumsum([len(row) for row in positions])
    return {
        "word_positions": np.concatenate([nothing, *positions]),
        "word_tags": np.concatenate([nothing, *tags]),
        "word_offsets": offsets,
    }


def _groups(source: NDArray[np.int64], shard: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Rows of the same source and shard, so that each shard is read once."""
    if not len(source):
        return []
    key = source * (int(shard.max()) + 1) + shard
    order = np.argsort(key, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(key[order])) + 1)
