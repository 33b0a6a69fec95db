"""Labelling texts, or giving them scores, with a trained model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from headrace.encoding.collate import pad_texts
from headrace.encoding.sequence_classification import Text, TextEncoder
from headrace.errors import ConfigError, Problem
from headrace.tasks.heads import Head
from headrace.tasks.pair_inputs import pair_inputs
from headrace.tasks.sequence_classification import SequenceClassification
from headrace.training.inference import TrainedModel, check_task
from headrace.training.windows import batches_by_cost, in_windows


@dataclass(frozen=True)
class LabelledText:
    """The answer to one text or pair."""

    label: str | None
    """The most probable label, the first of the head where several are; None with a score."""
    probabilities: Mapping[str, float]
    """One a label of the head; they add up to 1."""
    score: float | None
    tokens_cut: int
    """Tokens beyond the maximum length."""


def label_texts(
    model: TrainedModel, texts: Iterable[Text], *, batch_size: int
) -> Iterator[LabelledText]:
    """Answer texts in their order with the head that answers for all sources.

    Raises :class:`ConfigError` for a model of another task, and for one of several heads of which
    none is chosen.
    """
    head = head_of(model)
    encoder = TextEncoder(model.tokenizer, model.max_length)
    return in_windows(texts, lambda window: _label_window(model, head, encoder, window, batch_size))


def head_of(model: TrainedModel) -> Head:
    """Return the head that answers for all sources; see :func:`label_texts` for errors."""
    heads = check_task(model, SequenceClassification).heads
    if heads.of_all is None:
        names = ", ".join(head.name for head in heads.all)
        what = "the model has several heads"
        raise ConfigError(Problem(what, model.name, names, "Choose one of them: --head"))
    return heads.of_all


def _label_window(
    model: TrainedModel, head: Head, encoder: TextEncoder, window: list[Text], batch_size: int
) -> list[LabelledText]:
    rows = encoder.encode(window)
    costs = np.array([len(row.ids) for row in rows])
    answers: dict[int, LabelledText] = {}
    for members in map(np.ndarray.tolist, batches_by_cost(costs, batch_size)):
        arrays = pad_texts(
            [(rows[member].ids, rows[member].types) for member in members],
            pad_id=model.tokenizer.pad_token_id or 0,
        )
        batch = {
            name: torch.from_numpy(array).to(model.world.device) for name, array in arrays.items()
        }
        with torch.inference_mode():
            logits = model.network(**pair_inputs(model.network, batch)).logits
        own = logits[:, head.start : head.stop].double()
        for member, values in zip(members, own, strict=True):
            answers[member] = _answer(head, values, rows[member].cut)
    return [answers[number] for number in range(len(window))]


def _answer(head: Head, values: torch.Tensor, tokens_cut: int) -> LabelledText:
    if head.labels is None:
        return LabelledText(None, {}, float(values[0]), tokens_cut)
    shares = dict(zip(head.labels, values.softmax(-1).tolist(), strict=True))
    return LabelledText(head.labels[int(values.argmax())], shares, None, tokens_cut)
