"""What goes wrong in named entity recognition: kinds of errors, confusions, lengths, seen names.

Gold and predicted entities of a sentence are matched one to one.  Of all pairs that share a word
those with the same type come first, then all others; within these, the more words they share, the
fewer they do not, and the more to the left, the earlier.  (A pair with the same words overlaps no
other.)  So each gold entity is of one kind, ``correct``, ``type``
(right words, wrong type), ``boundary`` (right type, wrong words), ``type_and_boundary`` or
``missed``, and each predicted one likewise, or ``spurious``.  These are the cases of SemEval-2013
task 9 (Segura-Bedmar et al.), and its four schemes are sums of them.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from headrace.tasks.labels import LabelSet
from headrace.tasks.spans import Span, strict_spans

KINDS = ("correct", "type", "boundary", "type_and_boundary", "missed", "spurious")
LENGTHS = ("1", "2", "3", "4", "5+")
"""Words of an entity."""
SEEN = ("seen", "seen_as_other_type", "unseen")
"""Whether the words of an entity are those of a training entity, of its type or of others alone."""


@dataclass(frozen=True)
class Match:
    """A gold entity with the predicted one that stands for it; one of them may be missing."""

    gold: Span | None
    predicted: Span | None

    @property
    def kind(self) -> str:
        """One of :data:`KINDS`."""
        if self.gold is None:
            return "spurious"
        if self.predicted is None:
            return "missed"
        same_type = self.gold.type == self.predicted.type
        if self.gold[:2] == self.predicted[:2]:
            return "correct" if same_type else "type"
        return "boundary" if same_type else "type_and_boundary"


def match_spans(gold: Sequence[Span], predicted: Sequence[Span]) -> list[Match]:
    """Match the entities of a sentence; neither side overlaps itself."""
    pairs = [
        (one, other)
        for one, other in product(gold, predicted)
        if one.start < other.end and other.start < one.end
    ]
    left, unused = dict.fromkeys(gold), dict.fromkeys(predicted)
    matches = []
    for one, other in sorted(pairs, key=_preference):
        if one in left and other in unused:
            del left[one], unused[other]
            matches.append(Match(one, other))
    matches += [Match(one, None) for one in left]
    matches += [Match(None, other) for other in unused]
    return sorted(matches, key=lambda match: min(filter(None, (match.gold, match.predicted))))


def _preference(pair: tuple[Span, Span]) -> tuple[Any, ...]:
    gold, predicted = pair
    shared = min(gold.end, predicted.end) - max(gold.start, predicted.start)
    apart = abs(gold.start - predicted.start) + abs(gold.end - predicted.end)
    return gold.type != predicted.type, -shared, apart, gold, predicted


class KnownEntities:
    """The entities of training sentences: their words, without regard to case, and types."""

    def __init__(self, sentences: Iterable[tuple[Sequence[str], Sequence[str]]]) -> None:
        """Collect the entities of (tokens, IOB2 tags) pairs."""
        self._types: dict[str, set[str]] = {}
        for tokens, tags in sentences:
            for span in strict_spans(tags):
                self._types.setdefault(_words(tokens, span), set()).add(span.type)

    def __len__(self) -> int:
        return len(self._types)

    def group_of(self, tokens: Sequence[str], span: Span) -> str:
        """One of :data:`SEEN`."""
        types = self._types.get(_words(tokens, span))
        return SEEN[2] if types is None else SEEN[0] if span.type in types else SEEN[1]


def _words(tokens: Sequence[str], span: Span) -> str:
    return unicodedata.normalize("NFC", " ".join(tokens[span.start : span.end])).casefold()


@dataclass(frozen=True)
class Example:
    """A sentence with an error."""

    id: str
    tokens: Sequence[str]
    match: Match

    def as_dict(self) -> dict[str, Any]:
        """As a JSON-able object; positions count words from 0, the end is exclusive."""

        def entity(span: Span | None) -> dict[str, Any] | None:
            if span is None:
                return None
            text = " ".join(self.tokens[span.start : span.end])
            return {"type": span.type, "start": span.start, "end": span.end, "text": text}

        gold, predicted = entity(self.match.gold), entity(self.match.predicted)
        found = {"id": self.id, "kind": self.match.kind, "gold": gold, "predicted": predicted}
        return {**found, "text": " ".join(self.tokens)}


class NerErrors:
    """Errors, added up sentence by sentence, of all sentences and of each subset."""

    def __init__(
        self, label_set: LabelSet, *, known: KnownEntities | None = None, examples: int = 0
    ) -> None:
        """Count errors in the types of a label set.

        Args:
            label_set: gives the order of types and their families.
            known: entities of the training data, to tell seen entities from unseen ones.
            examples: of each kind of error so many are kept, the first ones.
        """
        self.label_set = label_set
        self._known = known
        self._wanted = examples
        self._whole = _Errors()
        self._subsets: dict[str, _Errors] = {}
        self.examples: list[Example] = []

    def update(
        self,
        tokens: Sequence[str],
        gold: Sequence[str],
        predicted: Sequence[str],
        *,
        subset: str | None = None,
        identifier: str = "",
    ) -> None:
        """Count one sentence: its words, and one IOB2 tag a word, read by the strict rule."""
        groups = [self._whole]
        if subset:
            groups.append(self._subsets.setdefault(subset, _Errors()))
        matches = match_spans(strict_spans(gold), strict_spans(predicted))
        for group in groups:
            group.sentences += 1
            group.sentences_with_errors += any(match.kind != "correct" for match in matches)
        for match in matches:
            sides = self._sides(tokens, match)
            for group in groups:
                group.add(match, sides)
            kept = sum(example.match.kind == match.kind for example in self.examples)
            if match.kind != "correct" and kept < self._wanted:
                self.examples.append(Example(identifier, list(tokens), match))

    def _sides(self, tokens: Sequence[str], match: Match) -> list[tuple[str, str, str | None]]:
        """Side, length and group of seen entities, of the gold and of the predicted entity."""
        return [
            (
                side,
                LENGTHS[min(span.end - span.start, len(LENGTHS)) - 1],
                self._known.group_of(tokens, span) if self._known is not None else None,
            )
            for side, span in (("gold", match.gold), ("predicted", match.predicted))
            if span is not None
        ]

    def merge(self, other: NerErrors) -> None:
        """Add the counts of another object with the same label set, without its examples."""
        self._whole.merge(other._whole)
        for name, errors in other._subsets.items():
            self._subsets.setdefault(name, _Errors()).merge(errors)

    def result(self) -> dict[str, Any]:
        """All counts and scores as a JSON-able object; see ``docs/robustness.md``."""
        return {
            **self._whole.result(self.label_set),
            "subsets": {
                name: self._subsets[name].result(self.label_set) for name in sorted(self._subsets)
            },
        }


@dataclass
class _Errors:
    """The counts of all sentences or of one subset."""

    sentences: int = 0
    sentences_with_errors: int = 0
    pairs: Counter[tuple[str, str, bool]] = field(default_factory=Counter)
    """Gold type, predicted type, and whether the words are the same."""
    missed: Counter[str] = field(default_factory=Counter)
    spurious: Counter[str] = field(default_factory=Counter)
    lengths: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Length and what is counted: ``gold``, ``predicted`` or a kind."""
    seen: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, match: Match, sides: Iterable[tuple[str, str, str | None]]) -> None:
        """Count one match."""
        if match.gold is None:
            assert match.predicted is not None
            self.spurious[match.predicted.type] += 1
        elif match.predicted is None:
            self.missed[match.gold.type] += 1
        else:
            same = match.gold[:2] == match.predicted[:2]
            self.pairs[match.gold.type, match.predicted.type, same] += 1
        for side, length, seen in sides:
            for counts, group in ((self.lengths, length), (self.seen, seen)):
                if group is not None:
                    counts[group, side] += 1
                    # an error is of the group of its gold entity, where there is one
                    if side == "gold" or match.gold is None:
                        counts[group, match.kind] += 1

    def merge(self, other: _Errors) -> None:
        """Add other counts."""
        self.sentences += other.sentences
        self.sentences_with_errors += other.sentences_with_errors
        self.pairs.update(other.pairs)
        self.missed.update(other.missed)
        self.spurious.update(other.spurious)
        self.lengths.update(other.lengths)
        self.seen.update(other.seen)

    def result(self, label_set: LabelSet) -> dict[str, Any]:
        """What :meth:`NerErrors.result` gives of one subset."""
        kinds = Counter({"missed": self.missed.total(), "spurious": self.spurious.total()})
        families = {"within_family": 0, "across_families": 0}
        for (gold, predicted, same), count in self.pairs.items():
            kinds[_kind(gold, predicted, same)] += count
            if gold != predicted:
                is_near = label_set.coarse[gold] == label_set.coarse[predicted]
                families["within_family" if is_near else "across_families"] += count
        return {
            "sentences": self.sentences,
            "sentences_with_errors": self.sentences_with_errors,
            "kinds": {kind: kinds[kind] for kind in KINDS},
            "schemes": schemes(kinds),
            "wrong_types": families,
            "by_type": dict(self._by_type(label_set.types)),
            "confusion": self._confusion(label_set.types),
            "by_length": _groups(self.lengths, LENGTHS),
            **({"by_seen": _groups(self.seen, SEEN)} if self.seen else {}),
        }

    def _by_type(self, types: Sequence[str]) -> Iterator[tuple[str, dict[str, float]]]:
        """Of each type that occurs, the kinds of its gold entities, and the spurious ones."""
        for type_ in types:
            kinds = Counter({"missed": self.missed[type_], "spurious": self.spurious[type_]})
            predicted = self.spurious[type_]
            for (gold, given, same), count in self.pairs.items():
                predicted += count * (given == type_)
                if gold == type_:
                    kinds[_kind(gold, given, same)] += count
            gold_count = kinds.total() - kinds["spurious"]
            if gold_count or predicted:
                yield type_, _row(kinds, gold_count, predicted)

    def _confusion(self, types: Sequence[str]) -> dict[str, dict[str, list[int]]]:
        """Gold type -> predicted type -> matches with the same words, and with others."""
        return {
            gold: {
                given: [self.pairs[gold, given, True], self.pairs[gold, given, False]]
                for given in types
                if self.pairs[gold, given, True] or self.pairs[gold, given, False]
            }
            for gold in types
            if any(pair[0] == gold for pair in self.pairs)
        }


def _kind(gold: str, predicted: str, same: bool) -> str:
    if same:
        return "correct" if gold == predicted else "type"
    return "boundary" if gold == predicted else "type_and_boundary"


def _groups(counts: Mapping[tuple[str, str], int], names: Sequence[str]) -> dict[str, Any]:
    rows = {}
    for name in names:
        kinds = Counter({kind: counts.get((name, kind), 0) for kind in KINDS})
        gold, predicted = counts.get((name, "gold"), 0), counts.get((name, "predicted"), 0)
        if gold or predicted:
            rows[name] = _row(kinds, gold, predicted)
    return rows


def _row(kinds: Mapping[str, int], gold: int, predicted: int) -> dict[str, float]:
    correct = kinds["correct"]
    return {
        "gold": gold,
        "predicted": predicted,
        **{kind: kinds[kind] for kind in KINDS},
        "precision": correct / predicted if predicted else 0.0,
        "recall": correct / gold if gold else 0.0,
        "f1": 2 * correct / (gold + predicted) if gold + predicted else 0.0,
    }


def schemes(kinds: Mapping[str, int]) -> dict[str, dict[str, float]]:
    """The four schemes of SemEval-2013 from the counts of kinds.

    ``strict``: words and type; ``exact``: the words alone; ``partial``: the words, half for those
    that overlap; ``type``: the type, if they overlap.  A score without a denominator is 0.
    """
    right, type_ = kinds.get("correct", 0), kinds.get("type", 0)
    boundary, both = kinds.get("boundary", 0), kinds.get("type_and_boundary", 0)
    missed, spurious = kinds.get("missed", 0), kinds.get("spurious", 0)

    def scheme(correct: int, incorrect: int, partial: int) -> dict[str, float]:
        found = correct + incorrect + partial
        gained, gold, predicted = correct + 0.5 * partial, found + missed, found + spurious
        return {
            "correct": correct,
            "incorrect": incorrect,
            "partial": partial,
            "missed": missed,
            "spurious": spurious,
            "precision": gained / predicted if predicted else 0.0,
            "recall": gained / gold if gold else 0.0,
            "f1": 2 * gained / (gold + predicted) if gold + predicted else 0.0,
        }

    return {
        "strict": scheme(right, type_ + boundary + both, 0),
        "exact": scheme(right + type_, boundary + both, 0),
        "partial": scheme(right + type_, 0, boundary + both),
        "type": scheme(right + boundary, type_ + both, 0),
    }
