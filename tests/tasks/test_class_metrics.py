"""Scores of labels and of numbers against scikit-learn and scipy, and in any division."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics

from headrace.tasks.class_metrics import SequenceScores

NAMES = st.sampled_from(["yes", "no", "maybe", "ja"])
LABELS = st.lists(st.tuples(NAMES, NAMES, st.sampled_from([None, "a", "b"])), min_size=1)
NUMBERS = st.integers(-40, 40).map(lambda value: value / 8) | st.floats(-1e3, 1e3)
SCORES = st.lists(st.tuples(NUMBERS, NUMBERS), min_size=2, max_size=40)


@given(LABELS)
def test_scores_of_labels_are_those_of_scikit_learn(pairs: list) -> None:
    scores = SequenceScores()
    for label, predicted, subset in pairs:
        scores.add_label(label, predicted, subset=subset)
    gold, answers, _ = zip(*pairs, strict=True)
    found = scores.result()
    assert found["samples"] == len(pairs)
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(gold, answers))
    f1 = metrics.f1_score(gold, answers, average="macro", zero_division=0)
    assert found["macro_f1"] == pytest.approx(f1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        matthews = metrics.matthews_corrcoef(gold, answers)
    assert found["matthews"] == pytest.approx(matthews, abs=1e-12)
    most = max(gold.count(name) for name in gold)
    assert found["majority"] == pytest.approx(most / len(gold))
    table = metrics.classification_report(gold, answers, output_dict=True, zero_division=0)
    for name, entry in found["by_label"].items():
        assert entry["precision"] == pytest.approx(table[name]["precision"])
        assert entry["recall"] == pytest.approx(table[name]["recall"])
        assert entry["f1"] == pytest.approx(table[name]["f1-score"])
        assert entry["gold"] == table[name]["support"]
    for subset, part in found["subsets"].items():
        own = [(label, predicted) for label, predicted, name in pairs if name == subset]
        assert part["samples"] == len(own)
        assert part["accuracy"] == pytest.approx(sum(a == b for a, b in own) / len(own))


@given(SCORES)
def test_correlations_are_those_of_scipy(pairs: list) -> None:
    scores = SequenceScores()
    for score, predicted in pairs:
        scores.add_score(score, predicted)
    gold, answers = np.array(pairs).T
    found = scores.result()
    error = metrics.mean_squared_error(gold, answers)
    assert found["mean_squared_error"] == pytest.approx(error, rel=1e-9, abs=1e-12)
    constant = gold.min() == gold.max() or answers.min() == answers.max()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spearman = 0.0 if constant else stats.spearmanr(gold, answers).statistic
        pearson = 0.0 if constant else stats.pearsonr(gold, answers).statistic
    assert found["spearman"] == pytest.approx(spearman, abs=1e-9)
    # where values differ by less than rounding, scipy's sums say nothing
    spreads = [np.ptp(side) / max(1e-300, np.abs(side).max()) for side in (gold, answers)]
    if constant or min(spreads) > 1e-6:
        assert found["pearson"] == pytest.approx(pearson, abs=1e-6)


@given(LABELS, SCORES, st.randoms(use_true_random=False))
def test_any_division_and_order_gives_the_same(labels: list, numbers: list, random: object) -> None:
    for members, add in ((labels, "add_label"), (numbers, "add_score")):
        whole, shares = SequenceScores(), [SequenceScores() for _ in range(3)]
        for first, second, *subset in members:
            getattr(whole, add)(first, second, subset=subset[0] if subset else None)
        shuffled = list(members)
        random.shuffle(shuffled)  # type: ignore[attr-defined]
        for number, (first, second, *subset) in enumerate(shuffled):
            share = shares[number % 3]
            getattr(share, add)(first, second, subset=subset[0] if subset else None)
        joined = SequenceScores()
        for share in shares:
            joined.merge(json.loads(json.dumps(share.counts())))
        assert joined.result() == whole.result()


def test_a_model_that_gives_no_number_has_no_correlation() -> None:
    scores = SequenceScores()
    for score, predicted in ((1.0, float("nan")), (2.0, 1.0)):
        scores.add_score(score, predicted)
    assert scores.result()["pearson"] == scores.result()["spearman"] == 0.0


def test_counts_of_another_version_are_refused() -> None:
    with pytest.raises(ValueError, match="another version"):
        SequenceScores().merge({"version": 0, "groups": {}})
