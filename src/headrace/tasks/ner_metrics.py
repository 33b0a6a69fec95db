"""Scores of named entity recognition over whole entities.

A predicted entity is correct if a gold entity has the same first word, last word and type.  Fine
scores compare fine types; coarse scores compare the same spans with each type replaced by its
family, so an entity with the wrong fine type of the right family counts as correct there.
``docs/metrics.md`` gives the conventions and how they relate to ``seqeval``, ``conlleval`` and
the MultiCoNER rankings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from headrace.errors import LabelError, Problem
from headrace.tasks.labels import LabelSet
from headrace.tasks.spans import Span, lenient_spans, strict_spans

COUNTS_VERSION = 1
"""Version of the form that :meth:`NerScores.counts` gives."""

_RULES: Mapping[str, Callable[[Sequence[str]], list[Span]]] = {
    "strict": strict_spans,
    "lenient": lenient_spans,
}
_LEVELS = ("fine", "coarse")
_WHOLE = ""
"""The group of all sentences; the other groups are named subsets."""


class NerScores:
    """Counts of gold, predicted and correct entities, added up sentence by sentence.

    Processes that evaluate a share of the sentences each exchange ``counts()`` and ``merge``
    them; the result does not depend on the division or the order.
    """

    def __init__(self, label_set: LabelSet) -> None:
        self.label_set = label_set
        self._groups: dict[str, _Group] = {_WHOLE: _Group()}

    def update(
        self, gold: Sequence[str], predicted: Sequence[str], subset: str | None = None
    ) -> None:
        """Count one sentence.

        ``gold`` and ``predicted`` hold one IOB2 tag a word; ``subset`` names the part of the
        data that the sentence belongs to, such as ``"clean"`` or ``"noisy"``.

        Raises ``LabelError`` if the lengths differ or a tag is not in the label set; nothing is
        counted then.
        """
        where = f"sentence {self._groups[_WHOLE].sentences + 1}"
        problems = []
        if len(gold) != len(predicted):
            problems.append(
                Problem(
                    "gold and predicted tags differ in number",
                    where,
                    f"{len(gold)} and {len(predicted)}",
                    "Predict one tag for each word",
                )
            )
        for tag in sorted({*gold, *predicted} - self.label_set.tag_ids.keys()):
            problems.append(self.label_set.unknown_tag(tag, where))
        if problems:
            raise LabelError(problems)

        groups = [self._groups[_WHOLE]]
        if subset:
            groups.append(self._groups.setdefault(subset, _Group()))
        for group in groups:
            group.sentences += 1
            group.words += len(gold)
        for rule, find in _RULES.items():
            gold_spans, predicted_spans = find(gold), find(predicted)
            for group in groups:
                group.tables[rule, "fine"].add(gold_spans, predicted_spans)
                group.tables[rule, "coarse"].add(
                    self._with_families(gold_spans), self._with_families(predicted_spans)
                )

    def _with_families(self, spans: Iterable[Span]) -> list[Span]:
        return [span._replace(type=self.label_set.coarse[span.type]) for span in spans]

    def counts(self) -> dict[str, Any]:
        """All counts as a JSON-able object, for :meth:`merge` in another process."""
        return {
            "version": COUNTS_VERSION,
            "labels": self.label_set.fingerprint,
            "groups": {name: group.counts() for name, group in self._groups.items()},
        }

    def merge(self, counts: Mapping[str, Any]) -> None:
        """Add the ``counts()`` of another object with the same label set.

        Raises ``ValueError`` if they come from another label set or another version.
        """
        if (counts["version"], counts["labels"]) != (COUNTS_VERSION, self.label_set.fingerprint):
            raise ValueError("the counts belong to another label set or version")
        for name, group_counts in counts["groups"].items():
            self._groups.setdefault(name, _Group()).merge(group_counts)

    def result(self) -> dict[str, Any]:
        """All scores as a JSON-able object: one entry of ``metrics`` in ``results.json``.

        Scores are fractions from 0 to 1; a score whose denominator is 0 is 0.  Types that occur
        neither in gold nor in predicted entities are left out.
        """
        result = self._group_result(self._groups[_WHOLE])
        result["subsets"] = {
            name: self._group_result(self._groups[name])
            for name in sorted(self._groups)
            if name != _WHOLE
        }
        return result

    def _group_result(self, group: _Group) -> dict[str, Any]:
        strict_fine = group.tables["strict", "fine"]
        strict_coarse = group.tables["strict", "coarse"]
        by_type = strict_fine.by_type(self.label_set.types)
        by_coarse_type = strict_coarse.by_type(self.label_set.coarse_types)
        total = strict_fine.total()
        lenient_total = group.tables["lenient", "fine"].total()
        lenient = {
            level: group.tables["lenient", level].by_type(types)
            for level, types in zip(
                _LEVELS, (self.label_set.types, self.label_set.coarse_types), strict=True
            )
        }
        return {
            "fine_macro_f1": _macro_f1(by_type),
            "coarse_macro_f1": _macro_f1(by_coarse_type),
            "micro_f1": total["f1"],
            "precision": total["precision"],
            "recall": total["recall"],
            "fine_macro_f1_gold_types": _macro_f1(by_type, gold_only=True),
            "coarse_macro_f1_gold_types": _macro_f1(by_coarse_type, gold_only=True),
            "lenient": {
                "fine_macro_f1": _macro_f1(lenient["fine"]),
                "coarse_macro_f1": _macro_f1(lenient["coarse"]),
                "micro_f1": lenient_total["f1"],
                "precision": lenient_total["precision"],
                "recall": lenient_total["recall"],
            },
            "by_type": by_type,
            "by_coarse_type": by_coarse_type,
            "sentences": group.sentences,
            "words": group.words,
        }


def evaluate_tags(
    gold: Sequence[Sequence[str]],
    predicted: Sequence[Sequence[str]],
    label_set: LabelSet,
    subsets: Sequence[str | None] | None = None,
) -> dict[str, Any]:
    """Scores of many sentences at once: see :meth:`NerScores.result`.

    ``gold``, ``predicted`` and, where given, ``subsets`` have one entry a sentence.  Raises
    ``LabelError`` as :meth:`NerScores.update` does, and if the numbers of sentences differ.
    """
    names = [None] * len(gold) if subsets is None else subsets
    if not len(gold) == len(predicted) == len(names):
        raise LabelError(
            Problem(
                "the numbers of gold sentences, predicted sentences and subsets differ",
                "predictions",
                f"{len(gold)}, {len(predicted)} and {len(names)}",
                "Predict every sentence once, in the order of the gold sentences",
            )
        )
    scores = NerScores(label_set)
    for sentence, prediction, subset in zip(gold, predicted, names, strict=True):
        scores.update(sentence, prediction, subset)
    return scores.result()


class _Table:
    """Gold, predicted and correct entities by type."""

    def __init__(self) -> None:
        self.gold: Counter[str] = Counter()
        self.predicted: Counter[str] = Counter()
        self.correct: Counter[str] = Counter()

    def add(self, gold: Sequence[Span], predicted: Sequence[Span]) -> None:
        self.gold.update(span.type for span in gold)
        self.predicted.update(span.type for span in predicted)
        self.correct.update(span.type for span in set(gold) & set(predicted))

    def by_type(self, types: Iterable[str]) -> dict[str, dict[str, float]]:
        return {
            type_: _scores(self.gold[type_], self.predicted[type_], self.correct[type_])
            for type_ in types
            if self.gold[type_] or self.predicted[type_]
        }

    def total(self) -> dict[str, float]:
        return _scores(
            sum(self.gold.values()), sum(self.predicted.values()), sum(self.correct.values())
        )


class _Group:
    """The counts of all sentences or of one subset."""

    def __init__(self) -> None:
        self.sentences = 0
        self.words = 0
        self.tables = {(rule, level): _Table() for rule in _RULES for level in _LEVELS}

    def counts(self) -> dict[str, Any]:
        tables = {
            f"{rule}/{level}": {
                "gold": dict(table.gold),
                "predicted": dict(table.predicted),
                "correct": dict(table.correct),
            }
            for (rule, level), table in self.tables.items()
        }
        return {"sentences": self.sentences, "words": self.words, "tables": tables}

    def merge(self, counts: Mapping[str, Any]) -> None:
        self.sentences += counts["sentences"]
        self.words += counts["words"]
        for (rule, level), table in self.tables.items():
            added = counts["tables"][f"{rule}/{level}"]
            table.gold.update(added["gold"])
            table.predicted.update(added["predicted"])
            table.correct.update(added["correct"])


def _scores(gold: int, predicted: int, correct: int) -> dict[str, float]:
    """Precision, recall and F1 = 2 x correct / (gold + predicted), beside their counts."""
    return {
        "precision": correct / predicted if predicted else 0.0,
        "recall": correct / gold if gold else 0.0,
        "f1": 2 * correct / (gold + predicted) if gold + predicted else 0.0,
        "gold": gold,
        "predicted": predicted,
        "correct": correct,
    }


def _macro_f1(by_type: Mapping[str, Mapping[str, float]], *, gold_only: bool = False) -> float:
    """Mean F1 over the types present, or over those that gold entities have."""
    values = [scores["f1"] for scores in by_type.values() if scores["gold"] or not gold_only]
    return sum(values) / len(values) if values else 0.0
