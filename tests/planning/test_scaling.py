"""The page about many GPUs: its tables are those of the code, and of what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from headrace.planning.speed import bytes_sent
from tests.script_files import script

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tables():
    return script("scaling_tables")


@pytest.fixture(scope="module")
def goodput():
    path = ROOT / "docs" / "results" / "goodput.json"
    if not path.exists():
        pytest.skip("not measured yet: python tests/planning/measure_goodput.py " + str(path))
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_page_shows_what_the_code_says(tables):
    page = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    assert page == tables.put_into(page, tables.formulas())
    assert page == tables.put_into(page, tables.measured())


def test_what_is_sent_is_what_the_formulas_of_the_page_say(tables):
    for network in tables.networks():
        weights, trained, width = network.sizes.all, network.sizes.trained, 2
        formulas = (
            2 * width * trained,
            3 * width * trained,
            2 * width * trained + width * trained,
            2 * width * weights + width * trained,
        )
        for ranks in tables.RANKS:
            part = (ranks - 1) / ranks
            for stage, formula in enumerate(formulas):
                sent = bytes_sent(tables.setup(stage, ranks), network.sizes)
                assert sent == pytest.approx(part * formula)


def test_more_gpus_never_need_more_memory(tables):
    for network in tables.networks():
        for stage in tables.STAGES:
            held = [tables.states(network, stage, ranks) for ranks in tables.RANKS]
            assert held == sorted(held, reverse=True)


def test_real_failures_cost_what_was_simulated(goodput):
    """What was measured, as it is committed; nothing is timed here.

    A kill that falls on the other side of a checkpoint changes a life by up to 20 points.
    """
    assert sum(row["failures"] for row in goodput["rows"]) > 10
    for row in goodput["rows"]:
        assert len(row["each"]) == goodput["lives"]
        assert row["measured"] == pytest.approx(sum(row["each"]) / len(row["each"]))
        assert row["simulated"] == pytest.approx(row["measured"], abs=0.05)
        assert row["low"] < row["measured"] < row["high"]
    best = max(goodput["rows"], key=lambda row: row["measured"])
    assert best == max(goodput["rows"], key=lambda row: row["simulated"])
