"""What the figures of all reports share: their sizes, axes and labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.report import numbers, svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LONGEST_LABEL = 18
"""Letters of a name beside a bar."""


@dataclass(frozen=True)
class Size:
    """Width and height of a figure in CSS pixels."""

    width: int
    height: int


WIDE = Size(420, 250)
SMALL = Size(200, 140)


def new_figure(size: Size) -> tuple[Figure, Axes]:
    """An empty figure with one pair of axes."""
    from matplotlib.figure import Figure as NewFigure

    # The SVG backend counts 72 units an inch.
    figure = NewFigure(figsize=(size.width / 72, size.height / 72), layout="constrained")
    axes = figure.add_subplot()
    axes.margins(x=0.02)
    return figure, axes


def short_numbers(axes: Axes, steps: int) -> None:
    """Write whole numbers along the horizontal axis as 2 k, 3 M."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=steps, integer=True))
    axes.xaxis.set_major_formatter(EngFormatter(sep="\N{NARROW NO-BREAK SPACE}"))
    axes.grid(visible=False, axis="x")


def name_bars(axes: Axes, names: Sequence[str]) -> None:
    """Write the names of groups of bars beside them, the first at the top; one unit a group."""
    axes.set_yticks(range(len(names)), [short_label(name) for name in names])
    axes.tick_params(axis="y", labelcolor=svg.INK)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")


def label_bar(axes: Axes, share: float, place: float, *, letters: float) -> None:
    """Write a share in percent behind its bar, which ends at ``100 * share``.

    Args:
        axes: of the bar.
        share: 0 to 1.
        place: middle of the bar on the vertical axis.
        letters: their size in CSS pixels.
    """
    axes.annotate(
        numbers.percent(share, 1),
        (100 * share, place),
        xytext=(4, 0),
        textcoords="offset points",
        va="center_baseline",
        fontsize=letters,
        color=svg.INK,
    )


def short_label(name: str) -> str:
    """``name`` cut to a length that leaves room for the axes."""
    cut = (
        name
        if len(name) <= LONGEST_LABEL
        else name[: LONGEST_LABEL - 1] + "\N{HORIZONTAL ELLIPSIS}"
    )
    return svg.printable(cut)


def short_tick(value: float) -> str:
    """``20 k`` for large numbers, ``8e-7`` for small ones."""
    if abs(value) >= 1000:
        return f"{value / 1000:g}\N{NARROW NO-BREAK SPACE}k"
    return f"{value:.3g}".replace("e-0", "e-")
