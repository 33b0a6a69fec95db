"""The figure of an experiment about forgetting: what is kept against what is learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from headrace.report import numbers, svg
from headrace.report.axes import Size, new_figure, short_label

_SIZE = Size(560, 420)
_MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")


@dataclass(frozen=True)
class Mark:
    """A method in the plot; scores are fractions."""

    title: str
    p_o: float
    p_s: float
    p_o_interval: tuple[float, float] | None
    p_s_interval: tuple[float, float] | None


def on_the_front(marks: Sequence[Mark]) -> list[Mark]:
    """The marks that no other is better than in both scores, from low to high p_s."""
    front = [
        mark
        for mark in marks
        if not any(
            other.p_o >= mark.p_o
            and other.p_s >= mark.p_s
            and (other.p_o, other.p_s) != (mark.p_o, mark.p_s)
            for other in marks
        )
    ]
    return sorted(front, key=lambda mark: (mark.p_s, -mark.p_o))


def pareto_plot(marks: Sequence[Mark], name: str = "pareto") -> str:
    """p_o against p_s, one mark a method with its intervals as bars; the best are joined.

    Returns one inline ``<svg>``.  ``marks`` may not be empty.
    """
    front = on_the_front(marks)
    hover: dict[str, str] = {}
    with svg.style(name):
        figure, axes = new_figure(_SIZE)
        axes.margins(0.12)
        axes.plot(
            [100 * mark.p_s for mark in front],
            [100 * mark.p_o for mark in front],
            color=svg.MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=1,
        )  # fmt: skip
        for number, mark in enumerate(marks):
            colour = svg.SERIES[number % len(svg.SERIES)]
            at = (100 * mark.p_s, 100 * mark.p_o)
            axes.errorbar(
                *at,
                xerr=_bar(mark.p_s, mark.p_s_interval),
                yerr=_bar(mark.p_o, mark.p_o_interval),
                fmt="none", ecolor=colour, elinewidth=1, alpha=0.55, zorder=2,
            )  # fmt: skip
            (dot,) = axes.plot(
                [at[0]], [at[1]], _MARKERS[number % len(_MARKERS)], color=colour, markersize=7,
                zorder=3,
            )  # fmt: skip
            dot.set_gid(f"method-{number}")
            hover[f"method-{number}"] = (
                f"{mark.title}: p_o {numbers.percent(mark.p_o)}, p_s {numbers.percent(mark.p_s)}"
            )
            axes.annotate(
                short_label(mark.title), at, xytext=(6, 5), textcoords="offset points",
                fontsize=10, color=svg.INK,
            )  # fmt: skip
        axes.set_xlabel("p_s: score on the last task, percent")
        axes.set_ylabel("p_o: score on the earlier tasks, percent")
        return svg.to_svg(
            figure,
            name=name,
            title="What is kept against what is learned",
            description="; ".join(
                f"{mark.title}: p_o {numbers.percent(mark.p_o)}, p_s {numbers.percent(mark.p_s)}"
                for mark in marks
            ),
            hover=hover,
        )


def _bar(value: float, interval: tuple[float, float] | None) -> list[list[float]] | None:
    """How far the interval goes to both sides, in percent."""
    if interval is None:
        return None
    return [[100 * max(0.0, value - interval[0])], [100 * max(0.0, interval[1] - value)]]


def marks_of(methods: Mapping[str, Mapping[str, dict[str, float | None]]]) -> list[Mark]:
    """The marks of methods: title -> measure -> ``mean``, ``low`` and ``high``."""
    found = []
    for title, measures in methods.items():
        o, s = measures["p_o"], measures["p_s"]
        if o["mean"] is not None and s["mean"] is not None:
            found.append(Mark(title, o["mean"], s["mean"], _ends(o), _ends(s)))
    return found


def _ends(entry: Mapping[str, float | None]) -> tuple[float, float] | None:
    low, high = entry["low"], entry["high"]
    return None if low is None or high is None else (low, high)
