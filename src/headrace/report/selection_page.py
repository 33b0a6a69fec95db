"""The page of a selection: key figures, gain curve, coverage, shares of groups, and a map."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from headrace.counts import counted
from headrace.report import numbers, selection_plots
from headrace.report.page import Tile, render_page, require_page_tools
from headrace.report.tables import Table

if TYPE_CHECKING:
    from headrace.selection.projection import Map

TEMPLATE = "selection.html.j2"
_PLACES = (1, 2, 5)
"""Rows of the table of gains: these times the powers of ten."""


def render_selection(
    name: str, report: Mapping[str, Any], gains: Sequence[float], rows: Map, warning: str | None
) -> str:
    """The page as text.

    Args:
        name: of the selection, its heading.
        report: ``selection.json``.
        gains: the column ``gain`` of ``selection.parquet``.
        rows: where some rows lie.
        warning: what the user should know first.

    Raises:
        MissingExtraError: where jinja2 or matplotlib is not installed.
    """
    require_page_tools()
    from markupsafe import Markup

    groups, coverage = report["groups"], report["coverage"]
    shown = selection_plots.LARGEST_GROUPS
    knee, first = report["knee"], report["first_negative_gain"]
    return render_page(
        TEMPLATE,
        name=name,
        facts=[_words(report["maximised"]), _words(report["method"])],
        notes=[] if warning is None else [warning[0].upper() + warning[1:] + "."],
        tiles=_tiles(report),
        gain_figure=Markup(selection_plots.gain_plot(report, gains)) if gains else None,
        gain_table=_gain_table(gains),
        knee=None if knee is None else numbers.count(knee),
        first_negative=None if first is None else numbers.count(first),
        coverage_figure=Markup(selection_plots.coverage_plot(report)) if coverage else None,
        coverage_table=_coverage_table(report),
        measured=_measured(report),
        share_figure=Markup(selection_plots.share_plot(groups)),
        group_table=_group_table(groups),
        group_note=f"The figure has the {shown} largest groups." if len(groups) > shown else "",
        map_figure=Markup(selection_plots.map_plot(rows)),
        map_note=(
            f"{counted(len(rows.points) - rows.others, 'chosen sample')} and "
            f"{counted(rows.others, 'other')}, drawn "
            "at random, along the first two principal components of a sample of all, which hold "
            f"{numbers.share(rows.variance)} of the variance."
        ),
        result_table=_result_table(report),
        settings=json.dumps(report["settings"], indent=2, ensure_ascii=False),
    )


def _words(identifier: str) -> str:
    return identifier.replace("_", " ")


def _tiles(report: Mapping[str, Any]) -> list[Tile]:
    chosen, total, tokens = report["chosen"], report["rows"], report["tokens"]
    tiles = [
        Tile(
            numbers.count(chosen),
            "chosen",
            f"of {numbers.count(total)}, {numbers.share(chosen / total)}",
        )
    ]
    if tokens is not None:
        share = numbers.share(tokens["chosen"] / tokens["rows"])
        tiles.append(Tile(numbers.count(tokens["chosen"]), "tokens", f"{share} of all"))
    tiles.append(
        Tile(
            f"≤\N{NO-BREAK SPACE}{100 * report['gap']:.2g}\N{NO-BREAK SPACE}%"
            if report["gap"] < 1
            else numbers.MISSING,
            "below the best",
            "proved by the bound",
        )
    )
    coverage, copies = report["coverage"], report["duplicates"]
    if coverage is not None:
        note = f"random samples: {coverage['random']:.3f}"
        tiles.append(Tile(f"{coverage['chosen']:.3f}", "coverage", note))
        note = f"cosine of {copies['cosine']:g} or more with one before"
        tiles.append(Tile(numbers.share(copies["share"]), "near-copies", note))
    return tiles


def _measured(report: Mapping[str, Any]) -> str:
    coverage = report["coverage"]
    if coverage is None or coverage["measured"] == report["rows"]:
        return f"all {counted(report['rows'], 'sample')}"
    return f"{counted(coverage['measured'], 'sample')} at random"


def _gain_table(gains: Sequence[float]) -> Table:
    places = [
        step * 10**power
        for power in range(len(str(len(gains))))
        for step in _PLACES
        if step * 10**power < len(gains)
    ]
    return Table(
        "Gain of the sample at some places of the order",
        ("Place", "Gain"),
        tuple(
            (numbers.count(place), numbers.amount(gains[place - 1]))
            for place in [*places, len(gains)][: len(gains)]
        ),
    )


def _coverage_table(report: Mapping[str, Any]) -> Table:
    coverage = report["coverage"]
    heads = coverage["heads"] if coverage else {"rows": (), "chosen": (), "random": ()}
    return Table(
        "Coverage of heads of the order",
        ("Samples", "Share of all", "Chosen", "Random"),
        tuple(
            (
                numbers.count(rows),
                numbers.share(rows / report["rows"]),
                f"{chosen:.4f}",
                f"{random:.4f}",
            )
            for rows, chosen, random in zip(
                heads["rows"], heads["chosen"], heads["random"], strict=True
            )
        ),
    )


def _group_table(groups: Mapping[str, Mapping[str, float]]) -> Table:
    return Table(
        "Samples of each group before and after",
        ("Group", "Samples", "Chosen", "Share before", "Share after"),
        tuple(
            (
                name,
                numbers.count(group["rows"]),
                numbers.count(group["chosen"]),
                numbers.share(group["share_before"]),
                numbers.share(group["share_after"]),
            )
            for name, group in sorted(groups.items(), key=lambda item: -item[1]["rows"])
        ),
    )


def _result_table(report: Mapping[str, Any]) -> Table:
    rows = [
        ("Objective", f"{report['objective']:,.6g}"),
        ("Certified bound", f"{report['bound']:,.6g}"),
        ("Gap", f"{report['gap']:.2g}"),
        ("Lambda", numbers.MISSING if report["trade_off"] is None else f"{report['trade_off']:g}"),
        ("Passes over all samples", numbers.count(report["passes"])),
        *((f"Seconds, {name}", f"{value:.3g}") for name, value in report["seconds"].items()),
        ("Peak memory of the process", f"{report['peak_memory_bytes'] / 1e6:,.0f} MB"),
    ]
    return Table("Result", ("Quantity", "Value"), tuple(rows))
