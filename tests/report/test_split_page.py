"""The page of a split by clusters: what it says, and what it does with many names and odd ones."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import numpy as np

from headrace.report.split_page import render_split
from headrace.report.split_plots import OTHERS, ClusterMap, groups_of


def page_of(clusters: int, labels: int) -> str:
    """A page of 300 samples, whose labels have names that a page must not act on."""
    random = np.random.default_rng(0)
    own = np.arange(300) % clusters
    names = tuple(f"<b>label {number}" for number in range(labels))
    marked = np.minimum(random.geometric(0.3, 300) - 1, labels - 1)
    counts = np.zeros((labels, clusters), int)
    np.add.at(counts, (marked, own), 1)
    found = {
        "silhouette": 0.25, "silhouette_samples": 300, "purity": 0.5, "inverse_purity": 0.75,
        "largest_label": 0.3, "labels": dict(zip(names, counts.tolist(), strict=True)),
    }  # fmt: skip
    return render_split(
        "a & b",
        {"name": "<i>source", "split": "train", "samples": 300},
        {f"cluster-{number}": int((own == number).sum()) for number in range(clusters)},
        found,
        ClusterMap(random.standard_normal((300, 2)), own.astype(np.int32), marked, names, 0.4),
        {"by": "clusters"},
    )


def drawings(page: str) -> dict[str | None, ElementTree.Element]:
    found = [ElementTree.fromstring(svg) for svg in re.findall(r"<svg .*?</svg>", page, re.S)]
    return {svg.findtext("title"): svg for svg in found if svg.get("role") == "img"}


def test_each_point_is_on_both_maps_once() -> None:
    page = page_of(2, 3)
    maps = drawings(page)
    assert set(maps) == {"Map by cluster", "Map by label"}
    for svg in maps.values():
        text = ElementTree.tostring(svg, encoding="unicode")
        uses = re.findall(r"<use [^>]*fill: var\(--series-\d\)", text)
        assert len(uses) == 300
    assert "cluster-0: 150, cluster-1: 150" in str(maps["Map by cluster"].findtext("desc"))


def test_names_are_text() -> None:
    page = page_of(2, 3)
    assert "&lt;b&gt;label 0" in page
    assert "<b>" not in page
    assert "<i>" not in page
    assert "<h1><bdi>a &amp; b</bdi></h1>" in page


def test_more_names_than_colours() -> None:
    page = page_of(9, 12)
    assert page.count("background: var(--muted)") == 2
    (table,) = re.findall(r'aria-label="Labels of each cluster".*?</table>', page, re.S)
    assert table.count('<th scope="col"') == 2 + 8 + 1
    assert "Other clusters" in table
    for row in re.findall(r"<tr>.*?</tr>", table, re.S)[1:]:
        total, *counts = (int(cell) for cell in re.findall(r"<td>(\d+)</td>", row))
        assert total == sum(counts)


def test_the_most_frequent_names_have_colours_of_their_own() -> None:
    numbers = np.repeat(np.arange(8), [5, 50, 1, 40, 30, 20, 10, 7])
    groups = groups_of(numbers, [f"n{number}" for number in range(9)])
    assert [group.name for group in groups] == ["n1", "n3", "n4", "n5", "n6", "n7", OTHERS]
    assert [len(group.points) for group in groups] == [50, 40, 30, 20, 10, 7, 6]
    assert [group.colour for group in groups] == [*(f"series-{n}" for n in range(6)), "muted"]
    assert sorted(np.concatenate([group.points for group in groups])) == list(range(163))
