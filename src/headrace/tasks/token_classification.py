"""Token classification: the loss, and turning a network's answers back into tags of words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForTokenClassification

from headrace.config.task_sections import DISCOVER, TokenClassificationConfig
from headrace.encoding.collate import SampleLocations, collate_token_classification
from headrace.encoding.sidecar import EncodedSource
from headrace.encoding.token_classification import TokenClassificationEncoder
from headrace.errors import Problem
from headrace.tasks.labels import LabelSet, discover_label_set, load_label_set
from headrace.tasks.model_labels import label_set_of_model
from headrace.tasks.ner_metrics import NerScores
from headrace.tasks.task import IGNORED, Task

if TYPE_CHECKING:
    from headrace.shards.reader import ShardReader


class TokenClassification(Task):
    """The task of tagging words, for one label set."""

    name = "token_classification"
    section = TokenClassificationConfig
    model_class = AutoModelForTokenClassification
    pipeline_tag = "token-classification"
    scores: ClassVar[Mapping[str, str]] = {
        "fine_macro_f1": "Fine macro F1",
        "coarse_macro_f1": "Coarse macro F1",
        "micro_f1": "Micro F1",
    }

    def __init__(self, label_set: LabelSet, *, label_smoothing: float = 0.0) -> None:
        self.label_set = label_set
        self.label_smoothing = label_smoothing

    @classmethod
    def from_config(
        cls, config: TokenClassificationConfig, train: Mapping[str, ShardReader] | None
    ) -> TokenClassification | None:
        """Return the task of a run; its labels may be those of the training shards."""
        if config.labels != DISCOVER:
            label_set = load_label_set(config.labels)
        elif train is not None:
            label_set = discover_label_set(train.values())
        else:
            return None
        return cls(label_set, label_smoothing=config.label_smoothing)

    @classmethod
    def of_model(
        cls, settings: Any, facts: Mapping[str, Any], where: str
    ) -> tuple[TokenClassification, Sequence[int]]:
        """Return the task of a model whose labels are IOB2 tags."""
        label_set, order = label_set_of_model(settings.id2label, facts, where)
        return cls(label_set), order

    @property
    def described(self) -> tuple[str, str]:
        """The name of the label set and the number of tags."""
        return "labels", f"{self.label_set.name}, {len(self.label_set.tags)} tags"

    def model_settings(self) -> dict[str, Any]:
        """Return the settings of a Hugging Face config that carry the labels."""
        return {
            "num_labels": len(self.label_set.tags),
            "id2label": dict(enumerate(self.label_set.tags)),
            "label2id": dict(self.label_set.tag_ids),
        }

    def encoder(self, tokenizer: Any, max_length: int) -> TokenClassificationEncoder:
        """Return a new encoder, for one source."""
        return TokenClassificationEncoder(tokenizer, self.label_set, max_length)

    def collate(
        self,
        sources: Sequence[EncodedSource],
        locations: SampleLocations,
        *,
        pad_id: int,
        key: int | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Return ``input_ids``, ``attention_mask`` and ``labels`` as int64[samples, tokens]."""
        return collate_token_classification(sources, locations, pad_id=pad_id)

    def idle(self, pad_id: int) -> dict[str, torch.Tensor]:
        """Return one token without a label."""
        one = torch.ones((1, 1), dtype=torch.int64)
        return {"input_ids": pad_id * one, "attention_mask": one, "labels": IGNORED * one}

    def loss_sum(
        self, network: torch.nn.Module, batch: Mapping[str, Any], *, training: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the summed cross-entropy over the labelled tokens, and the logits.

        The logits have the shape [rows, tokens, tags].  Labels are smoothed in training.
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

    def score(
        self,
        scores: NerScores,
        source: EncodedSource,
        samples: SampleLocations,
        logits: torch.Tensor,
        batch: Mapping[str, Any],
    ) -> None:
        """Add the predicted tags of some samples, beside the gold ones."""
        predicted = logits.argmax(-1).cpu().numpy()
        places = zip(samples.shard.tolist(), samples.sample.tolist(), strict=True)
        for row, (shard_number, index) in enumerate(places):
            shard = source.shards[shard_number]
            scores.update(
                self.names_of_tags(shard.word_tags(index)),
                self.tags_of_words(predicted[row], shard.word_positions(index)),
                shard.subset(index),
            )

    def facts(self) -> dict[str, Any]:
        """Return the name of the label set and the family of each type."""
        return {"label_set": self.label_set.name, "families": dict(self.label_set.coarse)}

    def problems_of(self, sources: Mapping[str, ShardReader]) -> list[Problem]:
        """Find the entity types that manifests count and the label set lacks.

        Sources whose manifest counts no types are checked tag by tag when they are encoded.
        """
        return [
            self.label_set.unknown_tag(f"B-{name}", reader.url)
            for reader in sources.values()
            for name in sorted(reader.manifest.metadata.get("entities", {}))
            if name not in self.label_set.types
        ]

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
