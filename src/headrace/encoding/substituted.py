"""An encoded shard with removed samples: as many sequences as before, of living samples alone.

Each sequence of a removed sample keeps its number and the length that batches are planned with,
and another sequence of the shard that is no longer stands in for it.  Where none is as short, the
sequence is absent: its batch is planned with it and then goes without it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.encoding.encoded_shard import ChosenShard, EncodedShard, parts_of
from headrace.encoding.planned import Planned
from headrace.encoding.task_encoder import offsets_of
from headrace.shards.substitutes import choose_substitutes, seed_of
from headrace.shards.tombstones import RemovedSamples

_PARTS = np.uint64(1 << 20)
"""More sequences than a sample has."""


@dataclass(frozen=True)
class SubstitutedShard(ChosenShard):
    """Some samples of a shard are removed; ``numbers`` are those of what is read, in ``own``."""

    own: EncodedShard
    """The sidecar, which has the living samples alone."""
    planned: NDArray[np.int32] = field(repr=False)
    """``[samples]``: the lengths that batches are planned with."""
    text_starts: NDArray[np.int64] = field(repr=False)
    """``[texts + 1]``: where the encoded samples of each sample of the shard begin."""
    is_removed: NDArray[np.bool_] = field(repr=False)
    """``[samples]``."""
    seeds: NDArray[np.uint64] = field(repr=False)
    """``[samples]``: what the substitute of each follows from; 0 for living ones."""
    ids: NDArray[np.uint64] = field(repr=False)
    """``[samples]``: what it follows from on the side of those that may be it."""
    absent: NDArray[np.bool_] = field(repr=False)
    """``[samples]``: removed, and nothing is as short."""

    @property
    def substituted(self) -> int:
        """Samples that another one stands in for."""
        return int((self.is_removed & ~self.absent).sum())

    def sequences_of(self, texts: NDArray[np.int64]) -> NDArray[np.int64]:
        """The encoded samples that some samples of the shard have become, in their order."""
        return parts_of(texts, self.text_starts)

    @property
    def lengths(self) -> NDArray[np.int32]:
        """``[samples]``: the lengths that batches are planned with."""
        return self.planned

    @cached_property
    def label_counts(self) -> NDArray[np.int32]:
        """``[samples]``: labels of each sample that take part in the loss."""
        counts = self.own.label_counts[self.numbers]
        counts[self.absent] = 0
        return counts

    def choose(self, texts: NDArray[np.int64]) -> SubstitutedShard:
        """Some samples of the shard; living ones of them stand in for removed ones, if any."""
        rows = self.sequences_of(texts)
        counts = self.text_starts[texts + 1] - self.text_starts[texts]
        some = replace(
            self,
            meta={**self.meta, "samples": len(texts)},
            numbers=self.numbers[rows],
            planned=self.planned[rows],
            text_starts=offsets_of(counts),
            is_removed=self.is_removed[rows],
            seeds=self.seeds[rows],
            ids=self.ids[rows],
            absent=self.absent[rows],
        )
        return some if some.is_removed.all() else some._chosen_anew()

    def living(self) -> EncodedShard:
        """The samples that are not removed."""
        return self.own

    def _chosen_anew(self) -> SubstitutedShard:
        removed = np.flatnonzero(self.is_removed)
        chosen = choose_substitutes(
            self.planned, ~self.is_removed, removed, self.seeds[removed], self.ids
        )
        numbers, absent = self.numbers.copy(), np.zeros(len(self.numbers), dtype=np.bool_)
        # What is absent is never read; it has some number all the same.
        numbers[removed] = self.numbers[np.where(chosen < 0, np.argmin(self.is_removed), chosen)]
        absent[removed] = chosen < 0
        return replace(self, numbers=numbers, absent=absent)


@dataclass(frozen=True)
class RemovedShard(EncodedShard):
    """All samples of a shard are removed: batches are planned with them and go without them."""

    planned: NDArray[np.int32] = field(repr=False)
    """``[samples]``."""
    text_starts: NDArray[np.int64] = field(repr=False)
    """``[texts + 1]``: where the encoded samples of each sample of the shard begin."""

    def __len__(self) -> int:
        return len(self.planned)

    @property
    def lengths(self) -> NDArray[np.int32]:
        """``[samples]``: the lengths that batches are planned with."""
        return self.planned

    def sequences_of(self, texts: NDArray[np.int64]) -> NDArray[np.int64]:
        """The encoded samples that some samples of the shard had become, in their order."""
        return parts_of(texts, self.text_starts)

    @property
    def absent(self) -> NDArray[np.bool_]:
        """``[samples]``: all of them."""
        return np.ones(len(self), dtype=np.bool_)

    @cached_property
    def label_counts(self) -> NDArray[np.int32]:
        """``[samples]``: no sample of it is learned from."""
        return np.zeros(len(self), dtype=np.int32)

    @property
    def token_counts(self) -> NDArray[np.int32]:
        """``[samples]``: no token of it is seen."""
        return self.label_counts

    def choose(self, texts: NDArray[np.int64]) -> EncodedShard:
        """Some samples of the shard."""
        counts = self.text_starts[texts + 1] - self.text_starts[texts]
        return replace(
            self,
            meta={**self.meta, "samples": len(texts)},
            planned=self.planned[self.sequences_of(texts)],
            text_starts=offsets_of(counts),
        )

    def living(self) -> EncodedShard:
        """No sample."""
        return self.choose(np.zeros(0, dtype=np.int64))

    def array(self, name: str) -> NDArray[Any]:
        """There are no arrays: whoever asks has forgotten to leave the shard out."""
        raise LookupError(f"all samples of {self.name} are removed, it has no array {name}")


def removed_shard(
    name: str, folder: Path, removed: RemovedSamples, planned: Planned
) -> RemovedShard:
    """A shard of which nothing lives; there is nothing in its folder."""
    known = [planned[number] for number in removed.numbers.tolist()]
    lengths = [[1] if of_text is None else of_text for of_text in known]
    counts = np.array([len(of_text) for of_text in lengths], dtype=np.int64)
    meta = {"samples": len(removed), "subsets": [], "arrays": {}}
    flat = np.array([length for of_text in lengths for length in of_text], dtype=np.int32)
    return RemovedShard(name, folder, meta, flat, offsets_of(counts))


def substituted_shard(
    own: EncodedShard, samples: int, removed: RemovedSamples, planned: Planned
) -> SubstitutedShard:
    """Put substitutes in the places of removed samples.

    Args:
        own: the sidecar of the living samples.
        samples: samples of the shard, removed ones included.
        removed: those that are removed, not all of them.
        planned: their lengths; of one without, a length is taken that a living sample has.
    """
    gone = np.zeros(samples, dtype=np.bool_)
    gone[removed.numbers] = True
    numbers_of_removed = removed.numbers.tolist()
    counts = np.ones(samples, dtype=np.int64)
    if "text_offsets" in own.meta["arrays"]:
        counts[~gone] = np.diff(own.array("text_offsets"))
    known = [planned[number] for number in numbers_of_removed]
    counts[gone] = [1 if lengths is None else len(lengths) for lengths in known]
    starts = offsets_of(counts)
    text_of = np.repeat(np.arange(samples), counts)
    is_removed = gone[text_of]
    parts = np.arange(len(text_of)) - starts[text_of]
    keys = dict(zip(numbers_of_removed, removed.keys, strict=True))
    seeds = np.zeros(len(text_of), dtype=np.uint64)
    rows = np.flatnonzero(is_removed)
    seeds[rows] = np.array(
        [
            seed_of(keys[text], part)
            for text, part in zip(text_of[rows].tolist(), parts[rows].tolist(), strict=True)
        ],
        dtype=np.uint64,
    )
    ids = text_of.astype(np.uint64) * _PARTS + parts.astype(np.uint64)
    numbers = np.zeros(len(text_of), dtype=np.int64)
    numbers[~is_removed] = np.arange(len(own))
    lengths = np.zeros(len(text_of), dtype=np.int32)
    lengths[~is_removed] = own.lengths
    lengths[rows] = [length for of_text in known for length in (of_text or [0] * (of_text is None))]
    unknown = rows[np.repeat([of_text is None for of_text in known], counts[gone])]
    if unknown.size and len(own):
        like = choose_substitutes(
            np.zeros(len(text_of), np.int64), ~is_removed, unknown, seeds[unknown], ids
        )
        lengths[unknown] = lengths[like]
    shard = SubstitutedShard(
        own.name,
        own.folder,
        {**own.meta, "samples": samples},
        numbers,
        own,
        lengths,
        starts,
        is_removed,
        seeds,
        ids,
        is_removed.copy(),
    )
    return shard if is_removed.all() else shard._chosen_anew()
