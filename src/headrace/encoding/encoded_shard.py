"""One encoded shard: all of its samples, some of them, or a stand-in for one that is left out."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.encoding import store
from headrace.encoding.report import EncodingReport, report_of


@dataclass(frozen=True)
class EncodedShard:
    """The sidecar of one shard.  Arrays are mapped when they are first used."""

    name: str
    """File name of the shard."""
    folder: Path
    meta: dict[str, Any] = field(repr=False)

    def __len__(self) -> int:
        return int(self.meta.get("sequences", self.meta["samples"]))

    @property
    def texts(self) -> int:
        """Samples of the shard itself; fewer than the encoded ones where texts are cut."""
        return int(self.meta["samples"])

    def sequences_of(self, texts: NDArray[np.int64]) -> NDArray[np.int64]:
        """The encoded samples that some samples of the shard have become, in their order."""
        if "text_offsets" not in self.meta["arrays"]:
            return texts
        return parts_of(texts, self.array("text_offsets"))

    def choose(self, texts: NDArray[np.int64]) -> EncodedShard:
        """Some samples of the shard, by their numbers, ascending."""
        meta = {**self.meta, "samples": len(texts)}
        return ChosenShard(self.name, self.folder, meta, self.sequences_of(texts))

    def living(self) -> EncodedShard:
        """The samples that are not removed: all."""
        return self

    @cached_property
    def report(self) -> EncodingReport:
        """Counts of this shard."""
        return report_of(self.meta["spec"]["task"], self.meta["report"])

    @property
    def subsets(self) -> list[str]:
        """Names of the subsets that occur in this shard."""
        return list(self.meta["subsets"])

    @property
    def choices(self) -> int:
        """Choices that a sample has at most; 1 where the task has none."""
        return int(self.meta.get("choices", 1))

    @cached_property
    def token_bounds(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """``[samples]`` each: where the tokens of each sample begin, and where they end."""
        offsets = self.array("token_offsets")
        if "sequence_offsets" in self.meta["arrays"]:
            offsets = offsets[self.array("sequence_offsets")]
        return offsets[:-1], offsets[1:]

    @cached_property
    def token_counts(self) -> NDArray[np.int32]:
        """``[samples]``: tokens of each sample, special tokens included."""
        starts, ends = self.token_bounds
        return (ends - starts).astype(np.int32)

    @property
    def lengths(self) -> NDArray[np.int32]:
        """``[samples]``: what each sample costs in a batch of its like: its tokens, and where it
        has several sequences, the padding that makes them equally long."""
        return self.array("lengths") if "lengths" in self.meta["arrays"] else self.token_counts

    @property
    def label_counts(self) -> NDArray[np.int32]:
        """``[samples]``: labels of each sample that take part in the loss."""
        return self.array("label_counts")

    def tokens(self, sample: int) -> NDArray[Any]:
        """``[tokens]``, uint16 or uint32: token ids of a sample."""
        return self._slice("tokens", "token_offsets", sample)

    def labels(self, sample: int) -> NDArray[np.int16]:
        """``[tokens]``: tag id on the first piece of each word, -100 elsewhere."""
        return self._slice("labels", "token_offsets", sample)

    def word_positions(self, sample: int) -> NDArray[np.int16]:
        """``[words]``: token index of the first piece of each word, -1 if there is none."""
        return self._slice("word_positions", "word_offsets", sample)

    def word_tags(self, sample: int) -> NDArray[np.int16]:
        """``[words]``: gold tag ids."""
        return self._slice("word_tags", "word_offsets", sample)

    def label(self, sample: int) -> int:
        """The right choice of a sample, counted from 0, or the number of the sample's label."""
        return int(self.array("labels")[self._row(sample)])

    def label_name(self, sample: int) -> str | None:
        """The label of a whole sample; None if it has none."""
        number = self.label(sample)
        return None if number < 0 else str(self.meta["labels"][number])

    def score(self, sample: int) -> float:
        """The score of a whole sample; not a number if it has none."""
        return float(self.array("scores")[self._row(sample)])

    def bytes(self, sample: int) -> int:
        """Bytes of text that a sample stands for; 0 where they are not counted."""
        if "byte_counts" not in self.meta["arrays"]:
            return 0
        return int(self.array("byte_counts")[self._row(sample)])

    def choice_offsets(self, sample: int) -> NDArray[np.int64]:
        """``[choices + 1]``: where the tokens of each choice of a sample begin and end."""
        row, bounds = self._row(sample), self.array("sequence_offsets")
        return self.array("token_offsets")[bounds[row] : bounds[row + 1] + 1]

    def subset(self, sample: int) -> str | None:
        """Name of the subset that a sample belongs to, if it says so."""
        return self._name("subsets", sample)

    def question(self, sample: int) -> str | None:
        """What is asked of a sample with choices, if it says so."""
        return self._name("questions", sample)

    def array(self, name: str) -> NDArray[Any]:
        """A whole array, mapped read-only."""
        return store.open_array(self.folder, self.meta, name)

    def _name(self, kind: str, sample: int) -> str | None:
        number = int(self.array(kind)[self._row(sample)])
        return self.meta[kind][number - 1] if number else None

    def _slice(self, name: str, offsets: str, sample: int) -> NDArray[Any]:
        row = self._row(sample)
        bounds = self.array(offsets)
        return self.array(name)[bounds[row] : bounds[row + 1]]

    def _row(self, sample: int) -> int:
        """The number of a sample in the arrays."""
        if not 0 <= sample < len(self):
            raise IndexError(f"sample {sample} of {len(self)} in {self.name}")
        return sample


@dataclass(frozen=True)
class ChosenShard(EncodedShard):
    """Some samples of a shard, counted from 0 on; the arrays are those of the whole shard.

    So is the report: what was lost is counted over all samples.  ``texts`` are the chosen ones.
    """

    numbers: NDArray[np.int64] = field(repr=False)
    """``[samples]``: the number of each in the shard, ascending."""

    def __len__(self) -> int:
        return len(self.numbers)

    @cached_property
    def token_bounds(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """``[samples]`` each: where the tokens of each sample begin, and where they end."""
        starts, ends = super().token_bounds
        return starts[self.numbers], ends[self.numbers]

    @cached_property
    def lengths(self) -> NDArray[np.int32]:
        """``[samples]``: what each sample costs in a batch of its like."""
        if "lengths" in self.meta["arrays"]:
            return self.array("lengths")[self.numbers]
        return self.token_counts

    @cached_property
    def label_counts(self) -> NDArray[np.int32]:
        """``[samples]``: labels of each sample that take part in the loss."""
        return self.array("label_counts")[self.numbers]

    def _row(self, sample: int) -> int:
        return int(self.numbers[super()._row(sample)])


@dataclass(frozen=True)
class LeftOutShard(EncodedShard):
    """Stands for a shard that a run goes on without: batches are planned with it all the same.

    Its samples have lengths as those of the intact shards, so that what they leave behind is
    spread over all batches.
    """

    typical_lengths: NDArray[np.int32] = field(repr=False)
    """``[samples]``."""

    @property
    def lengths(self) -> NDArray[np.int32]:
        """``[samples]``: the lengths that batches are planned with."""
        return self.typical_lengths

    @cached_property
    def label_counts(self) -> NDArray[np.int32]:
        """``[samples]``: no sample of it is learned from."""
        return np.zeros(len(self), dtype=np.int32)

    @property
    def token_counts(self) -> NDArray[np.int32]:
        """``[samples]``: no token of it is seen."""
        return self.label_counts

    def array(self, name: str) -> NDArray[Any]:
        """There are no arrays: whoever asks has forgotten to leave the shard out."""
        raise LookupError(f"{self.name} is left out, it has no array {name}")


def parts_of(wholes: NDArray[np.int64], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers of the parts of some wholes, whose parts lie between ``offsets`` ``[wholes + 1]``."""
    first, counts = offsets[wholes], offsets[wholes + 1] - offsets[wholes]
    starts = np.cumsum(counts) - counts
    numbers: NDArray[np.int64] = np.arange(counts.sum()) + np.repeat(first - starts, counts)
    return numbers
