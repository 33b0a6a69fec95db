from __future__ import annotations

import json
import warnings

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from headrace.tasks.labels import LabelSet
from headrace.tasks.ner_errors import KINDS, KnownEntities, Match, NerErrors, match_spans
from headrace.tasks.ner_metrics import evaluate_tags
from headrace.tasks.spans import Span, strict_spans

LABELS = LabelSet("small", ("Artist", "Politician", "City"), {
    "Artist": "PER", "Politician": "PER", "City": "LOC",
})  # fmt: skip
Tags = list[list[str]]


@st.composite
def tagged(draw: st.DrawFn) -> tuple[Tags, Tags]:
    """Random gold and predicted tags of some sentences."""
    lengths = draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))
    tag = st.sampled_from(LABELS.tags)
    gold = [draw(st.lists(tag, min_size=size, max_size=size)) for size in lengths]
    predicted = [[draw(st.one_of(st.just(word), tag)) for word in words] for words in gold]
    return gold, predicted


def count(gold: Tags, predicted: Tags, **options: object) -> dict[str, object]:
    errors = NerErrors(LABELS, **options)  # type: ignore[arg-type]
    for one, other in zip(gold, predicted, strict=True):
        errors.update([f"w{n}" for n in range(len(one))], one, other)
    return errors.result()


def overlaps(one: Span, other: Span) -> bool:
    return one.start < other.end and other.start < one.end


def test_kinds_by_hand() -> None:
    text = """
        B-Artist I-Artist O B-City   O B-City O      B-Artist I-Artist O      B-City O O
        B-Artist I-Artist O B-Artist O B-City I-City O        B-City   I-City O      O B-City
    """
    gold, said = (line.split() for line in text.strip().splitlines())
    matches = match_spans(strict_spans(gold), strict_spans(said))
    assert [(match.gold, match.predicted, match.kind) for match in matches] == [
        (Span(0, 2, "Artist"), Span(0, 2, "Artist"), "correct"),
        (Span(3, 4, "City"), Span(3, 4, "Artist"), "type"),
        (Span(5, 6, "City"), Span(5, 7, "City"), "boundary"),
        (Span(7, 9, "Artist"), Span(8, 10, "City"), "type_and_boundary"),
        (Span(10, 11, "City"), None, "missed"),
        (None, Span(12, 13, "City"), "spurious"),
    ]
    result = count([gold], [said])
    assert result["kinds"] == dict.fromkeys(KINDS, 1)
    assert result["wrong_types"] == {"within_family": 0, "across_families": 2}
    assert result["confusion"] == {
        "Artist": {"Artist": [1, 0], "City": [0, 1]},
        "City": {"Artist": [1, 0], "City": [0, 1]},
    }
    strict, exact, partial, type_ = result["schemes"].values()  # type: ignore[attr-defined]
    assert (strict["correct"], strict["incorrect"]) == (1, 3)
    assert (exact["correct"], exact["incorrect"]) == (2, 2)
    assert (partial["correct"], partial["partial"]) == (2, 2)
    assert (type_["correct"], type_["incorrect"]) == (2, 2)
    assert partial["precision"] == partial["recall"] == partial["f1"] == pytest.approx(3 / 5)


@pytest.mark.parametrize(
    ("gold", "said", "expected"),
    [
        # a long gold entity that was torn: the longer part stands for it
        ("B-City I-City I-City I-City", "B-City B-City I-City I-City", [(0, 1), (None, 0)]),
        # the same type goes before more shared words
        ("B-Artist I-Artist B-City", "B-City I-City I-City", [(0, None), (1, 0)]),
        ("B-City B-Artist", "B-Artist B-Artist", [(0, 0), (1, 1)]),
        ("B-City O B-City", "B-City I-City I-City", [(0, 0), (1, None)]),
    ],
)
def test_ties_by_hand(gold: str, said: str, expected: list[tuple[int | None, int | None]]) -> None:
    one, other = strict_spans(gold.split()), strict_spans(said.split())
    found = {
        (one.index(match.gold) if match.gold else None,
         other.index(match.predicted) if match.predicted else None)
        for match in match_spans(one, other)
    }  # fmt: skip
    assert found == set(expected)


@settings(max_examples=300, deadline=None)
@given(tagged())
def test_every_entity_is_of_one_kind_and_scores_are_those_of_the_metrics(
    data: tuple[Tags, Tags],
) -> None:
    gold, predicted = data
    for one, other in zip(gold, predicted, strict=True):
        matches = match_spans(strict_spans(one), strict_spans(other))
        assert sorted(m.gold for m in matches if m.gold) == strict_spans(one)
        assert sorted(m.predicted for m in matches if m.predicted) == strict_spans(other)
        assert all(not m.gold or not m.predicted or overlaps(m.gold, m.predicted) for m in matches)
        # nothing that overlaps is left on both sides
        missed = [m.gold for m in matches if m.kind == "missed" and m.gold]
        spurious = [m.predicted for m in matches if m.kind == "spurious" and m.predicted]
        assert not any(overlaps(a, b) for a in missed for b in spurious)
    result, scores = count(gold, predicted), evaluate_tags(gold, predicted, LABELS)
    assert list(result["by_type"]) == list(scores["by_type"])  # type: ignore[call-overload]
    for type_, row in scores["by_type"].items():
        ours = result["by_type"][type_]  # type: ignore[index]
        assert {name: ours[name] for name in row} == row
    strict = result["schemes"]["strict"]  # type: ignore[index]
    assert strict["f1"] == pytest.approx(scores["micro_f1"])
    lengths = result["by_length"].values()  # type: ignore[attr-defined]
    for kind in (*KINDS, "gold", "predicted"):
        total = sum(row[kind] for row in lengths)
        assert total == sum(row[kind] for row in result["by_type"].values())  # type: ignore[attr-defined]
    json.dumps(result)


@settings(max_examples=150, deadline=None)
@given(tagged())
def test_schemes_agree_with_nervaluate_where_matching_is_clear(data: tuple[Tags, Tags]) -> None:
    nervaluate = pytest.importorskip("nervaluate")
    gold, predicted = data
    spans = [strict_spans(words) for words in gold], [strict_spans(words) for words in predicted]
    for ours, theirs in zip(*spans, strict=True):
        for one, others in [(a, theirs) for a in ours] + [(b, ours) for b in theirs]:
            # where an entity overlaps two, nervaluate goes by their order
            assume(sum(overlaps(one, other) for other in others) <= 1)

    def entities(sentences: list[list[Span]]) -> list[list[dict[str, object]]]:
        return [
            [{"label": s.type, "start": s.start, "end": s.end - 1} for s in sentence]
            for sentence in sentences
        ]

    assume(any(map(any, spans)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = nervaluate.Evaluator(
            entities(spans[0]), entities(spans[1]), tags=list(LABELS.types), loader="dict"
        )
        theirs = evaluator.evaluate()["overall"]
    ours = count(gold, predicted)["schemes"]
    for name, other in (("strict", "strict"), ("exact", "exact"), ("partial", "partial"),
                        ("type", "ent_type")):  # fmt: skip
        for key in ("correct", "incorrect", "partial", "missed", "spurious"):
            assert ours[name][key] == getattr(theirs[other], key), (name, key)  # type: ignore[index]
        for key in ("precision", "recall", "f1"):
            assert ours[name][key] == pytest.approx(getattr(theirs[other], key))  # type: ignore[index]


def test_seen_and_unseen_entities() -> None:
    known = KnownEntities([
        (["New", "York", "and", "ADA"], ["B-City", "I-City", "O", "B-Artist"]),
        (["Ada"], ["B-Politician"]),
    ])  # fmt: skip
    assert len(known) == 2
    errors = NerErrors(LABELS, known=known)
    errors.update(
        ["new", "york", "met", "Ada", "in", "Ghent"],
        ["B-City", "I-City", "O", "B-Artist", "O", "B-City"],
        ["B-City", "I-City", "O", "B-City", "O", "O"],
    )
    errors.update(["Ada"], ["B-Politician"], ["B-Politician"])
    rows = errors.result()["by_seen"]
    counts = ("gold", "predicted", "correct")
    assert {name: tuple(row[key] for key in counts) for name, row in rows.items()} == {
        "seen": (3, 2, 2),
        "seen_as_other_type": (0, 1, 0),
        "unseen": (1, 0, 0),
    }
    assert rows["seen"]["recall"] == pytest.approx(2 / 3)
    assert rows["seen"]["type"] == 1
    assert "by_seen" not in count([["O"]], [["O"]])


def test_subsets_and_examples() -> None:
    errors = NerErrors(LABELS, examples=1)
    for subset in ("clean", "noisy", "noisy"):
        said = "O" if subset == "noisy" else "B-City"
        errors.update(["in", "Ghent"], ["O", "B-City"], ["O", said], subset=subset, identifier="x")
    result = errors.result()
    assert result["kinds"]["missed"] == result["subsets"]["noisy"]["kinds"]["missed"] == 2
    assert result["subsets"]["clean"]["schemes"]["strict"]["f1"] == 1
    assert (result["sentences"], result["sentences_with_errors"]) == (3, 2)
    assert [example.as_dict() for example in errors.examples] == [{
        "id": "x", "kind": "missed", "predicted": None, "text": "in Ghent",
        "gold": {"type": "City", "start": 1, "end": 2, "text": "Ghent"},
    }]  # fmt: skip
    assert "Ghent" not in json.dumps(result)
    assert Match(None, Span(0, 1, "City")).kind == "spurious"
