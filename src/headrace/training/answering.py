"""Answering multiple-choice questions with a trained model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch

from headrace.encoding.collate import pad_choices
from headrace.encoding.multiple_choice import PairEncoder
from headrace.tasks.multiple_choice import MultipleChoice
from headrace.training.inference import TrainedModel, check_task
from headrace.training.windows import batches_by_cost, in_windows


@dataclass(frozen=True)
class Answer:
    """The answer to one question."""

    choice: int
    """Number of the chosen text, from 0 on; the first one where several score the same."""
    probabilities: tuple[float, ...]
    """One a choice; they add up to 1."""
    tokens_cut: int
    """Tokens beyond the maximum length, over all choices."""


def answer_questions(
    model: TrainedModel, questions: Iterable[tuple[str, Sequence[str]]], *, batch_size: int
) -> Iterator[Answer]:
    """Answer questions, each a context and its choices, in their order.

    Raises :class:`ConfigError` for a model of another task.
    """
    task = check_task(model, MultipleChoice)
    encoder = PairEncoder(model.tokenizer, model.max_length)
    return in_windows(
        questions, lambda window: _answer_window(model, task, encoder, window, batch_size)
    )


def _answer_window(
    model: TrainedModel,
    task: MultipleChoice,
    encoder: PairEncoder,
    window: list[tuple[str, Sequence[str]]],
    batch_size: int,
) -> list[Answer]:
    pairs = encoder.encode([(context, choice) for context, choices in window for choice in choices])
    rest = iter(pairs)
    rows = [list(islice(rest, len(choices))) for _, choices in window]
    costs = np.array([len(row) * max(len(ids) for ids, *_ in row) for row in rows])
    answers: dict[int, Answer] = {}
    for members in map(np.ndarray.tolist, batches_by_cost(costs, batch_size)):
        arrays = pad_choices(
            [[(ids, types) for ids, types, *_ in rows[member]] for member in members],
            pad_id=model.tokenizer.pad_token_id or 0,
        )
        batch = {
            name: torch.from_numpy(array).to(model.world.device) for name, array in arrays.items()
        }
        with torch.inference_mode():
            logits = task.logits(model.network, batch)
        probabilities = logits.double().softmax(-1).tolist()
        chosen = logits.argmax(-1).tolist()
        for member, choice, shares in zip(members, chosen, probabilities, strict=True):
            cut = sum(context + own for *_, context, own in rows[member])
            answers[member] = Answer(choice, tuple(shares[: len(rows[member])]), cut)
    return [answers[number] for number in range(len(window))]
