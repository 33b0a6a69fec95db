"""Scores that are no fractions, and those of which less is better."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from headrace.report.numbers import MINUS, difference, score
from headrace.report.run_folder import RunFolder, read_run_folder
from headrace.report.summary import language_results
from headrace.report.tables import comparison_table, headline_table, results_markdown
from headrace.report.terms import terms_of


def run_folder(folder: Path, values: list[dict[str, dict[str, Any]]], **more: Any) -> RunFolder:
    """A run of a stage for each of the values: scores by language."""
    folder.mkdir()
    stages = [
        {"stage": f"s{number}", "branch": "all", "languages": list(metrics), "metrics": metrics}
        for number, metrics in enumerate(values)
    ]
    document = {"task": "causal_lm", "stages": stages, **more}
    (folder / "results.json").write_text(json.dumps(document))
    return read_run_folder(folder)


def lm(perplexity: float, bits: float = 1.0, right: float = 0.25) -> dict[str, float]:
    return {"perplexity": perplexity, "bits_per_byte": bits, "token_accuracy": right, "samples": 4}


def test_less_perplexity_after_a_stage_is_a_gain(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "a", [{"en": lm(30), "hi": lm(50)}, {"en": lm(20), "hi": lm(60)}])
    gains = {result.language: result.gain for result in language_results(run)}
    assert gains == {"en": 10, "hi": -10}
    table = headline_table(run)
    rows = {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert rows["en"]["Perplexity, s0"] == "30"
    assert rows["en"]["Gain"] == "+10"
    assert rows["hi"]["Gain"] == f"{MINUS}10"
    assert rows["Mean"]["Gain"] == "0"
    assert rows["en"]["Token accuracy"] == "25.00"
    assert rows["en"]["Bits per byte"] == "1"
    text = results_markdown(run)
    assert (
        "Scores are in percent, but for perplexity and bits per byte, of which less is better; "
        "losses are in nats per token." in text
    )


def test_more_of_a_fraction_is_still_a_gain(tmp_path: Path) -> None:
    values = [{"en": {"accuracy": 0.5}}, {"en": {"accuracy": 0.75}}]
    run = run_folder(tmp_path / "a", values, task="multiple_choice")
    (result,) = language_results(run)
    assert result.gain == 0.25
    assert headline_table(run).rows[0][1:4] == ("50.00", "75.00", "+25.00")
    assert terms_of("multiple_choice").in_percent == "Scores are in percent"


def test_runs_are_compared_by_numbers_as_they_are(tmp_path: Path) -> None:
    runs = [run_folder(tmp_path / name, [{"en": lm(value)}]) for name, value in
            (("a", 20.0), ("b", 22.0))]  # fmt: skip
    table = comparison_table(runs)
    assert table.title == "Perplexity of 2 runs"
    assert table.rows[0][3:6] == ("20", "22", "21 ± 1.414")


def test_scores_of_a_task_that_is_not_built_in_come_with_its_results(tmp_path: Path) -> None:
    described = {
        "words_wrong": {"title": "Words wrong", "is_number": False, "lower_is_better": True},
        "length": {"title": "Length", "is_number": True, "lower_is_better": False},
    }
    values = [{"en": {"words_wrong": 0.5, "length": 3}}, {"en": {"words_wrong": 0.3, "length": 4}}]
    run = run_folder(tmp_path / "a", values, task="elsewhere", scores=described)
    (result,) = language_results(run)
    assert result.gain == pytest.approx(0.2)
    table = headline_table(run)
    assert table.columns[1:4] == ("Words wrong, s0", "Words wrong, s1", "Gain")
    assert table.rows[0][1:5] == ("50.00", "30.00", "+20.00", "4")


def test_how_scores_are_written() -> None:
    assert [score(value, is_number=True) for value in (1.23456, 12345.6, None)] == [
        "1.235", "12,346", "–",
    ]  # fmt: skip
    assert score(0.5, is_number=False) == "50.00"
    assert [difference(value, is_number=True) for value in (0.0, 1.5, -1.5, None)] == [
        "0", "+1.5", f"{MINUS}1.5", "–",
    ]  # fmt: skip
