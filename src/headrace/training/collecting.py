"""Keeps what a model says about all samples of encoded sources while it is measured."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from headrace.encoding.sidecar import EncodedSource
from headrace.stream.plan import Locations
from headrace.tasks.class_scores import Answered, class_scores
from headrace.tasks.task import Task


class Collector:
    """Class scores of every sample; give it to :func:`headrace.training.inference.score`.

    It holds four bytes for each class of each word: of 10,000 sentences of 15 words with 67 tags
    40 MB.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._found: dict[str, dict[tuple[int, int], Answered]] = {}

    def __call__(
        self, language: str, source: EncodedSource, samples: Locations, logits: torch.Tensor
    ) -> None:
        """Keep the answers to a batch."""
        found = self._found.setdefault(language, {})
        places = zip(samples.shard.tolist(), samples.sample.tolist(), strict=True)
        answers = class_scores(self._task, source, samples, logits)
        for place, answered in zip(places, answers, strict=True):
            found[place] = answered

    @property
    def by_language(self) -> Mapping[str, list[Answered]]:
        """The answers by language, in the order of the shards and their samples."""
        return {
            language: [found[place] for place in sorted(found)]
            for language, found in self._found.items()
        }
