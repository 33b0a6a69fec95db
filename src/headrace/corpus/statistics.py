"""What a source counts about its samples, for its manifest."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from headrace.shards.sample import Sample


def is_question(metadata: Mapping[str, Any]) -> bool:
    """Whether the field ``json`` of a sample is that of a multiple-choice question."""
    return isinstance(metadata.get("choices"), list) and {"context", "label"} <= metadata.keys()


@dataclass
class Statistics:
    """Counts over the samples of a source, of whatever kinds they are."""

    sentences: int = 0
    tokens: int = 0
    """Tokens of sentences in columns, words between spaces of all others."""
    entities: Counter[str] = field(default_factory=Counter)
    domains: Counter[str] = field(default_factory=Counter)
    choices: int = 0
    """Largest number of choices; 0 where no sample is a multiple-choice question."""
    answers: Counter[int] = field(default_factory=Counter)
    """Multiple-choice questions by the position of the right choice."""
    questions: Counter[str] = field(default_factory=Counter)
    """The same by what is asked (``cause``, ``effect``)."""
    labels: Counter[str] = field(default_factory=Counter)
    """Samples by the label of the whole text."""
    scored: int = 0
    """Samples with a score."""
    scores: tuple[float, float] = (math.inf, -math.inf)
    """The least and the greatest score."""

    def count(self, sample: Sample) -> None:
        """Count one sample."""
        self.sentences += 1
        metadata = sample.metadata
        if is_question(metadata):
            self.choices = max(self.choices, len(metadata["choices"]))
            self.answers[metadata["label"]] += 1
            if "question" in metadata:
                self.questions[str(metadata["question"])] += 1
        if "tokens" not in metadata:
            self.tokens += len(sample.text.split())
            self._count_label(metadata)
            return
        self.tokens += len(metadata["tokens"])
        self.entities.update(tag[2:] for tag in metadata["tags"] if tag.startswith("B-"))
        if "domain" in metadata:
            self.domains[str(metadata["domain"])] += 1

    def _count_label(self, metadata: Mapping[str, Any]) -> None:
        label, score = metadata.get("label"), metadata.get("score")
        if isinstance(label, str):
            self.labels[label] += 1
        if isinstance(score, int | float) and not isinstance(score, bool):
            self.scored += 1
            self.scores = min(self.scores[0], score), max(self.scores[1], score)

    def to_metadata(self) -> dict[str, Any]:
        """The counts as the manifest has them."""
        counts: dict[str, Any] = {"sentences": self.sentences, "tokens": self.tokens}
        if self.choices:
            answers = {str(label): count for label, count in sorted(self.answers.items())}
            counts |= {"choices": self.choices, "answers": answers}
            if self.questions:
                counts["questions"] = dict(sorted(self.questions.items()))
            return counts
        if self.labels:
            counts["labels"] = dict(sorted(self.labels.items()))
        if self.scored:
            low, high = self.scores
            counts["scores"] = {"samples": self.scored, "least": low, "greatest": high}
        return {
            **counts,
            "entities": dict(sorted(self.entities.items())),
            "domains": dict(sorted(self.domains.items())),
        }
