"""The page of the stream benchmark: rendered from the result, with every missed target named."""

import copy
import json
from pathlib import Path

import pytest

from headrace.benchmarks.page import MISSED, UNMEASURED, number
from tests.script_files import script

ROOT = Path(__file__).parents[2]
RESULT = ROOT / "docs" / "results" / "stream.json"


@pytest.fixture(scope="module")
def table():
    return script("stream_table")


@pytest.fixture(scope="module")
def result():
    return json.loads(RESULT.read_text(encoding="utf-8"))


def with_figures(result, **figures):
    changed = copy.deepcopy(result)
    changed["figures"].update(figures)
    return changed


def test_the_page_is_rendered_from_the_result(table, result):
    page = RESULT.with_suffix(".md").read_text(encoding="utf-8")
    assert page == table.render(result)


def test_the_verdicts_are_those_of_the_figures(table, result):
    page = table.render(result)
    for target in table.TARGETS:
        (line,) = [line for line in page.splitlines() if line.startswith(f"| {target.what} |")]
        value = result["figures"].get(target.figure)
        if value is None:
            verdict = UNMEASURED
        else:
            met = value >= target.at_least if target.below is None else value < target.below
            verdict = "met" if met else MISSED
        assert line.endswith(f"| {verdict} |")


@pytest.mark.parametrize(
    ("figure", "met", "missed"),
    [
        ("raw_vs_litdata", 1.0, 0.99),
        ("raw_vs_webdataset", 10.0, 9.9),
        ("encoded_vs_online", 100.0, 99.9),
        ("first_batch_ms", 49.9, 50.0),
        ("resume_ms_0.99", 49.9, 50.1),
        ("state_bytes", 1023, 1024),
        ("resume_lost_or_repeated", 0, 1),
    ],
)
def test_a_missed_target_is_said_in_the_table_and_in_a_sentence(table, result, figure, met, missed):
    what = next(target.what for target in table.TARGETS if target.figure == figure)

    def said(value):
        page = table.render(with_figures(result, **{figure: value})).splitlines()
        (row,) = [line for line in page if line.startswith(f"| {what} |")]
        sentence = next((line for line in page if line.startswith("Missed: ")), "")
        return MISSED in row, what in sentence

    assert said(met) == (False, False)
    assert said(missed) == (True, True)


def test_a_figure_that_is_not_there_is_not_called_met(table, result):
    changed = copy.deepcopy(result)
    changed["figures"].pop("raw_vs_litdata", None)
    page = table.render(changed)
    assert f"| ≥ 1 | {UNMEASURED} |" in page
    assert "Not measured: raw samples/s against litData" in page


def test_a_peer_that_is_ahead_is_named_by_how_much(table, result):
    def row(group, name, unit, median):
        return {"group": group, "name": name, "unit": unit, "median": median}

    rows = [
        row("raw", "headrace", "samples/s", 100.0), row("raw", "fast", "samples/s", 150.0),
        row("raw", "slow", "samples/s", 50.0), row("raw", "equal", "samples/s", 100.0),
        row("resume", "headrace", "ms", 30.0), row("resume", "fast", "ms", 10.0),
        row("resume", "slow", "ms", 60.0), row("token ids", "sidecars", "samples/s", 1.0),
    ]  # fmt: skip
    assert table.ahead({"rows": rows}) == ["- raw: fast, 1.50 times", "- resume: fast, 3.00 times"]
    assert table.ahead({"rows": rows[:1]}) == ["Nowhere."]


def test_every_row_and_record_of_the_result_is_on_the_page(table, result):
    page = table.render(result)
    for row in result["rows"]:
        assert number(row["median"]) in page, row
    for records in result["tables"].values():
        for record in records:
            assert record["contestant"].split(",")[0] in page
