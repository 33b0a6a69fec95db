"""What the tasks of language modelling share: rows of tokens with labels, and their account."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from headrace.encoding.collate import LabelledTokens, SampleLocations, pack_labelled, pad_labelled
from headrace.encoding.sidecar import EncodedSource
from headrace.tasks.language_model_metrics import LanguageModelScores
from headrace.tasks.task import IGNORED, Task


class LanguageModelTask(Task):
    """A task whose labels are tokens of the text itself."""

    @abstractmethod
    def rows(
        self, sources: Sequence[EncodedSource], locations: SampleLocations, key: int | None
    ) -> list[LabelledTokens]:
        """Return the tokens of each sample and their labels: see :meth:`collate`."""

    def model_settings(self) -> dict[str, Any]:
        """Return nothing: the outputs are those of the vocabulary."""
        return {}

    def collate(
        self,
        sources: Sequence[EncodedSource],
        locations: SampleLocations,
        *,
        pad_id: int,
        key: int | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Return ``input_ids``, ``attention_mask`` and ``labels`` as int64[samples, tokens]."""
        return pad_labelled(self.rows(sources, locations, key), pad_id=pad_id)

    def collate_packed(
        self,
        sources: Sequence[EncodedSource],
        locations: SampleLocations,
        starts: NDArray[np.int64],
        *,
        pad_id: int,
        pack_length: int,
        key: int | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Return sequences, several in a row: see :func:`pack_labelled`."""
        rows = self.rows(sources, locations, key)
        return pack_labelled(rows, starts, pad_id=pad_id, pack_length=pack_length)

    def idle(self, pad_id: int) -> dict[str, torch.Tensor]:
        """Return one token without a label."""
        one = torch.ones((1, 1), dtype=torch.int64)
        return {"input_ids": pad_id * one, "attention_mask": one, "labels": IGNORED * one}

    def new_scores(self) -> LanguageModelScores:
        """Return an empty account."""
        return LanguageModelScores()


def add_losses(
    scores: LanguageModelScores,
    source: EncodedSource,
    samples: SampleLocations,
    logits: torch.Tensor,
    labels: torch.Tensor,
    rows: torch.Tensor,
) -> None:
    """Add predicted tokens to an account, sample by sample.

    Args:
        scores: the account.
        source: where the samples are from.
        samples: one a row of the batch.
        logits: [labels, vocabulary].
        labels: int64[labels].
        rows: row of each label, int64[labels].
    """
    wide = logits.float()
    losses = torch.nn.functional.cross_entropy(wide, labels, reduction="none").double()
    sums = torch.zeros((3, len(samples.sample)), dtype=torch.float64, device=losses.device)
    right = (wide.argmax(-1) == labels).double()
    for number, values in enumerate((losses, torch.ones_like(losses), right)):
        sums[number].index_add_(0, rows, values)
    places = zip(samples.shard.tolist(), samples.sample.tolist(), strict=True)
    for (shard_number, index), (loss, tokens, correct) in zip(places, sums.T.tolist(), strict=True):
        shard = source.shards[shard_number]
        scores.update(
            loss, int(tokens), int(correct), size=shard.bytes(index), subset=shard.subset(index)
        )
