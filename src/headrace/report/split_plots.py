"""The map of a split by clusters: some samples in two dimensions, by cluster and by label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.counts import counted
from headrace.report import numbers, svg
from headrace.report.axes import Size, new_figure

MAP = Size(420, 330)
OTHERS = "others"
_MARKERS = ("o", "D", "s", "^", "v", "P", ".")


@dataclass(frozen=True)
class ClusterMap:
    """Some samples in two dimensions."""

    points: NDArray[np.float64]
    """``[points, 2]``."""
    clusters: NDArray[np.int32]
    """``[points]``: the cluster of each."""
    labels: NDArray[np.int64] | None
    """``[points]``: the label of each; None if they have none."""
    label_names: tuple[str, ...]
    variance: float
    """Share of the variance of the unit embeddings that the two dimensions hold."""


@dataclass(frozen=True)
class Group:
    """Points that a map shows alike."""

    name: str
    series: int
    """Number of the colour and of the marker; that behind the last one is of all the rest."""
    points: NDArray[np.int64]

    @property
    def colour(self) -> str:
        """The colour as a page calls it."""
        return f"series-{self.series}" if self.series < len(svg.SERIES) else "muted"


def groups_of(of_points: NDArray[np.integer], names: Sequence[str]) -> list[Group]:
    """Points by their numbers, each group with a colour of its own.

    Where there are more names than colours, the most frequent ones have their own, and all others
    are muted.
    """
    counts = np.bincount(of_points, minlength=len(names))
    there = [int(number) for number in np.argsort(-counts, kind="stable") if counts[number]]
    own = there[: len(svg.SERIES)]
    groups = [
        Group(names[number], series, np.flatnonzero(of_points == number))
        for series, number in enumerate(sorted(own))
    ]
    rest = there[len(svg.SERIES) :]
    if rest:
        groups.append(Group(OTHERS, len(svg.SERIES), np.flatnonzero(np.isin(of_points, rest))))
    return groups


def map_plot(picture: ClusterMap, groups: Sequence[Group], name: str, title: str) -> str:
    """The points in the colours of some groups, the largest group first, under the others."""
    with svg.style(name):
        figure, axes = new_figure(MAP)
        for group in sorted(groups, key=lambda group: -len(group.points)):
            axes.plot(
                *picture.points[group.points].T,
                _MARKERS[group.series],
                color=(*svg.SERIES, svg.MUTED)[group.series],
                markersize=3.4,
                alpha=0.7,
                markeredgewidth=0,
            )
        axes.set_aspect("equal", adjustable="datalim")
        axes.set_xticklabels([])
        axes.set_yticklabels([])
        axes.set_xlabel("first principal component")
        axes.set_ylabel("second")
        sizes = ", ".join(f"{group.name}: {len(group.points):,}" for group in groups)
        return svg.to_svg(
            figure,
            name=name,
            title=title,
            description=(
                f"{counted(len(picture.points), 'sample')}, {sizes}; the two dimensions hold "
                f"{numbers.share(picture.variance)} of the variance."
            ),
            hover={},
        )
