"""Multiple choice: the network scores each choice with its context, the highest one is chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from numpy.typing import NDArray
from transformers import AutoModelForMultipleChoice

from headrace.config.task_sections import MultipleChoiceConfig
from headrace.encoding.collate import SampleLocations, collate_multiple_choice
from headrace.encoding.multiple_choice import MultipleChoiceEncoder
from headrace.encoding.sidecar import EncodedSource
from headrace.tasks.choice_metrics import ChoiceScores
from headrace.tasks.pair_inputs import pair_inputs
from headrace.tasks.task import IGNORED, Task

if TYPE_CHECKING:
    from headrace.shards.reader import ShardReader


class MultipleChoice(Task):
    """The task of choosing the text that goes with a context.

    The number of choices is not a setting of the network: each pair of a context and a choice is a
    sequence of its own, which gets one score.
    """

    name = "multiple_choice"
    section = MultipleChoiceConfig
    model_class = AutoModelForMultipleChoice
    pipeline_tag = "multiple-choice"
    scores: ClassVar[Mapping[str, str]] = {"accuracy": "Accuracy"}
    # What an encoder was pretrained with may have no use for it: RoBERTa's folders lack it.
    new_modules = ("pooler",)

    def __init__(self, *, label_smoothing: float = 0.0) -> None:
        self.label_smoothing = label_smoothing

    @classmethod
    def from_config(
        cls, config: MultipleChoiceConfig, train: Mapping[str, ShardReader] | None
    ) -> MultipleChoice:
        """Return the task of a run."""
        return cls(label_smoothing=config.label_smoothing)

    @classmethod
    def of_model(
        cls, settings: Any, facts: Mapping[str, Any], where: str
    ) -> tuple[MultipleChoice, Sequence[int]]:
        """Return the task of any model."""
        return cls(), ()

    @property
    def described(self) -> tuple[str, str]:
        """The name of the task."""
        return "task", "multiple choice"

    def model_settings(self) -> dict[str, Any]:
        """Return nothing: the network has one output whatever the choices are."""
        return {}

    def encoder(self, tokenizer: Any, max_length: int) -> MultipleChoiceEncoder:
        """Return a new encoder, for one source."""
        return MultipleChoiceEncoder(tokenizer, max_length)

    def collate(
        self,
        sources: Sequence[EncodedSource],
        locations: SampleLocations,
        *,
        pad_id: int,
        key: int | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Return the pairs of some samples, see :func:`collate_multiple_choice`."""
        return collate_multiple_choice(sources, locations, pad_id=pad_id)

    def idle(self, pad_id: int) -> dict[str, torch.Tensor]:
        """Return a sample of one choice of one token, without a label."""
        one = torch.ones((1, 1, 1), dtype=torch.int64)
        return {
            "input_ids": pad_id * one,
            "attention_mask": one,
            "token_type_ids": 0 * one,
            "labels": IGNORED * one[0, 0],
            "choice_counts": one[0, 0],
        }

    def logits(self, network: Any, batch: Mapping[str, Any]) -> torch.Tensor:
        """Return the scores of all choices, [samples, choices].

        Those of choices that a sample does not have are minus infinity.
        """
        logits: torch.Tensor = network(**pair_inputs(network, batch)).logits
        return logits.masked_fill(_missing(logits, batch["choice_counts"]), -torch.inf)

    def loss_sum(
        self, network: torch.nn.Module, batch: Mapping[str, Any], *, training: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the summed cross-entropy of the samples, and the logits, as :meth:`logits` does.

        Labels are smoothed in training, over the choices of each sample.
        """
        logits = self.logits(network, batch)
        counts, labels = batch["choice_counts"], batch["labels"]
        scores = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
        losses = -scores.gather(1, labels.clamp(min=0)[:, None])[:, 0]
        if training and self.label_smoothing:
            # torch's own smoothing would give the missing choices a share, of infinite loss
            spread = -scores.masked_fill(_missing(logits, counts), 0).sum(-1) / counts
            losses = (1 - self.label_smoothing) * losses + self.label_smoothing * spread
        return (losses * (labels >= 0)).sum(), logits

    def new_scores(self) -> ChoiceScores:
        """Return an empty account of right answers."""
        return ChoiceScores()

    def score(
        self,
        scores: ChoiceScores,
        source: EncodedSource,
        samples: SampleLocations,
        logits: torch.Tensor,
        batch: Mapping[str, Any],
    ) -> None:
        """Add the chosen ones of some samples, beside the right ones."""
        chosen = logits.argmax(-1).tolist()
        places = zip(samples.shard.tolist(), samples.sample.tolist(), strict=True)
        for answer, (shard_number, index) in zip(chosen, places, strict=True):
            shard = source.shards[shard_number]
            scores.update(
                shard.label(index),
                answer,
                len(shard.choice_offsets(index)) - 1,
                subset=shard.subset(index),
                question=shard.question(index),
            )

    def facts(self) -> dict[str, Any]:
        """Return nothing: the network's own config says all."""
        return {}


def _missing(logits: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    return torch.arange(logits.shape[1], device=logits.device) >= counts[:, None]
