from __future__ import annotations

from typing import Any

import pytest

from headrace.report.errors_page import matrix, render_errors
from headrace.report.reliability_page import render_reliability
from headrace.tasks.labels import LabelSet
from headrace.tasks.ner_errors import NerErrors

LABELS = LabelSet("odd", ("<b>Artist", "City", "River"), {
    "<b>Artist": "PER", "City": "LOC", "River": "LOC",
})  # fmt: skip


@pytest.fixture
def errors() -> NerErrors:
    found = NerErrors(LABELS, examples=1)
    gold = ["B-City", "O", "B-City", "O", "B-River", "O", "B-<b>Artist", "O"]
    said = ["B-City", "O", "B-River", "O", "O", "O", "B-<b>Artist", "B-City"]
    found.update([f"<i>w{n}" for n in range(8)], gold, said, subset="noisy", identifier="s1")
    return found


def document(errors: NerErrors, **more: Any) -> dict[str, Any]:
    return {"families": LABELS.coarse, "languages": {"en": errors.result()}, "all": None, **more}


def test_the_matrix_has_counts_shares_and_what_they_are_of(errors: NerErrors) -> None:
    found = matrix("en", errors.result(), LABELS.coarse)
    rows = {row.label: row.cells for family in found.families for row in family.rows}
    assert [family.title for family in found.families] == ["Person", "Location"]
    assert [cell.text for cell in rows["City"]] == ["", "", "1", "1"]
    assert rows["City"][3].hover.startswith("City taken for River: 1 with the same words, 0 with")
    assert (rows["City"][2].step, rows["<b>Artist"][1].step) == (10, 20)  # half, and all
    assert rows["River"][0].hover == "River: 1 of 1 missed"
    assert [cell.text for cell in found.spurious.cells] == ["", "", "1", ""]


def test_the_page_is_safe_and_shows_texts_only_when_they_are_there(errors: NerErrors) -> None:
    page = render_errors("<model>", document(errors))
    assert "&lt;model&gt;" in page
    assert "<b>Artist" not in page
    assert "w2" not in page
    assert "noisy" in page
    assert "the same" in page  # City and River are of one family
    examples = {"en": [example.as_dict() for example in errors.examples]}
    page = render_errors("m", document(errors, examples=examples))
    assert "&lt;i&gt;w2 (City)" in page
    assert "<i>w" not in page


def test_several_languages_come_with_all_of_them(errors: NerErrors) -> None:
    whole = {**document(errors), "all": errors.result()}
    page = render_errors(
        "m", {**whole, "languages": {"en": errors.result(), "hi": errors.result()}}
    )
    assert "all languages" in page
    assert "Seen in training" not in page


def test_a_page_of_reliability_without_a_temperature() -> None:
    one = {
        "items": 4, "accuracy": 0.5, "confidence": 0.9, "expected_calibration_error": 0.4,
        "brier": 0.7, "negative_log_likelihood": 1.0,
        "bins": [{"low": 0.8, "high": 1.0, "items": 4, "accuracy": 0.5, "confidence": 0.9}],
    }  # fmt: skip
    raw = {"temperature": 1.0, "items": one, "subsets": {"noisy": {"items": one}}}
    page = render_reliability("m", {"languages": {"en": {"raw": raw}}})
    assert "90.0 % on average, 50.0 % right" in page
    assert "with its temperature" not in page
    assert "Predicted entities" not in page
    nothing = {"raw": {**raw, "entities": {"items": 0}}}
    assert "Predicted entities" in render_reliability("m", {"languages": {"en": nothing}})
