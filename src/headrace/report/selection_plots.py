"""The figures of a selection's page: gains, coverage, shares of groups, and a map.

Each function returns one inline ``<svg>``.  Legends are part of the page, not of the figure.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from headrace.counts import counted
from headrace.report import numbers, svg
from headrace.report.axes import (
    WIDE,
    Size,
    label_bar,
    name_bars,
    new_figure,
    short_numbers,
    short_tick,
)

if TYPE_CHECKING:
    from headrace.selection.projection import Map

MAXIMUM_POINTS = 160
"""The gain curve has at most this many points: longer ones are averaged in as many equal parts."""
LARGEST_GROUPS = 30
"""Groups that the figure of shares has; the table has all."""
CHOSEN_COLOUR, OTHER_COLOUR, MARK_COLOUR = 0, 1, 3
MAP = Size(420, 330)


def gain_plot(report: Mapping[str, Any], gains: Sequence[float]) -> str:
    """The gain of each sample over those before it, with the knee and the first negative gain."""
    name = "gains"
    count = len(gains)
    parts = min(MAXIMUM_POINTS, count)
    bounds = [number * count // parts for number in range(parts + 1)]
    pieces = [np.asarray(gains[low:high]) for low, high in itertools.pairwise(bounds)]
    places = [(low + 1 + high) / 2 for low, high in itertools.pairwise(bounds)]
    colour = svg.SERIES[CHOSEN_COLOUR]
    hover = {}
    with svg.style(name):
        figure, axes = new_figure(WIDE)
        if parts < count:
            lows, highs = [p.min() for p in pieces], [p.max() for p in pieces]
            axes.fill_between(places, lows, highs, color=colour, alpha=0.18, lw=0)
        axes.plot(places, [piece.mean() for piece in pieces], color=colour)
        if min(gains) < 0:
            axes.axhline(0, color=svg.INK, linewidth=1)
        knee, first = report["knee"], report["first_negative_gain"]
        if knee is not None and knee <= 1.5 * count:
            line = axes.axvline(knee, color=svg.SERIES[MARK_COLOUR], linestyle=(0, (5, 3)))
            line.set_gid("knee")
            hover["knee"] = f"knee at about {numbers.count(knee)} samples"
        if first is not None:
            (dot,) = axes.plot(
                [first],
                [gains[first - 1]],
                marker="D",
                markersize=7,
                color=svg.SERIES[OTHER_COLOUR],
                clip_on=False,
            )
            dot.set_gid("negative")
            hover["negative"] = f"sample {first:,} is the first that lowers the objective"
        axes.yaxis.set_major_formatter(lambda value, _: short_tick(value))
        short_numbers(axes, 5)
        axes.set_xlabel("place in the order")
        return svg.to_svg(
            figure,
            name=name,
            title="Gain of each sample over those before it",
            description=(
                f"The first sample raises the objective by {numbers.amount(gains[0])}, the last "
                f"of {count:,} by {numbers.amount(gains[-1])}. " + _marks(knee, first)
            ),
            hover=hover,
        )


def _marks(knee: float | None, first: int | None) -> str:
    words = "There is no knee." if knee is None else f"The knee is at about {knee:,.0f} samples."
    if first is None:
        return words + " No sample lowers the objective."
    return words + f" From sample {first:,} on, samples lower the objective."


def coverage_plot(report: Mapping[str, Any]) -> str:
    """Coverage of heads of the order, over their share of all samples, beside random samples."""
    name = "coverage"
    heads = report["coverage"]["heads"]
    shares = [100 * rows / report["rows"] for rows in heads["rows"]]
    hover = {}
    with svg.style(name):
        figure, axes = new_figure(WIDE)
        for kind, colour, marker in (
            ("random", OTHER_COLOUR, "s"),
            ("chosen", CHOSEN_COLOUR, "o"),
        ):
            axes.plot(shares, heads[kind], color=svg.SERIES[colour])
            for number, (share, value) in enumerate(zip(shares, heads[kind], strict=True)):
                (dot,) = axes.plot(
                    [share], [value], marker, color=svg.SERIES[colour], markersize=4.5,
                    clip_on=False,
                )  # fmt: skip
                dot.set_gid(f"{kind}-{number}")
                rows = heads["rows"][number]
                hover[f"{kind}-{number}"] = (
                    f"{counted(rows, f'{kind} sample')}: coverage {value:.4f}"
                )
        axes.grid(visible=False, axis="x")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.3g} %")
        axes.set_xlabel("share of all samples")
        return svg.to_svg(
            figure,
            name=name,
            title="Coverage of the chosen samples and of random ones",
            description=(
                f"With {counted(heads['rows'][-1], 'sample')} the chosen ones reach a coverage of "
                f"{heads['chosen'][-1]:.3f}, random ones {heads['random'][-1]:.3f}; with "
                f"{counted(heads['rows'][0], 'sample')} {heads['chosen'][0]:.3f} and "
                f"{heads['random'][0]:.3f}."
            ),
            hover=hover,
        )


def share_plot(groups: Mapping[str, Mapping[str, float]]) -> str:
    """The share of each group in all samples and in the chosen ones, the largest groups first."""
    name = "shares"
    ordered = sorted(groups.items(), key=lambda item: -item[1]["rows"])[:LARGEST_GROUPS]
    hover = {}
    with svg.style(name):
        figure, axes = new_figure(Size(WIDE.width, 44 + 34 * len(ordered)))
        for row, (group, facts) in enumerate(ordered):
            for number, (key, colour, words) in enumerate(
                (
                    ("share_before", OTHER_COLOUR, "of all samples"),
                    ("share_after", CHOSEN_COLOUR, "of the chosen ones"),
                )
            ):
                value = facts[key]
                place = row + 0.4 * number - 0.2
                (bar,) = axes.barh(place, 100 * value, height=0.34, color=svg.SERIES[colour])
                bar.set_gid(f"{key}-{row}")
                hover[f"{key}-{row}"] = f"{group}: {numbers.share(value)} {words}"
                label_bar(axes, value, place, letters=10)
        name_bars(axes, [group for group, _ in ordered])
        highest = max(max(f["share_before"], f["share_after"]) for _, f in ordered)
        axes.set_xlim(0, 115 * max(highest, 0.01))
        axes.set_xlabel("percent of the samples")
        return svg.to_svg(
            figure,
            name=name,
            title="Share of each group before and after",
            description="; ".join(
                f"{group}: {numbers.share(facts['share_before'])} before, "
                f"{numbers.share(facts['share_after'])} after"
                for group, facts in ordered
            ),
            hover=hover,
        )


def map_plot(rows: Map) -> str:
    """Chosen samples and others along two principal components."""
    name = "map"
    others, chosen = rows.points[: rows.others], rows.points[rows.others :]
    with svg.style(name):
        figure, axes = new_figure(MAP)
        axes.plot(
            *others.T, "o", color=svg.SERIES[OTHER_COLOUR], markersize=2.6, alpha=0.55,
            markeredgewidth=0,
        )  # fmt: skip
        axes.plot(
            *chosen.T, "D", color=svg.SERIES[CHOSEN_COLOUR], markersize=4, markeredgewidth=0,
        )  # fmt: skip
        axes.set_aspect("equal", adjustable="datalim")
        axes.set_xticklabels([])
        axes.set_yticklabels([])
        axes.set_xlabel("first principal component")
        axes.set_ylabel("second")
        return svg.to_svg(
            figure,
            name=name,
            title="Map of chosen samples and others",
            description=(
                f"{counted(len(chosen), 'chosen sample')} among {counted(len(others), 'other')}; "
                f"the two dimensions hold {numbers.share(rows.variance)} of the variance."
            ),
            hover={},
        )
