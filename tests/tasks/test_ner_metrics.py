from __future__ import annotations

import json
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import (
    precision_recall_fscore_support as default_scores,
)
from seqeval.metrics.v1 import precision_recall_fscore_support as strict_scores
from seqeval.scheme import IOB2, Entities

from headrace.errors import LabelError
from headrace.tasks.labels import LabelSet, load_label_set
from headrace.tasks.ner_metrics import NerScores, evaluate_tags

LABELS = LabelSet("small", ("Artist", "Politician", "City"), {
    "Artist": "PER", "Politician": "PER", "City": "LOC",
})  # fmt: skip


@st.composite
def tagged(draw: st.DrawFn) -> tuple[list[list[str]], list[list[str]]]:
    """Random gold and predicted tags of some sentences, malformed ones included."""
    lengths = draw(st.lists(st.integers(1, 8), min_size=1, max_size=5))
    tag = st.sampled_from(LABELS.tags)
    gold = [draw(st.lists(tag, min_size=size, max_size=size)) for size in lengths]
    # Half of the words agree, so that correct entities are common.
    predicted = [[draw(st.one_of(st.just(word), tag)) for word in words] for words in gold]
    return gold, predicted


@settings(max_examples=200, deadline=None)
@given(tagged())
def test_agrees_with_seqeval_in_strict_mode(data: tuple[list[list[str]], list[list[str]]]) -> None:
    gold, predicted = data
    types = sorted(Entities(gold, IOB2).unique_tags | Entities(predicted, IOB2).unique_tags)
    result = evaluate_tags(gold, predicted, LABELS)
    assert sorted(result["by_type"]) == types
    if not types:  # seqeval divides by zero here
        assert result["fine_macro_f1"] == result["micro_f1"] == 0
        return
    options = {"scheme": IOB2, "zero_division": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        by_type = strict_scores(gold, predicted, average=None, **options)
        micro = strict_scores(gold, predicted, average="micro", **options)
        macro = strict_scores(gold, predicted, average="macro", **options)
    for row, name in enumerate(types):
        ours = result["by_type"][name]
        expected = [by_type[column][row] for column in range(4)]
        assert [ours[key] for key in ("precision", "recall", "f1", "gold")] == pytest.approx(
            expected, abs=1e-12
        )
    assert [result[key] for key in ("precision", "recall", "micro_f1")] == pytest.approx(
        micro[:3], abs=1e-12
    )
    assert result["fine_macro_f1"] == pytest.approx(macro[2], abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(tagged())
def test_lenient_figures_agree_with_seqeval_in_default_mode(
    data: tuple[list[list[str]], list[list[str]]],
) -> None:
    gold, predicted = data
    if all(tag == "O" for sentence in gold + predicted for tag in sentence):
        return
    lenient = evaluate_tags(gold, predicted, LABELS)["lenient"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        micro = default_scores(gold, predicted, average="micro", zero_division=0)
        macro = default_scores(gold, predicted, average="macro", zero_division=0)
    assert [lenient[key] for key in ("precision", "recall", "micro_f1")] == pytest.approx(
        micro[:3], abs=1e-12
    )
    assert lenient["fine_macro_f1"] == pytest.approx(macro[2], abs=1e-12)


def test_wrong_fine_type_of_the_right_family_counts_for_coarse_scores_only() -> None:
    gold = [["B-Artist", "I-Artist", "O", "B-City"]]
    predicted = [["B-Politician", "I-Politician", "O", "B-City"]]
    result = evaluate_tags(gold, predicted, LABELS)
    assert result["coarse_macro_f1"] == 1
    assert result["by_coarse_type"]["PER"]["correct"] == 1
    assert result["micro_f1"] == 0.5
    # Artist is missed, Politician is made up: both lower the mean over all types present.
    assert result["fine_macro_f1"] == pytest.approx(1 / 3)
    assert result["fine_macro_f1_gold_types"] == pytest.approx(1 / 2)


def test_right_type_with_a_wrong_boundary_is_wrong_at_both_levels() -> None:
    result = evaluate_tags([["B-Artist", "I-Artist"]], [["B-Artist", "O"]], LABELS)
    assert result["micro_f1"] == result["coarse_macro_f1"] == 0
    assert result["by_type"]["Artist"] == {
        "precision": 0, "recall": 0, "f1": 0, "gold": 1, "predicted": 1, "correct": 0,
    }  # fmt: skip


def test_subsets_are_scored_apart_and_together() -> None:
    gold = [["B-City"], ["B-City", "O"], ["B-Artist", "O", "O"]]
    predicted = [["B-City"], ["O", "O"], ["B-Artist", "O", "O"]]
    result = evaluate_tags(gold, predicted, LABELS, subsets=["clean", "noisy", None])
    assert (result["sentences"], result["words"]) == (3, 6)
    assert result["micro_f1"] == pytest.approx(0.8)
    assert list(result["subsets"]) == ["clean", "noisy"]
    assert result["subsets"]["clean"] | {"subsets": {}} == evaluate_tags(
        gold[:1], predicted[:1], LABELS
    )
    assert result["subsets"]["noisy"]["micro_f1"] == 0
    assert (result["subsets"]["noisy"]["sentences"], result["subsets"]["noisy"]["words"]) == (1, 2)


@settings(deadline=None)
@given(tagged(), st.integers(1, 4))
def test_shares_merged_through_json_give_the_scores_of_the_whole(
    data: tuple[list[list[str]], list[list[str]]], world: int
) -> None:
    gold, predicted = data
    subsets = [("clean", "noisy", None)[number % 3] for number in range(len(gold))]
    total = NerScores(LABELS)
    for rank in range(world):
        share = NerScores(LABELS)
        for row in list(zip(gold, predicted, subsets, strict=True))[rank::world]:
            share.update(*row)
        total.merge(json.loads(json.dumps(share.counts())))
    assert total.result() == evaluate_tags(gold, predicted, LABELS, subsets)


def test_counts_of_another_label_set_are_refused() -> None:
    scores = NerScores(load_label_set("uner"))
    with pytest.raises(ValueError, match="another label set"):
        scores.merge(NerScores(LABELS).counts())


def test_bad_input_is_told_at_once_and_not_counted() -> None:
    scores = NerScores(LABELS)
    scores.update(["O"], ["O"])
    with pytest.raises(LabelError) as error:
        scores.update(["B-Artist", "B-Cty"], ["X-City"])
    assert len(error.value.problems) == 3
    assert {problem.where for problem in error.value.problems} == {"sentence 2"}
    assert "Did you mean B-City?" in str(error.value)
    assert scores.result()["sentences"] == 1
    with pytest.raises(LabelError, match="numbers of gold sentences"):
        evaluate_tags([["O"]], [], LABELS)
