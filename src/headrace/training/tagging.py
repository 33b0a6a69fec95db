"""Tagging sentences with a trained model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from headrace.encoding.alignment import WordAligner
from headrace.tasks.calibration import Floats, probabilities
from headrace.tasks.token_classification import TokenClassification
from headrace.training.inference import TrainedModel, check_task
from headrace.training.windows import batches_by_cost, in_windows


@dataclass(frozen=True)
class TaggedSentence:
    """The answer to one sentence."""

    tags: list[str]
    """One tag a word; ``O`` for a word that was cut off or has no pieces."""
    words_cut: int
    """Words beyond the maximum length."""
    shares: Floats | None = None
    """``[words, tags]``: probabilities, where they were asked for; no numbers (NaN) for a word that
    was cut off or has no pieces."""


def tag_sentences(
    model: TrainedModel,
    sentences: Iterable[Sequence[str]],
    *,
    batch_size: int,
    with_shares: bool = False,
) -> Iterator[TaggedSentence]:
    """Tag sentences, each a sequence of words, in their order.

    Raises :class:`ConfigError` for a model of another task.
    """
    task = check_task(model, TokenClassification)
    aligner = WordAligner(model.tokenizer, model.max_length)
    return in_windows(
        map(list, sentences),
        lambda window: _tag_window(model, task, aligner, window, batch_size, with_shares),
    )


def _tag_window(
    model: TrainedModel,
    task: TokenClassification,
    aligner: WordAligner,
    window: list[list[str]],
    batch_size: int,
    with_shares: bool,
) -> list[TaggedSentence]:
    aligned = aligner.align(window)
    lengths = np.diff(aligned.token_offsets)
    pad = model.tokenizer.pad_token_id or 0
    answers: list[TaggedSentence | None] = [None] * len(window)
    for rows in batches_by_cost(lengths, batch_size):
        shape = (len(rows), int(lengths[rows].max()))
        tokens = np.full(shape, pad, dtype=np.int64)
        mask = np.zeros(shape, dtype=np.int64)
        for place, row in enumerate(rows):
            own = aligned.tokens[aligned.token_offsets[row] : aligned.token_offsets[row + 1]]
            tokens[place, : len(own)] = own
            mask[place, : len(own)] = 1
        with torch.inference_mode():
            logits = model.network(
                input_ids=torch.from_numpy(tokens).to(model.world.device),
                attention_mask=torch.from_numpy(mask).to(model.world.device),
            ).logits
        predicted = logits.argmax(-1).cpu().numpy()
        for place, row in enumerate(rows):
            words = slice(aligned.word_offsets[row], aligned.word_offsets[row + 1])
            positions = aligned.word_positions[words]
            answers[row] = TaggedSentence(
                task.tags_of_words(predicted[place], positions),
                int(aligned.word_truncated[words].sum()),
                _shares(logits[place], positions) if with_shares else None,
            )
    return [answer for answer in answers if answer is not None]


def _shares(logits: torch.Tensor, positions: NDArray[np.int16]) -> Floats:
    scores = logits.float().cpu().numpy()[positions.astype(np.int64)]
    scores[positions < 0] = np.nan
    return probabilities(scores)
