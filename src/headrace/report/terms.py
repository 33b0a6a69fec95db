"""What the runs of a task are measured by, and in which words it is told."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Kind:
    """How sources of one kind are measured."""

    scores: Mapping[str, str]
    """Scores that tables show, with their titles; fractions, shown in percent, but for
    ``numbers``.  The first one is the main score: the one that is followed over stages."""
    plotted: tuple[str, ...]
    """Scores that are drawn as bars; fractions."""
    loss_unit: str
    """What a loss is of: nats per ..."""
    explained: str
    """What the scores are, in the words of a page."""
    references: Mapping[str, str] = field(default_factory=dict)
    """What the scores are compared with, with titles; fractions too."""
    numbers: frozenset[str] = frozenset()
    """Scores that are no fractions."""
    lower_is_better: frozenset[str] = frozenset()
    """Scores of which less is better."""

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
    def numbers(self) -> frozenset[str]:
        """The scores of all kinds that are no fractions."""
        return frozenset(name for kind in self.kinds for name in kind.numbers)

    @property
    def lower_is_better(self) -> frozenset[str]:
        """The scores of all kinds of which less is better."""
        return frozenset(name for kind in self.kinds for name in kind.lower_is_better)

    @property
    def in_percent(self) -> str:
        """Which scores are in percent, as the beginning of a sentence."""
        text = "Scores are in percent"
        for names, what in (
            (self.numbers & self.lower_is_better, ", of which less is better"),
            (self.numbers - self.lower_is_better, ""),
        ):
            titles = [title.lower() for name, title in self.scores.items() if name in names]
            text += f", but for {' and '.join(titles)}{what}" if titles else ""
        return text

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
    "masked_lm": Terms(
        (
            Kind(
                scores={"perplexity": "Perplexity", "token_accuracy": "Token accuracy"},
                plotted=("token_accuracy",),
                loss_unit="masked token",
                explained="The perplexity of masked tokens, less is better, and the share of them "
                "that are told right,",
                numbers=frozenset({"perplexity"}),
                lower_is_better=frozenset({"perplexity"}),
            ),
        ),
        samples="Samples",
    ),
    "causal_lm": Terms(
        (
            Kind(
                scores={
                    "perplexity": "Perplexity",
                    "bits_per_byte": "Bits per byte",
                    "token_accuracy": "Token accuracy",
                },
                plotted=("token_accuracy",),
                loss_unit="token",
                explained="The perplexity of tokens and the bits that a byte of text takes, less "
                "is better, and the share of tokens that are told right,",
                numbers=frozenset({"perplexity", "bits_per_byte"}),
                lower_is_better=frozenset({"perplexity", "bits_per_byte"}),
            ),
        ),
        samples="Samples",
    ),
}
"""Task -> its terms."""


def terms_of(
    task: str | None,
    there: Collection[str] = (),
    described: Mapping[str, Mapping[str, Any]] | None = None,
) -> Terms:
    """The terms of a task.

    Args:
        task: its name.
        there: scores; of several kinds those remain of which a score is there, all if none is.
        described: the scores of a task that is not built in, as ``results.json`` has them.  The
            terms of a task that nobody describes are those of token classification.
    """
    terms = TERMS.get(task or "", TERMS["token_classification"])
    if task not in TERMS and described:
        numbers, lower = (
            frozenset(name for name, facts in described.items() if facts.get(key) is True)
            for key in ("is_number", "lower_is_better")
        )
        titles = {name: str(facts.get("title", name)) for name, facts in described.items()}
        kind = Kind(
            scores=titles,
            plotted=tuple(name for name in titles if name not in numbers),
            loss_unit="label",
            explained="Scores",
            numbers=numbers,
            lower_is_better=lower,
        )
        return Terms((kind,), samples="Samples")
    kinds = tuple(kind for kind in terms.kinds if not set(there).isdisjoint(kind.scores))
    return replace(terms, kinds=kinds or terms.kinds)
