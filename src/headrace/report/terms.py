"""What the runs of a task are measured by, and in which words it is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Terms:
    """The scores and words of one task."""

    scores: Mapping[str, str]
    """Scores that tables show, with their titles; fractions, shown in percent.  The first one is
    the main score: the one that is followed over stages."""
    plotted: tuple[str, ...]
    """Scores that are drawn as bars."""
    explained: str
    """What the scores are, in the words of a page."""
    samples: str
    """What a sample is called, as a title."""
    loss_unit: str
    """What a loss is of: nats per ..."""
    references: Mapping[str, str] = field(default_factory=dict)
    """What the scores are compared with, with titles; fractions too."""

    @property
    def main(self) -> str:
        """The main score."""
        return next(iter(self.scores))

    @property
    def main_in_a_sentence(self) -> str:
        """The title of the main score as it stands within a sentence."""
        title = self.scores[self.main]
        return title[0].lower() + title[1:]


TERMS: Mapping[str, Terms] = {
    "token_classification": Terms(
        scores={
            "fine_macro_f1": "Fine macro F1",
            "coarse_macro_f1": "Coarse macro F1",
            "micro_f1": "Micro F1",
        },
        plotted=("fine_macro_f1", "coarse_macro_f1"),
        explained="Exact-match scores",
        samples="Sentences",
        loss_unit="labelled word",
    ),
    "multiple_choice": Terms(
        scores={"accuracy": "Accuracy"},
        plotted=("accuracy",),
        explained="The share of samples answered right, beside that of guessing (chance),",
        samples="Samples",
        loss_unit="sample",
        references={"chance": "Chance"},
    ),
}
"""Task -> its terms."""

PERCENT = frozenset(name for terms in TERMS.values() for name in (*terms.scores, *terms.references))
"""Scores that are shown in percent."""


def terms_of(task: str | None) -> Terms:
    """The terms of a task; those of token classification where the task is not known."""
    return TERMS.get(task or "", TERMS["token_classification"])
