"""Token classification: the loss, and turning a network's answers back into tags of words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForTokenClassification

from headrace.tasks.labels import LabelSet
from headrace.tasks.ner_metrics import NerScores

IGNORED = -100
"""Label of a token that has no part in the loss (the convention of torch's cross-entropy)."""


class TokenClassification:
    """The task of tagging words, for one label set."""

    name = "token_classification"
    model_class = AutoModelForTokenClassification

    def __init__(self, label_set: LabelSet, *, label_smoothing: float = 0.0) -> None:
        self.label_set = label_set
        self.label_smoothing = label_smoothing

    def model_settings(self) -> dict[str, Any]:
        """Return the settings of a Hugging Face config that carry the labels."""
        return {
            "num_labels": len(self.label_set.tags),
            "id2label": dict(enumerate(self.label_set.tags)),
            "label2id": dict(self.label_set.tag_ids),
        }

    def loss_sum(
        self, network: torch.nn.Module, batch: Mapping[str, Any], *, training: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the summed cross-entropy over the labelled tokens, and the logits.

        Args:
            network: gives ``logits`` of shape [rows, tokens, tags].
            batch: ``labels``, int64[rows, tokens], and what the network is called with:
                ``input_ids``, ``attention_mask`` and what else it needs.
            training: whether the labels are smoothed.  It is not asked of the network: DeepSpeed's
                engine does not change its own ``training`` in ``eval()``.

        The sum, not the mean, is what can be added over micro-batches and ranks: the caller divides
        by the number of labelled tokens of the whole batch.  It is computed in fp32 at least.
        """
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        logits = network(**inputs).logits
        loss = torch.nn.functional.cross_entropy(
            logits.to(torch.promote_types(logits.dtype, torch.float32)).flatten(0, 1),
            batch["labels"].flatten(),
            ignore_index=IGNORED,
            reduction="sum",
            label_smoothing=self.label_smoothing if training else 0.0,
        )
        return loss, logits

    def new_scores(self) -> NerScores:
        """Return an empty account of gold and predicted entities."""
        return NerScores(self.label_set)

    def tags_of_words(
        self, predicted: NDArray[np.int64], word_positions: NDArray[np.int16]
    ) -> list[str]:
        """Return one tag a word.

        Args:
            predicted: tag id of every token, int64[tokens].
            word_positions: token of the first piece of every word, int16[words]; -1 for a word
                that has none, because it was cut off or has no piece: it is tagged ``O``.
        """
        tags = self.label_set.tags
        return ["O" if place < 0 else tags[int(predicted[place])] for place in word_positions]

    def names_of_tags(self, tag_ids: Sequence[int] | NDArray[np.int16]) -> list[str]:
        """Return the tags with the given ids."""
        return [self.label_set.tags[int(identifier)] for identifier in tag_ids]
