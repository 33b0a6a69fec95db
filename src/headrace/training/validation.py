"""Validation: the loss and the scores of each language, shared out over the ranks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from headrace.encoding.sidecar import EncodedSource
from headrace.stream.plan import Locations
from headrace.tasks.token_classification import TokenClassification
from headrace.training.data import collate
from headrace.training.distributed import World, gather_json


@dataclass(frozen=True)
class Validation:
    """What came out of a validation; the same on every rank."""

    loss: float
    """Cross-entropy in nats, averaged over the labelled tokens of all languages."""
    loss_by_language: Mapping[str, float]
    metrics: Mapping[str, dict[str, Any]]
    """Scores by language, as in ``results.json``."""


def validate(
    network: Any,
    sources: Mapping[str, EncodedSource],
    task: TokenClassification,
    world: World,
    *,
    batch_size: int,
    pad: int,
) -> Validation:
    """Measure a network on whole sources.

    Args:
        network: gives logits; in a ZeRO-3 engine every rank must call it equally often, which is
            taken care of here.
        sources: encoded validation data by language.
        task: loss and scores.
        world: the ranks that share the work.
        batch_size: samples a rank computes at once.
        pad: id of the padding token.
    """
    was_training = network.training
    network.eval()
    own: dict[str, Any] = {}
    # not inference mode: ZeRO-3 keeps gathered weights, and autograd refuses such tensors later
    with torch.no_grad():
        for language, source in sources.items():
            own[language] = _share(network, source, task, world, batch_size, pad)
    network.train(was_training)
    return _join(gather_json(own, world), list(sources), task)


def _share(
    network: Any,
    source: EncodedSource,
    task: TokenClassification,
    world: World,
    batch_size: int,
    pad: int,
) -> dict[str, Any]:
    """Evaluate this rank's share of a source: every ``world.size``-th sample, by length."""
    scores = task.new_scores()
    loss, labelled = 0.0, 0
    whole = _by_length(source)
    rounds = -(-len(whole) // (batch_size * world.size))
    for number in range(rounds):
        first = number * batch_size * world.size
        part = whole.take(slice(first + world.rank, first + batch_size * world.size, world.size))
        idle = not len(part)
        if idle:  # keep step with the other ranks, whose forward pass may gather weights
            part = whole.take(slice(0, 1))
        batch = collate([source], part, pad)
        on_device = {name: tensor.to(world.device) for name, tensor in batch.items()}
        loss_sum, logits = task.loss_sum(network, on_device, training=False)
        if idle:
            continue
        loss += float(loss_sum)
        predicted = logits.argmax(-1).cpu().numpy()
        for row, (shard_number, sample) in enumerate(zip(part.shard, part.sample, strict=True)):
            shard = source.shards[int(shard_number)]
            index = int(sample)
            labelled += int(shard.label_counts[index])
            scores.update(
                task.names_of_tags(shard.word_tags(index)),
                task.tags_of_words(predicted[row], shard.word_positions(index)),
                shard.subset(index),
            )
    return {"loss": loss, "labelled": labelled, "counts": scores.counts()}


def _by_length(source: EncodedSource) -> Locations:
    """All samples of a source, the longest first: too little memory shows at once."""
    shards = np.concatenate(
        [np.full(len(shard), number) for number, shard in enumerate(source.shards)]
    ).astype(np.int64)
    samples = np.concatenate([np.arange(len(shard)) for shard in source.shards]).astype(np.int64)
    lengths = np.concatenate([shard.lengths for shard in source.shards])
    order = np.argsort(-lengths.astype(np.int64), kind="stable")
    return Locations(source=np.zeros_like(shards), shard=shards[order], sample=samples[order])


def _join(
    shares: list[dict[str, Any]], languages: list[str], task: TokenClassification
) -> Validation:
    losses, totals, metrics = {}, {}, {}
    for language in languages:
        scores = task.new_scores()
        for share in shares:
            scores.merge(share[language]["counts"])
        metrics[language] = scores.result()
        losses[language] = sum(share[language]["loss"] for share in shares)
        totals[language] = sum(share[language]["labelled"] for share in shares)
    return Validation(
        loss=sum(losses.values()) / max(1, sum(totals.values())),
        loss_by_language={name: losses[name] / max(1, totals[name]) for name in languages},
        metrics=metrics,
    )
