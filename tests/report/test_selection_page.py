"""The page of a selection: what it says, that it is accessible, and that it needs nothing else."""

import builtins
import json
import logging
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from headrace.cli import main
from headrace.report.selection_page import render_selection
from headrace.selection.projection import Map


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    """Vectors in groups, some of them copies, in files."""
    folder = tmp_path_factory.mktemp("vectors")
    random = np.random.default_rng(0)
    rows = random.standard_normal((500, 12)) + 1.5 * random.standard_normal(12)
    rows[400:450] = rows[:50]
    np.save(folder / "v.npy", rows.astype(np.float32))
    groups = ["en"] * 300 + ["<b>hi"] * 150 + ["zh"] * 50
    ids = [f"{group}/{row}" for row, group in enumerate(groups)]
    (folder / "ids.txt").write_text("\n".join(ids) + "\n")
    return ["--vectors", str(folder / "v.npy"), "--ids", str(folder / "ids.txt")]


@pytest.fixture(scope="module")
def selected(vectors, tmp_path_factory):
    """A selection past the knee."""
    folder = tmp_path_factory.mktemp("selected") / "made"
    assert main(["select", *vectors, "--rows", "120", "--output", str(folder)]) == 0
    return folder


def test_every_figure_is_there_with_its_text_and_its_table(selected):
    page = (selected / "report.html").read_text(encoding="utf-8")
    report = json.loads((selected / "selection.json").read_text(encoding="utf-8"))
    drawings = [ElementTree.fromstring(svg) for svg in re.findall(r"<svg .*?</svg>", page, re.S)]
    drawings = [svg for svg in drawings if svg.get("role") == "img"]
    assert len(drawings) == 4
    texts = {svg.findtext("title"): svg.findtext("desc") for svg in drawings}
    assert all(texts.values())
    first = report["first_negative_gain"]
    assert f"From sample {first:,} on" in texts["Gain of each sample over those before it"]
    coverage = report["coverage"]
    assert (
        f"reach a coverage of {coverage['chosen']:.3f}, random ones {coverage['random']:.3f}"
        in texts["Coverage of the chosen samples and of random ones"]
    )
    assert "chosen samples among" in texts["Map of chosen samples and others"]
    for rows, chosen in zip(coverage["heads"]["rows"], coverage["heads"]["chosen"], strict=True):
        assert f"{chosen:.4f}" in page
        assert f"{rows:,} chosen samples: coverage {chosen:.4f}" in page  # on hover
    for group in report["groups"].values():
        assert f"<td>{group['chosen']}</td>" in page
    assert "too large for 120 of 500 rows" in page
    assert "&lt;b&gt;hi" in page
    assert "<b>hi" not in page


def test_it_needs_nothing_else(selected):
    page = (selected / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    links = re.findall(r"""(?:href|src)=["']([^"']*)""", page) + re.findall(r"url\(([^)]*)\)", page)
    assert [link for link in links if not link.startswith(("#", "data:"))] == []


def test_without_the_extra_there_is_no_page_and_a_warning(vectors, tmp_path, monkeypatch, caplog):
    real = builtins.__import__

    def without(name, *rest):
        if name.split(".")[0] == "jinja2":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with caplog.at_level(logging.WARNING):
        assert main(["select", *vectors, "--rows", "9", "--output", str(tmp_path / "out")]) == 0
    assert "report.html is left out: environment: an HTML report needs the package jinja2" in (
        caplog.text
    )
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "selection.json", "selection.parquet",
    ]  # fmt: skip


def test_a_selection_of_nothing_has_a_page(selected):
    report = json.loads((selected / "selection.json").read_text(encoding="utf-8"))
    report.update(chosen=0, coverage=None, knee=None, first_negative_gain=None)
    page = render_selection("empty", report, [], Map(np.zeros((3, 2)), 3, 0.5), None)
    assert page.count("Nothing is chosen.") == 2


def test_long_curves_are_thinned_out(selected):
    report = json.loads((selected / "selection.json").read_text(encoding="utf-8"))
    report.update(chosen=100_000, first_negative_gain=90_001)
    gains = np.linspace(9, -1, 100_000).tolist()
    page = render_selection("long", report, gains, Map(np.zeros((3, 2)), 3, 0.5), None)
    assert len(page) < 200_000
    assert "sample 90,001 is the first that lowers the objective" in page
