from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from sklearn.metrics import brier_score_loss, log_loss

from headrace.tasks.calibration import (
    HIGHEST,
    LOWEST,
    Reliability,
    Temperatures,
    fit_temperature,
    probabilities,
)


def answers(items: int, classes: int, seed: int, scale: float = 2.0):
    """Logits, and classes that are drawn from their softmax."""
    chance = np.random.default_rng(seed)
    scores = scale * chance.normal(size=(items, classes)).astype(np.float32)
    shares = probabilities(scores)
    gold = np.array([chance.choice(classes, p=row) for row in shares])
    return scores, gold


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 300), st.integers(2, 9), st.integers(0, 10**6), st.floats(0.1, 5))
def test_figures_are_those_of_scikit_learn_and_of_the_definition(
    items: int, classes: int, seed: int, scale: float
) -> None:
    scores, gold = answers(items, classes, seed, scale)
    shares = probabilities(scores)
    found = Reliability()
    for part in np.array_split(np.arange(items), 3):  # added up in parts
        found.add(shares[part], gold[part])
    result = found.result()
    labels = list(range(classes))
    assert result["negative_log_likelihood"] == pytest.approx(log_loss(gold, shares, labels=labels))
    brier = ((shares - np.eye(classes)[gold]) ** 2).sum() / items
    assert result["brier"] == pytest.approx(brier)
    if classes > 2:
        assert result["brier"] == pytest.approx(brier_score_loss(gold, shares, labels=labels))
    confidence, right = shares.max(-1), shares.argmax(-1) == gold
    error = 0.0
    for number in range(15):  # Guo et al., equation 3
        inside = (confidence > number / 15) & (confidence <= (number + 1) / 15)
        if inside.any():
            gap = abs(right[inside].mean() - confidence[inside].mean())
            error += inside.sum() / items * gap
    assert result["expected_calibration_error"] == pytest.approx(error)
    assert result["accuracy"] == pytest.approx(right.mean())
    assert result["confidence"] == pytest.approx(confidence.mean())
    assert sum(one["items"] for one in result["bins"]) == items


def test_answers_as_wholes() -> None:
    confidence, happened = np.array([0.9, 0.8, 0.3, 1.0]), np.array([True, False, True, True])
    found = Reliability()
    found.add_events(confidence, happened)
    result = found.result()
    assert result["brier"] == pytest.approx(brier_score_loss(happened, confidence))
    assert result["negative_log_likelihood"] == pytest.approx(log_loss(happened, confidence))
    assert result["expected_calibration_error"] == pytest.approx((0.1 + 0.8 + 0.7 + 0) / 4)
    assert Reliability().result() == {"items": 0}


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_the_temperature_is_found_again(temperature: float) -> None:
    scores, gold = answers(40_000, 5, seed=3)
    fitted = fit_temperature([(temperature * scores, gold)])
    assert fitted is not None
    assert fitted.temperature == pytest.approx(temperature, rel=0.03)
    assert fitted.after <= fitted.before
    assert not fitted.is_at_bound
    found = Reliability()
    found.add(probabilities(temperature * scores, fitted.temperature), gold)
    assert found.result()["expected_calibration_error"] < 0.01
    assert found.result()["negative_log_likelihood"] == pytest.approx(fitted.after)


@settings(max_examples=25, deadline=None)
@given(st.integers(5, 200), st.integers(0, 10**6), st.floats(0.3, 4))
def test_no_other_temperature_is_better(items: int, seed: int, scale: float) -> None:
    parts = [answers(items, classes, seed + classes) for classes in (2, 4)]
    parts = [(np.float32(scale) * scores, gold) for scores, gold in parts]
    # choices that a sample does not have
    masked = np.concatenate([parts[0][0], np.full((items, 1), -np.inf, np.float32)], axis=1)
    fitted = fit_temperature([parts[1], (masked, parts[0][1])])
    assert fitted is not None

    def loss(logarithm: float) -> float:
        return sum(
            -np.log(probabilities(scores, np.exp(logarithm))[np.arange(len(gold)), gold]).sum()
            for scores, gold in parts
        ) / (2 * items)

    best = minimize_scalar(loss, bounds=(np.log(LOWEST), np.log(HIGHEST)), method="bounded")
    assert fitted.after <= best.fun + 1e-9
    assert fitted.after == pytest.approx(loss(np.log(fitted.temperature)))
    assert fitted.items == 2 * items


def test_bounds() -> None:
    scores = np.array([[3.0, 1.0], [0.0, 2.0]])
    right = fit_temperature([(scores, np.array([0, 1]))])
    wrong = fit_temperature([(scores, np.array([1, 0]))])
    assert right is not None
    assert wrong is not None
    assert right.is_at_bound
    assert right.temperature == pytest.approx(LOWEST)
    assert wrong.temperature == pytest.approx(HIGHEST)
    assert fit_temperature([]) is None


def test_temperatures_of_languages() -> None:
    found = Temperatures(1.5, {"hi": 2.0})
    assert (found.of("hi"), found.of("bn"), found.of(None)) == (2.0, 1.5, 1.5)
    assert Temperatures().of("en") == 1.0


def test_rows_without_numbers_stay_so() -> None:
    shares = probabilities(np.array([[np.nan, np.nan], [0.0, -np.inf]]))
    assert np.isnan(shares[0]).all()
    assert shares[1].tolist() == [1.0, 0.0]
