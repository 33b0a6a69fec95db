"""The page of calibration: how often what a model says with some confidence is right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headrace.report import numbers, svg
from headrace.report.axes import Size, new_figure
from headrace.report.page import Tile, render_page, require_page_tools
from headrace.report.summary import mean
from headrace.report.tables import Table

TEMPLATE = "reliability.html.j2"
DIAGRAM = Size(360, 300)
VERSIONS: Mapping[str, str] = {"raw": "as the network says", "calibrated": "with its temperature"}
WHAT: Mapping[str, str] = {"items": "Single answers", "entities": "Predicted entities"}
"""What has probabilities, with titles."""


def render_reliability(name: str, document: Mapping[str, Any]) -> str:
    """The page as text.

    Args:
        name: of the model, its heading.
        document: ``languages`` as :func:`headrace.training.evaluation.reliability_of` gives them.

    Raises:
        MissingExtraError: where jinja2 or matplotlib is not installed.
    """
    require_page_tools()
    from markupsafe import Markup

    languages: Mapping[str, Any] = document["languages"]
    versions = [
        version
        for version in VERSIONS
        if any(version in language for language in languages.values())
    ]
    kinds = [
        kind for kind in WHAT if any(kind in language["raw"] for language in languages.values())
    ]
    figures = [
        (
            f"{language}: {WHAT[kind].lower()}",
            Markup(reliability_diagram(found, kind, f"{kind}-{number}", language)),
        )
        for number, (language, found) in enumerate(languages.items())
        for kind in kinds
        if found["raw"].get(kind, {}).get("items")
    ]
    return render_page(
        TEMPLATE,
        name=name,
        languages=list(languages),
        notes=[],
        tiles=_tiles(languages, versions),
        tables=[_table(languages, kind, versions) for kind in kinds],
        subsets=_subset_table(languages, versions),
        figures=figures,
        versions=[(VERSIONS[version], f"series-{at}") for at, version in enumerate(versions)],
    )


def _tiles(languages: Mapping[str, Any], versions: list[str]) -> list[Tile]:
    tiles = []
    note = f"mean of {len(languages)} languages" if len(languages) > 1 else next(iter(languages))
    for version in versions:
        errors = (
            found[version]["items"].get("expected_calibration_error")
            for found in languages.values()
            if version in found
        )
        tiles.append(
            Tile(numbers.percent(mean(errors)), f"calibration error, {VERSIONS[version]}", note)
        )
    return tiles


def _figures_of(result: Mapping[str, Any]) -> list[str]:
    return [
        numbers.count(result["items"]),
        *(
            numbers.percent(result.get(name))
            for name in ("accuracy", "confidence", "expected_calibration_error")
        ),
        *(numbers.loss(result.get(name)) for name in ("brier", "negative_log_likelihood")),
    ]


_FIGURES = ("Items", "Right", "Confidence", "Calibration error", "Brier", "Log-likelihood loss")


def _table(languages: Mapping[str, Any], kind: str, versions: list[str]) -> Table:
    rows = tuple(
        (
            language,
            VERSIONS[version],
            f"{found[version]['temperature']:.3f}",
            *_figures_of(found[version][kind]),
        )
        for language, found in languages.items()
        for version in versions
        if version in found and kind in found[version]
    )
    columns = ("Language", "Probabilities", "Temperature", *_FIGURES)
    return Table(WHAT[kind], columns, rows, names=2)


def _subset_table(languages: Mapping[str, Any], versions: list[str]) -> Table | None:
    rows = tuple(
        (language, name, VERSIONS[version], *_figures_of(subset["items"]))
        for language, found in languages.items()
        for version in versions
        if version in found
        for name, subset in found[version]["subsets"].items()
    )
    columns = ("Language", "Subset", "Probabilities", *_FIGURES)
    return Table("Subsets", columns, rows, names=3) if rows else None


def reliability_diagram(found: Mapping[str, Any], kind: str, name: str, language: str) -> str:
    """Share of right answers over confidence, a line a version, beside what it should be."""
    with svg.style(name):
        figure, axes = new_figure(DIAGRAM)
        axes.plot([0, 100], [0, 100], color=svg.MUTED, linewidth=1, linestyle=(0, (4, 3)))
        hover = {}
        told = []
        for number, version in enumerate(VERSIONS):
            bins = found.get(version, {}).get(kind, {}).get("bins", [])
            if not bins:
                continue
            confidence = [100 * one["confidence"] for one in bins]
            accuracy = [100 * one["accuracy"] for one in bins]
            axes.plot(confidence, accuracy, color=svg.SERIES[number], marker="o", markersize=4)
            for at, one in enumerate(bins):
                identity = f"bin-{number}-{at}"
                hover[identity] = (
                    f"{VERSIONS[version]}: {numbers.count(one['items'])} with "
                    f"{numbers.percent(one['confidence'], 1)} % on average, "
                    f"{numbers.percent(one['accuracy'], 1)} % right"
                )
                axes.plot(
                    confidence[at],
                    accuracy[at],
                    marker="o",
                    markersize=11,
                    alpha=0,
                    color=svg.SERIES[number],
                    gid=identity,
                )
            error = found[version][kind]["expected_calibration_error"]
            told.append(f"{VERSIONS[version]}: calibration error {numbers.percent(error)} %")
        axes.set_xlim(-2, 102)
        axes.set_ylim(-2, 102)
        axes.set_xlabel("confidence in percent")
        axes.set_ylabel("right in percent")
        return svg.to_svg(
            figure,
            name=name,
            title=f"Reliability of {WHAT[kind].lower()}, {language}",
            description=f"{'; '.join(told)}. The broken line is perfect calibration.",
            hover=hover,
        )
