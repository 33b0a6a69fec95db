"""Masked-language modelling: words are masked anew in every pass, and the network restores them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForMaskedLM

from headrace.config.task_sections import MaskedLMConfig
from headrace.encoding.collate import (
    LabelledTokens,
    SampleLocations,
    slices_of,
)
from headrace.encoding.language_model import LanguageModelEncoder, frame_of_masked_lm
from headrace.encoding.sidecar import EncodedSource
from headrace.encoding.task_encoder import offsets_of
from headrace.stream.feistel import derive_key
from headrace.tasks.kept_places import logits_at
from headrace.tasks.language_model import LanguageModelTask, add_losses
from headrace.tasks.language_model_metrics import LanguageModelScores
from headrace.tasks.masking import (
    MASKED_SHARE,
    Sequences,
    Vocabulary,
    chosen_tokens,
    keys_of,
    mask,
    words_masked,
)
from headrace.tasks.task import IGNORED

if TYPE_CHECKING:
    from headrace.shards.reader import ShardReader

_ALWAYS_THE_SAME = derive_key("masks that are always the same")


class MaskedLM(LanguageModelTask):
    """The task of restoring masked tokens."""

    name = "masked_lm"
    section = MaskedLMConfig
    model_class = AutoModelForMaskedLM
    pipeline_tag = "fill-mask"
    scores: ClassVar[Mapping[str, str]] = {
        "perplexity": "Perplexity",
        "token_accuracy": "Token accuracy",
    }
    number_scores = frozenset({"perplexity"})
    lower_is_better = frozenset({"perplexity"})

    def __init__(
        self,
        *,
        masked_share: float = MASKED_SHARE,
        whole_word: bool = False,
        vocabulary: Vocabulary | None = None,
    ) -> None:
        """Mask a share of the tokens or, with ``whole_word``, of the words.

        Without ``vocabulary`` nothing can be masked: see :meth:`for_tokenizer`.
        """
        self.masked_share = masked_share
        self.whole_word = whole_word
        self._vocabulary = vocabulary

    @classmethod
    def from_config(
        cls, config: MaskedLMConfig, train: Mapping[str, ShardReader] | None
    ) -> MaskedLM:
        """Return the task of a run."""
        return cls(masked_share=config.masked_share, whole_word=config.whole_word)

    @classmethod
    def of_model(
        cls, settings: Any, facts: Mapping[str, Any], where: str
    ) -> tuple[MaskedLM, Sequence[int]]:
        """Return the task of any model, masked as in its training."""
        known = {name: facts[name] for name in ("masked_share", "whole_word") if name in facts}
        return cls(**known), ()

    def for_tokenizer(self, tokenizer: Any) -> MaskedLM:
        """Return the task with the vocabulary of a tokenizer.

        Raises:
            EncodingError: if it has no mask token.
        """
        return MaskedLM(
            masked_share=self.masked_share,
            whole_word=self.whole_word,
            vocabulary=Vocabulary.of(tokenizer),
        )

    @property
    def described(self) -> tuple[str, str]:
        """The share that is masked, and of what."""
        units = "words" if self.whole_word else "tokens"
        return "task", f"masked-language modelling, {self.masked_share:.0%} of the {units}"

    def encoder(self, tokenizer: Any, max_length: int) -> LanguageModelEncoder:
        """Return a new encoder, for one source."""
        return LanguageModelEncoder(
            tokenizer,
            max_length,
            task=self.name,
            frame=frame_of_masked_lm(tokenizer),
            words=self.whole_word,
        )

    def labels_in(
        self,
        label_counts: NDArray[np.int32],
        sources: Sequence[EncodedSource],
        locations: SampleLocations,
        key: int | None,
    ) -> int:
        """Return how many tokens are masked, on whichever rank."""
        keys = keys_of(_ALWAYS_THE_SAME if key is None else key, sources, locations)
        if not self.whole_word:
            return int(words_masked(label_counts, keys, self.masked_share).sum())
        sequences = self._sequences(sources, locations)
        return int(chosen_tokens(sequences, keys, self.masked_share, self.vocabulary).sum())

    @property
    def vocabulary(self) -> Vocabulary:
        """That of the tokenizer; ``ValueError`` before there is one."""
        if self._vocabulary is None:
            raise ValueError("the task has no tokenizer yet: for_tokenizer gives one")
        return self._vocabulary

    def _sequences(self, sources: Sequence[EncodedSource], locations: SampleLocations) -> Sequences:
        names = ("tokens", "word_starts") if self.whole_word else ("tokens",)
        parts = slices_of(sources, locations, names)
        lengths = np.array([len(tokens) for tokens, *_ in parts], dtype=np.int64)
        nothing = np.zeros(0, dtype=np.int64)
        tokens = np.concatenate([nothing, *(tokens for tokens, *_ in parts)]).astype(np.int64)
        found = Sequences(tokens, offsets_of(lengths))
        if not self.whole_word:
            return found
        starts = np.concatenate([nothing, *(starts for _, starts in parts)]).astype(np.bool_)
        return replace(found, word_starts=starts)

    def rows(
        self, sources: Sequence[EncodedSource], locations: SampleLocations, key: int | None
    ) -> list[LabelledTokens]:
        """Return each sequence with its masks; labels are what was masked."""
        sequences = self._sequences(sources, locations)
        keys = keys_of(_ALWAYS_THE_SAME if key is None else key, sources, locations)
        ids, labels = mask(sequences, keys, self.masked_share, self.vocabulary)
        bounds = pairwise(sequences.offsets.tolist())
        return [(ids[start:end], labels[start:end]) for start, end in bounds]

    def loss_sum(
        self, network: torch.nn.Module, batch: Mapping[str, Any], *, training: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the summed cross-entropy of the masked tokens, and their logits.

        The logits are those of the masked tokens alone, [masked, vocabulary], row after row: the
        head does not compute the others.
        """
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        rows, columns = torch.nonzero(batch["labels"] != IGNORED, as_tuple=True)
        labels = batch["labels"][rows, columns]
        if not len(labels):
            # every weight takes part all the same, for the collectives of ZeRO
            rows = columns = torch.zeros(1, dtype=torch.int64, device=labels.device)
            logits = logits_at(network, rows, columns, **inputs)
            return logits.float().sum() * 0, logits[:0]
        logits = logits_at(network, rows, columns, **inputs)
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return torch.nn.functional.cross_entropy(wide, labels, reduction="sum"), logits

    def draw_labels(
        self, logits: torch.Tensor, batch: Mapping[str, Any], random: torch.Generator
    ) -> dict[str, torch.Tensor]:
        """Return labels drawn from what the network predicts in place of the masked tokens."""
        labels: torch.Tensor = batch["labels"].clone()
        if len(logits):
            probabilities = logits.detach().float().softmax(-1).cpu()
            drawn = torch.multinomial(probabilities, 1, generator=random)[:, 0]
            labels[labels != IGNORED] = drawn.to(labels.device)
        return {"labels": labels}

    def score(
        self,
        scores: LanguageModelScores,
        source: EncodedSource,
        samples: SampleLocations,
        logits: torch.Tensor,
        batch: Mapping[str, Any],
    ) -> None:
        """Add the losses of masked tokens, and whether the likeliest token is right."""
        labels = batch["labels"]
        rows, columns = torch.nonzero(labels != IGNORED, as_tuple=True)
        add_losses(scores, source, samples, logits, labels[rows, columns], rows)

    def facts(self) -> dict[str, Any]:
        """Return how texts are masked."""
        return {"masked_share": self.masked_share, "whole_word": self.whole_word}
