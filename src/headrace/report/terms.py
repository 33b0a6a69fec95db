"""What the runs of a task are measured by, and in which words it is told."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Kind:
    """How sources of one kind are measured."""

    scores: Mapping[str, str]
    """Scores that tables show, with their titles; fractions, shown in percent.  The first one is
    the main score: the one that is followed over stages."""
    plotted: tuple[str, ...]
    """Scores that are drawn as bars."""
    loss_unit: str
    """What a loss is of: nats per ..."""
    explained: str
    """What the scores are, in the words of a page."""
    references: Mapping[str, str] = field(default_factory=dict)
    """What the scores are compared with, with titles; fractions too."""

    @property
    def main(self) -> str:
        """The main score."""
        return next(iter(self.scores))


@dataclass(frozen=True)
class Terms:
    """The scores and words of one task."""

    kinds: tuple[Kind, ...]
    """The sources of most tasks are all of one kind."""
    samples: str
    """What a sample is called, as a title."""

    @property
    def scores(self) -> Mapping[str, str]:
        """The scores of all kinds, with titles."""
        return {name: title for kind in self.kinds for name, title in kind.scores.items()}

    @property
    def references(self) -> Mapping[str, str]:
        """What the scores of all kinds are compared with, with titles."""
        return {name: title for kind in self.kinds for name, title in kind.references.items()}

    @property
    def plotted(self) -> tuple[str, ...]:
        """The scores of all kinds that are drawn as bars."""
        return tuple(name for kind in self.kinds for name in kind.plotted)

    @property
    def loss_unit(self) -> str:
        """What a loss is of: nats per ..."""
        return self.kinds[-1].loss_unit

    @property
    def explained(self) -> str:
        """What the scores are, in the words of a page."""
        first, *others = (kind.explained for kind in self.kinds)
        return " and ".join([first, *(words[0].lower() + words[1:] for words in others)])

    @property
    def mains(self) -> tuple[str, ...]:
        """The main score of each kind."""
        return tuple(kind.main for kind in self.kinds)

    @property
    def main(self) -> str:
        """The main score of the first kind."""
        return self.mains[0]

    @property
    def main_title(self) -> str:
        """The titles of the main scores."""
        return " or ".join(self.scores[name] for name in self.mains)

    @property
    def main_in_a_sentence(self) -> str:
        """The title of the main score as it stands within a sentence."""
        return self.main_title[0].lower() + self.main_title[1:]

    def main_of(self, values: Mapping[str, float]) -> float | None:
        """The main score among those of one source; None if it has none."""
        return next((values[name] for name in self.mains if name in values), None)


_LABELS = Kind(
    scores={"accuracy": "Accuracy", "macro_f1": "Macro F1", "matthews": "Matthews"},
    plotted=("accuracy", "macro_f1"),
    loss_unit="sample",
    explained="Scores of labels, beside the accuracy of always giving the most frequent one,",
    references={"majority": "Most frequent label"},
)
_SCORES = Kind(
    scores={"spearman": "Spearman", "pearson": "Pearson"},
    plotted=("spearman",),
    loss_unit="sample (squared errors where it has a score)",
    explained="Correlations with the right scores",
)

TERMS: Mapping[str, Terms] = {
    "token_classification": Terms(
        (
            Kind(
                scores={
                    "fine_macro_f1": "Fine macro F1",
                    "coarse_macro_f1": "Coarse macro F1",
                    "micro_f1": "Micro F1",
                },
                plotted=("fine_macro_f1", "coarse_macro_f1"),
                loss_unit="labelled word",
                explained="Exact-match scores",
            ),
        ),
        samples="Sentences",
    ),
    "multiple_choice": Terms(
        (
            Kind(
                scores={"accuracy": "Accuracy"},
                plotted=("accuracy",),
                loss_unit="sample",
                explained="The share of samples answered right, beside that of guessing (chance),",
                references={"chance": "Chance"},
            ),
        ),
        samples="Samples",
    ),
    "sequence_classification": Terms(
        (_LABELS, _SCORES),
        samples="Samples",
    ),
}
"""Task -> its terms."""

PERCENT = frozenset(name for terms in TERMS.values() for name in (*terms.scores, *terms.references))
"""Scores that are shown in percent."""


def terms_of(task: str | None, there: Collection[str] = ()) -> Terms:
    """The terms of a task; those of token classification where the task is not known.

    Of several kinds those remain of which a score is ``there``; all if none is.
    """
    terms = TERMS.get(task or "", TERMS["token_classification"])
    kinds = tuple(kind for kind in terms.kinds if not set(there).isdisjoint(kind.scores))
    return replace(terms, kinds=kinds or terms.kinds)
