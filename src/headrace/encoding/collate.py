"""Samples of encoded sources as one batch: a padded row each, or packed into rows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from headrace.encoding.sidecar import EncodedSource
from headrace.encoding.token_classification import IGNORED

LabelledTokens: TypeAlias = tuple[NDArray[Any], NDArray[Any]]
"""The tokens of a sample, and their labels: as many."""


class SampleLocations(Protocol):
    """Where the samples of a batch lie: int64 arrays of the same length."""

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

    @property
    def passes(self) -> NDArray[np.int64] | None:
        """How often the stage has gone through the source before; None: they are of no stage."""
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
    batch = pad_labelled(
        _gather(sources, locations), pad_id=pad_id, pad_to_multiple_of=pad_to_multiple_of
    )
    if words:
        batch |= _words(sources, locations)
    return batch


def pad_labelled(
    rows: Sequence[LabelledTokens], *, pad_id: int, pad_to_multiple_of: int = 1
) -> dict[str, NDArray[Any]]:
    """Samples whose tokens have labels, padded on the right to the longest.

    Returns ``input_ids``, ``attention_mask`` and ``labels`` (-100 on padding), each int64
    ``[samples, tokens]``; no samples give ``[0, 0]``.
    """
    row_lengths = np.array([len(tokens) for tokens, _ in rows], dtype=np.int64)
    count = len(row_lengths)
    length = -(-int(row_lengths.max(initial=0)) // pad_to_multiple_of) * pad_to_multiple_of
    is_token = np.arange(length) < row_lengths[:, None]
    input_ids = np.full((count, length), pad_id, dtype=np.int64)
    labels = np.full((count, length), IGNORED, dtype=np.int64)
    flat_ids, flat_labels = input_ids.reshape(-1), labels.reshape(-1)
    for row, (tokens, of_tokens) in enumerate(rows):
        start = row * length
        end = start + len(tokens)
        flat_ids[start:end] = tokens
        flat_labels[start:end] = of_tokens
    return {
        "input_ids": input_ids,
        "attention_mask": is_token.astype(np.int64),
        "labels": labels,
    }


def collate_packed(
    sources: Sequence[EncodedSource],
    locations: SampleLocations,
    starts: NDArray[np.int64],
    *,
    pad_id: int,
    pack_length: int,
) -> dict[str, NDArray[Any]]:
    """The samples at these locations, several in a row: see :func:`pack_labelled`."""
    rows = _gather(sources, locations)
    return pack_labelled(rows, starts, pad_id=pad_id, pack_length=pack_length)


def pack_labelled(
    rows: Sequence[LabelledTokens],
    starts: NDArray[np.int64],
    *,
    pad_id: int,
    pack_length: int,
) -> dict[str, NDArray[Any]]:
    """Samples whose tokens have labels, several in a row one behind the other.

    Row r holds the samples ``starts[r]`` to ``starts[r + 1] - 1``.  Returns, each int64
    ``[rows, pack_length]``: ``input_ids``; ``position_ids``, which begin at 0 in every sample;
    ``segments``, the number of the sample in its row from 1 on; and ``labels``.  Padding has
    position 0, segment 0 and label -100.  The caller sees to it that a row's samples fit it.
    """
    lengths = np.array([len(tokens) for tokens, _ in rows], dtype=np.int64)
    samples_in_row = np.diff(starts)
    row_of = np.repeat(np.arange(len(samples_in_row)), samples_in_row)
    before = np.cumsum(lengths) - lengths
    first_column = before - before[starts[:-1]][row_of]
    number = np.arange(len(lengths)) - starts[:-1][row_of] + 1

    shape = (len(samples_in_row), pack_length)
    input_ids = np.full(shape, pad_id, dtype=np.int64)
    position_ids = np.zeros(shape, dtype=np.int64)
    segments = np.zeros(shape, dtype=np.int64)
    labels = np.full(shape, IGNORED, dtype=np.int64)
    flat_ids, flat_positions = input_ids.reshape(-1), position_ids.reshape(-1)
    flat_segments, flat_labels = segments.reshape(-1), labels.reshape(-1)
    places = (row_of * pack_length + first_column).tolist()
    numbers, positions = number.tolist(), np.arange(pack_length)
    for member, (tokens, of_tokens) in enumerate(rows):
        start = places[member]
        end = start + len(tokens)
        flat_ids[start:end] = tokens
        flat_positions[start:end] = positions[: len(tokens)]
        flat_segments[start:end] = numbers[member]
        flat_labels[start:end] = of_tokens
    return {
        "input_ids": input_ids,
        "position_ids": position_ids,
        "segments": segments,
        "labels": labels,
    }


def collate_multiple_choice(
    sources: Sequence[EncodedSource], locations: SampleLocations, *, pad_id: int
) -> dict[str, NDArray[Any]]:
    """The samples at these locations of these sources, choice by choice.

    Returns ``input_ids``, ``attention_mask`` and ``token_type_ids``, int64
    ``[samples, choices, tokens]``, padded on the right to the longest pair and to the most choices;
    ``labels``, the right choices, and ``choice_counts``, int64 ``[samples]``.  The pairs that are
    missing from a sample with fewer choices are one padding token that is not masked, so that
    attention has something to look at: their logits are finite and mean nothing.
    """
    rows: list[list[tuple[NDArray[Any], NDArray[Any]]]] = []
    labels: list[int] = []
    where = zip(
        locations.source.tolist(), locations.shard.tolist(), locations.sample.tolist(), strict=True
    )
    for source, number, sample in where:
        shard = sources[source].shards[number]
        tokens, types = shard.array("tokens"), shard.array("token_types")
        bounds = pairwise(shard.choice_offsets(sample).tolist())
        rows.append([(tokens[start:end], types[start:end]) for start, end in bounds])
        labels.append(shard.label(sample))
    return {**pad_choices(rows, pad_id=pad_id), "labels": np.array(labels, dtype=np.int64)}


def pad_choices(
    rows: Sequence[Sequence[tuple[Sequence[int] | NDArray[Any], Sequence[int] | NDArray[Any]]]],
    *,
    pad_id: int,
) -> dict[str, NDArray[np.int64]]:
    """The pairs of some samples, each as its token ids and token types, in one array.

    Returns what :func:`collate_multiple_choice` does, without the labels.
    """
    counts = np.array([len(row) for row in rows], dtype=np.int64)
    longest = max((len(tokens) for row in rows for tokens, _ in row), default=0)
    shape = (len(rows), int(counts.max(initial=0)), longest)
    input_ids = np.full(shape, pad_id, dtype=np.int64)
    attention_mask = np.zeros(shape, dtype=np.int64)
    token_type_ids = np.zeros(shape, dtype=np.int64)
    attention_mask[:, :, :1] = 1
    for number, row in enumerate(rows):
        for choice, (tokens, types) in enumerate(row):
            input_ids[number, choice, : len(tokens)] = tokens
            attention_mask[number, choice, : len(tokens)] = 1
            token_type_ids[number, choice, : len(tokens)] = types
    return {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "token_type_ids": token_type_ids,
        "choice_counts": counts,
    }


def collate_texts(
    sources: Sequence[EncodedSource], locations: SampleLocations, *, pad_id: int
) -> dict[str, NDArray[np.int64]]:
    """The texts, or pairs, at these locations of these sources, padded on the right.

    Returns what :func:`pad_texts` does.
    """
    rows = []
    where = zip(
        locations.source.tolist(), locations.shard.tolist(), locations.sample.tolist(), strict=True
    )
    for source, number, sample in where:
        shard = sources[source].shards[number]
        starts, ends = shard.token_bounds
        part = slice(starts.item(sample), ends.item(sample))
        rows.append((shard.array("tokens")[part], shard.array("token_types")[part]))
    return pad_texts(rows, pad_id=pad_id)


def pad_texts(
    rows: Sequence[tuple[Sequence[int] | NDArray[Any], Sequence[int] | NDArray[Any]]],
    *,
    pad_id: int,
) -> dict[str, NDArray[np.int64]]:
    """Texts, each as its token ids and token types, in one array.

    Returns ``input_ids``, ``attention_mask`` and ``token_type_ids`` (0 on padding), int64
    ``[texts, tokens]``, padded on the right to the longest.
    """
    shape = (len(rows), max((len(tokens) for tokens, _ in rows), default=0))
    input_ids = np.full(shape, pad_id, dtype=np.int64)
    attention_mask = np.zeros(shape, dtype=np.int64)
    token_type_ids = np.zeros(shape, dtype=np.int64)
    for number, (tokens, types) in enumerate(rows):
        input_ids[number, : len(tokens)] = tokens
        attention_mask[number, : len(tokens)] = 1
        token_type_ids[number, : len(tokens)] = types
    return {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "token_type_ids": token_type_ids,
    }


def slices_of(
    sources: Sequence[EncodedSource], locations: SampleLocations, names: Sequence[str]
) -> list[tuple[NDArray[Any], ...]]:
    """The part of some flat arrays, one number a token, that belongs to each sample."""
    # Slices of a few hundred tokens: one index array over all tokens would cost several times more.
    opened: dict[tuple[int, int], tuple[list[NDArray[Any]], NDArray[Any], NDArray[Any]]] = {}
    slices: list[tuple[NDArray[Any], ...]] = []
    where = zip(
        locations.source.tolist(), locations.shard.tolist(), locations.sample.tolist(), strict=True
    )
    for source, shard, sample in where:
        if (source, shard) not in opened:
            encoded = sources[source].shards[shard]
            arrays = [encoded.array(name) for name in names]
            opened[source, shard] = (arrays, *encoded.token_bounds)
        arrays, starts, ends = opened[source, shard]
        start, end = starts.item(sample), ends.item(sample)
        slices.append(tuple(array[start:end] for array in arrays))
    return slices


def _gather(sources: Sequence[EncodedSource], locations: SampleLocations) -> list[LabelledTokens]:
    """Tokens and labels of each sample."""
    return [
        (tokens, labels) for tokens, labels in slices_of(sources, locations, ("tokens", "labels"))
    ]


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
