"""Causal language modelling: the network predicts each token from those before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from headrace.config.task_sections import CausalLMConfig
from headrace.encoding.collate import (
    LabelledTokens,
    SampleLocations,
    slices_of,
)
from headrace.encoding.language_model import LanguageModelEncoder, frame_of_causal_lm
from headrace.encoding.sidecar import EncodedSource
from headrace.errors import Problem
from headrace.tasks.language_model import LanguageModelTask, add_losses
from headrace.tasks.language_model_metrics import LanguageModelScores
from headrace.tasks.task import IGNORED

if TYPE_CHECKING:
    from headrace.shards.reader import ShardReader


class CausalLM(LanguageModelTask):
    """The task of predicting the next token.

    Every sequence begins with a token that stands for the beginning, so that each token of a text
    is predicted once, and its end too.
    """

    name = "causal_lm"
    section = CausalLMConfig
    model_class = AutoModelForCausalLM
    pipeline_tag = "text-generation"
    scores: ClassVar[Mapping[str, str]] = {
        "perplexity": "Perplexity",
        "bits_per_byte": "Bits per byte",
        "token_accuracy": "Token accuracy",
    }
    number_scores = frozenset({"perplexity", "bits_per_byte"})
    lower_is_better = frozenset({"perplexity", "bits_per_byte"})
    is_causal = True

    @classmethod
    def from_config(
        cls, config: CausalLMConfig, train: Mapping[str, ShardReader] | None
    ) -> CausalLM:
        """Return the task of a run."""
        return cls()

    @classmethod
    def of_model(
        cls, settings: Any, facts: Mapping[str, Any], where: str
    ) -> tuple[CausalLM, Sequence[int]]:
        """Return the task of any model."""
        return cls(), ()

    def for_tokenizer(self, tokenizer: Any) -> CausalLM:
        """Return the task itself.

        Raises:
            EncodingError: if the tokenizer has no token for the beginning or the end of a text.
        """
        frame_of_causal_lm(tokenizer)
        return self

    @property
    def described(self) -> tuple[str, str]:
        """The name of the task."""
        return "task", "causal language modelling"

    def encoder(self, tokenizer: Any, max_length: int) -> LanguageModelEncoder:
        """Return a new encoder, for one source."""
        return LanguageModelEncoder(
            tokenizer,
            max_length,
            task=self.name,
            frame=frame_of_causal_lm(tokenizer),
            byte_counts=True,
            special_labels=True,
        )

    def rows(
        self, sources: Sequence[EncodedSource], locations: SampleLocations, key: int | None
    ) -> list[LabelledTokens]:
        """Return each sequence; the label of a token is that token.

        Whoever computes the loss compares it with what was predicted one place before.  The first
        of each sequence is not predicted.
        """
        rows = []
        for (tokens,) in slices_of(sources, locations, ("tokens",)):
            labels = tokens.astype(np.int64)
            labels[0] = IGNORED
            rows.append((tokens, labels))
        return rows

    def loss_sum(
        self, network: torch.nn.Module, batch: Mapping[str, Any], *, training: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the summed cross-entropy of the tokens, and the logits.

        The logits, [rows, tokens, vocabulary], are those that the network gives at a token: what
        they predict is the next one.
        """
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        logits = network(**inputs, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(
            logits[:, :-1].to(torch.promote_types(logits.dtype, torch.float32)).flatten(0, 1),
            batch["labels"][:, 1:].flatten(),
            ignore_index=IGNORED,
            reduction="sum",
        )
        return loss, logits

    def draw_labels(
        self, logits: torch.Tensor, batch: Mapping[str, Any], random: torch.Generator
    ) -> dict[str, torch.Tensor]:
        """Return labels drawn from what the network predicts behind the tokens of the text."""
        labels: torch.Tensor = batch["labels"]
        drawn = super().draw_labels(logits[:, :-1], {"labels": labels[:, 1:]}, random)["labels"]
        return {"labels": torch.cat([labels[:, :1], drawn], dim=1)}

    def score(
        self,
        scores: LanguageModelScores,
        source: EncodedSource,
        samples: SampleLocations,
        logits: torch.Tensor,
        batch: Mapping[str, Any],
    ) -> None:
        """Add the losses of tokens, and whether the likeliest token is right."""
        labels = batch["labels"]
        rows, columns = torch.nonzero(labels != IGNORED, as_tuple=True)
        predicted = logits[rows, columns - 1]  # the first token of a row has no label
        add_losses(scores, source, samples, predicted, labels[rows, columns], rows)

    def facts(self) -> dict[str, Any]:
        """Return nothing: the network's own config says all."""
        return {}

    def problems_of_network(self, settings: Any) -> list[Problem]:
        """Find networks that look at the tokens that they are to predict."""
        if getattr(settings, "is_decoder", True):
            return []
        return [
            Problem(
                "the network looks at the tokens that it is to predict",
                "headrace.model",
                str(settings.model_type),
                "Set headrace.model.config.is_decoder to true, or take a decoder",
            )
        ]
