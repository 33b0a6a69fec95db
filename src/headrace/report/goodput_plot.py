"""The figure of ``headrace plan --simulate``: goodput over the interval between checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from headrace.planning.goodput_report import Simulated, duration
from headrace.planning.interval_study import Study
from headrace.report.palette import LIGHT
from headrace.report.plan_plot import FIGURE_STYLE, require, saved

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TICKS = (1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 48 * 3600, 7 * 24 * 3600)
"""Seconds that the horizontal axis names."""


def draw(found: Sequence[Simulated]) -> bytes:
    """Draw a panel for each way of saving, with a line for each number of nodes, as SVG.

    The area around a line has nine tenths of the draws; a mark is at Daly's interval.  Raises
    ``MissingExtraError`` where matplotlib is not installed.
    """
    require("headrace plan --goodput-plot")
    import matplotlib
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(name for each in found for name in each.studies))
    with matplotlib.rc_context({**FIGURE_STYLE, "svg.hashsalt": "headrace plan --simulate"}):
        figure = Figure(figsize=(5.2 * len(names), 3.9), layout="constrained")
        panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
        for axes, name in zip(panels, names, strict=True):
            for number, each in enumerate(found):
                if name in each.studies:
                    _draw_line(axes, each, each.studies[name], number)
            _label(axes, name)
        panels[0].set_ylabel("goodput")
        panels[-1].legend(frameon=False, fontsize=8.5, loc="lower right")
        return saved(figure, "svg")


def _draw_line(axes: Axes, found: Simulated, study: Study, number: int) -> None:
    colour = LIGHT.series[number % len(LIGHT.series)]
    style = ("-", "--", ":")[number // len(LIGHT.series) % 3]
    outcomes = [row.outcome for row in study.rows]
    places = [outcome.interval for outcome in outcomes]
    axes.fill_between(
        places,
        [outcome.quantile(0.05) for outcome in outcomes],
        [outcome.quantile(0.95) for outcome in outcomes],
        color=colour,
        alpha=0.14,
        linewidth=0,
    )
    label = "1 node" if found.nodes == 1 else f"{found.nodes:,} nodes"
    means = [outcome.mean for outcome in outcomes]
    axes.plot(places, means, style, color=colour, linewidth=1.8, label=label)
    advised = study.recommended.outcome
    axes.plot([advised.interval], [advised.mean], "o", color=colour, markersize=6)


def _label(axes: Axes, name: str) -> None:
    from matplotlib.ticker import NullLocator, PercentFormatter

    axes.set_xscale("log")
    low, high = axes.get_xlim()
    ticks = [tick for tick in _TICKS if low <= tick <= high]
    axes.set_xticks(ticks, [duration(tick) for tick in ticks], rotation=30, ha="right")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
    axes.set_ylim(top=1)
    axes.grid(axis="y", color=LIGHT.line, linewidth=0.8)
    axes.set_xlabel("training between checkpoints (dot: Daly's interval)")
    axes.set_title(f"{name} saving", loc="left", fontsize=10.5, fontweight="bold")
