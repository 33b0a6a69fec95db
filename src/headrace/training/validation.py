"""Validation: the loss and the scores of each language, shared out over the ranks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from headrace.encoding.sidecar import EncodedSource
from headrace.stream.batching import look_up
from headrace.stream.plan import Locations
from headrace.tasks.task import Task
from headrace.training.data import collate
from headrace.training.distributed import World, gather_json

Observer = Callable[[str, EncodedSource, Locations, torch.Tensor], None]
"""Is shown language, source and samples of each batch of a rank with the logits."""


@dataclass(frozen=True)
class Validation:
    """What came out of a validation; the same on every rank."""

    loss: float
    """Cross-entropy in nats, averaged over the labels (of tokens, or of samples) of all
    languages."""
    loss_by_language: Mapping[str, float]
    metrics: Mapping[str, dict[str, Any]]
    """Scores by language, as in ``results.json``."""


def validate(
    network: Any,
    sources: Mapping[str, EncodedSource],
    task: Task,
    world: World,
    *,
    batch_size: int,
    pad: int,
    observe: Observer | None = None,
    between: Callable[[], None] | None = None,
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
        observe: is shown what the network says.
        between: is called before each batch, equally often on all ranks; what it raises on all of
            them breaks the validation off.
    """
    was_training = network.training
    network.eval()
    own: dict[str, Any] = {}
    # not inference mode: ZeRO-3 keeps gathered weights, and autograd refuses such tensors later
    try:
        with torch.no_grad():
            for language, source in sources.items():
                own[language] = _share(
                    network, source, task, world, batch_size, pad, observe, between
                )
    finally:
        network.train(was_training)
    return _join(gather_json(own, world), list(sources), task)


def _share(
    network: Any,
    source: EncodedSource,
    task: Task,
    world: World,
    batch_size: int,
    pad: int,
    observe: Observer | None,
    between: Callable[[], None] | None,
) -> dict[str, Any]:
    """Evaluate this rank's share of a source: every ``world.size``-th sample, by length."""
    scores = task.new_scores()
    loss, labelled = 0.0, 0
    whole = _by_length(source)
    label_counts = [shard.label_counts for shard in source.shards]
    rounds = -(-len(whole) // (batch_size * world.size))
    for number in range(rounds):
        if between is not None:
            between()
        first = number * batch_size * world.size
        part = whole.take(slice(first + world.rank, first + batch_size * world.size, world.size))
        idle = not len(part)
        if idle:  # keep step with the other ranks, whose forward pass may gather weights
            part = whole.take(slice(0, 1))
        batch = collate(task, [source], part, pad)
        on_device = {name: tensor.to(world.device) for name, tensor in batch.items()}
        loss_sum, logits = task.loss_sum(network, on_device, training=False)
        if idle:
            continue
        loss += float(loss_sum)
        labelled += task.labels_in(look_up([label_counts], part), [source], part, None)
        task.score(scores, source, part, logits, on_device)
        if observe is not None:
            observe(source.language, source, part, logits)
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


def _join(shares: list[dict[str, Any]], languages: list[str], task: Task) -> Validation:
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
