"""The page of a split by clusters: sizes, how apart the clusters are, and two maps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from headrace.counts import counted
from headrace.report import numbers
from headrace.report.page import Tile, render_page, require_page_tools
from headrace.report.split_plots import ClusterMap, groups_of, map_plot
from headrace.report.tables import Table

TEMPLATE = "split.html.j2"
_COLUMNS = 8
"""Clusters that the table of labels has a column for."""


def render_split(
    name: str,
    source: Mapping[str, Any],
    sizes: Mapping[str, int],
    found: Mapping[str, Any],
    picture: ClusterMap,
    settings: Mapping[str, Any],
) -> str:
    """The page as text.

    Args:
        name: of the split, its heading.
        source: name, samples and more of what was split.
        sizes: samples of each part.
        found: the facts and tables of the division.
        picture: where some samples lie.
        settings: of the split.

    Raises:
        MissingExtraError: where jinja2 or matplotlib is not installed.
    """
    require_page_tools()
    from markupsafe import Markup

    clusters = groups_of(picture.clusters, list(sizes))
    labels = None if picture.labels is None else groups_of(picture.labels, picture.label_names)
    return render_page(
        TEMPLATE,
        name=name,
        facts=[
            f"source: {source['name']}",
            f"{counted(len(sizes), 'cluster')} by K-means",
            *([f"split: {source['split']}"] if "split" in source else []),
        ],
        notes=[],
        tiles=_tiles(sizes, found),
        map_note=(
            f"{counted(len(picture.points), 'sample')}, drawn at random, along the first two "
            "principal components of their unit embeddings, which hold "
            f"{numbers.share(picture.variance)} of the variance."
        ),
        clusters=clusters,
        cluster_figure=Markup(map_plot(picture, clusters, "clusters", "Map by cluster")),
        labels=labels,
        label_figure=None
        if labels is None
        else Markup(map_plot(picture, labels, "labels", "Map by label")),
        size_table=_size_table(sizes),
        label_table=_label_table(list(sizes), found.get("labels")),
        settings=json.dumps(settings, indent=2, ensure_ascii=False),
    )


def _tiles(sizes: Mapping[str, int], found: Mapping[str, Any]) -> list[Tile]:
    total, largest = sum(sizes.values()), max(sizes.values())
    share = numbers.share(largest / total)
    tiles = [Tile(numbers.count(total), "samples", f"{share} in the largest cluster")]
    if "silhouette" in found:
        note = f"from −1 to 1, over {counted(found['silhouette_samples'], 'sample')}"
        tiles.append(Tile(f"{found['silhouette']:.3f}", "silhouette", note))
    if "purity" in found:
        note = f"of one cluster: {numbers.share(found['largest_label'])}"
        tiles.append(Tile(numbers.share(found["purity"]), "purity", note))
        note = f"the largest cluster: {share}"
        tiles.append(Tile(numbers.share(found["inverse_purity"]), "inverse purity", note))
    return tiles


def _size_table(sizes: Mapping[str, int]) -> Table:
    total = sum(sizes.values())
    return Table(
        "Samples of each cluster",
        ("Cluster", "Samples", "Share"),
        tuple(
            (name, numbers.count(size), numbers.share(size / total)) for name, size in sizes.items()
        ),
    )


def _label_table(clusters: list[str], labels: Mapping[str, list[int]] | None) -> Table | None:
    if not labels:
        return None
    shown = clusters[:_COLUMNS]
    rows = tuple(
        (
            label,
            numbers.count(sum(counts)),
            *(numbers.count(count) for count in counts[: len(shown)]),
            *([numbers.count(sum(counts[len(shown) :]))] if len(clusters) > len(shown) else []),
        )
        for label, counts in sorted(labels.items(), key=lambda item: -sum(item[1]))
    )
    rest = ("Other clusters",) if len(clusters) > len(shown) else ()
    return Table("Labels of each cluster", ("Label", "Samples", *shown, *rest), rows)
