"""The figure of ``headrace plan``: the mix over time, and how often each source is gone through."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from headrace.errors import MissingExtraError
from headrace.report.palette import LIGHT
from headrace.report.svg import printable
from headrace.stream.overview import Edge, StageOverview

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LONGEST_LABEL = 18
"""Letters of a name beside a bar."""
FIGURE_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "headrace plan",  # the same plan gives the same bytes
    "text.parse_math": False,  # a "$" in a name is a "$"
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.edgecolor": LIGHT.line,
    "axes.labelcolor": LIGHT.muted,
    "axes.titlecolor": LIGHT.ink,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.axisbelow": True,
    "figure.facecolor": LIGHT.card,
    "text.color": LIGHT.ink,
    "xtick.color": LIGHT.line,
    "xtick.labelcolor": LIGHT.muted,
    "ytick.color": LIGHT.line,
    "ytick.labelcolor": LIGHT.muted,
    "hatch.linewidth": 0.6,
}
_HATCHES = ("", "////", "....", "xxxx", "----", "oooo")
"""Sources beyond the colours of the palette are told apart by these."""


def require(what: str = "headrace plan --plot") -> None:
    """Raise ``MissingExtraError`` where matplotlib is not installed, which ``what`` needs."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("matplotlib", "report", what) from error


def draw(stages: Sequence[StageOverview], *, title: str, text: str, suffix: str) -> bytes:
    """Draw a row for each of ``stages`` as a file of a format.

    Stages of one source have no mix: they are left out where another has more.
    ``suffix`` is ``.svg``, ``.png`` or ``.html``: the last is a page with the figure and
    ``text``.  Raises ``MissingExtraError`` where matplotlib is not installed.
    """
    require()
    import matplotlib
    from matplotlib.figure import Figure

    stages = [stage for stage in stages if len(stage.sources) > 1] or stages
    heights = [max(2.6, 1.1 + 0.24 * len(stage.sources)) for stage in stages]
    with matplotlib.rc_context(FIGURE_STYLE):
        figure = Figure(figsize=(10.5, sum(heights) + 0.4), layout="constrained")
        figure.suptitle(printable(title), x=0.01, ha="left", fontweight="bold", color=LIGHT.ink)
        grid = figure.add_gridspec(
            len(stages), 2, width_ratios=(2.1, 1), height_ratios=heights, wspace=0.06, hspace=0.1
        )
        for row, stage in enumerate(stages):
            _draw_mix(figure.add_subplot(grid[row, 0]), stage)
            _draw_passes(figure.add_subplot(grid[row, 1]), stage)
        image = saved(figure, "png" if suffix == ".png" else "svg")
    if suffix != ".html":
        return image
    drawing = image.decode("utf-8")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}: '
        "plan</title><style>body{margin:2rem auto;max-width:70rem;padding:0 1rem;font-family:"
        f"system-ui,sans-serif;color:{LIGHT.ink};background:{LIGHT.card}}}svg{{width:100%;"
        "height:auto}pre{overflow-x:auto;font-size:.8rem}</style></head><body>\n"
        f"{drawing[drawing.index('<svg') :]}\n<pre>{escape(text)}</pre>\n</body></html>\n"
    ).encode("utf-8", errors="replace")


def saved(figure: Any, kind: str) -> bytes:
    """Return a figure as the bytes of a file of a kind (``svg`` or ``png``), without its date."""
    buffer = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    logger = logging.getLogger("matplotlib.font_manager")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # Text stays text in an SVG: a browser has the letters that the font lacks.
            warnings.filterwarnings("ignore", message="Glyph .* missing from")
            warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
            figure.savefig(buffer, format=kind, dpi=150, metadata=metadata)
    finally:
        logger.setLevel(level)
    return buffer.getvalue()


def _look(number: int) -> dict[str, Any]:
    colours = LIGHT.series
    hatch = _HATCHES[number // len(colours) % len(_HATCHES)]
    return {"color": colours[number % len(colours)], "hatch": hatch, "edgecolor": LIGHT.card}


def _label(name: str) -> str:
    cut = name if len(name) <= LONGEST_LABEL else name[: LONGEST_LABEL - 1] + "…"
    return printable(cut)


def _draw_mix(axes: Axes, stage: StageOverview) -> None:
    """Shares over epochs: an area a source, constant between two edges."""
    per_epoch = stage.samples_per_epoch
    edges = [edge for edge in stage.edges if not edge.is_end]
    starts = [edge.position / per_epoch for edge in edges]
    end = stage.positions / per_epoch
    widths = [after - before for before, after in zip(starts, [*starts[1:], end], strict=True)]
    bottoms = [0.0] * len(edges)
    for number in range(len(stage.sources)):
        shares = [edge.shares[number] for edge in edges]
        axes.bar(starts, shares, widths, bottoms, align="edge", linewidth=0, **_look(number))
        bottoms = [bottom + share for bottom, share in zip(bottoms, shares, strict=True)]
    for edge in stage.edges:
        place = edge.position / per_epoch
        if edge.position > 0:
            axes.axvline(
                place,
                color=LIGHT.ink,
                linewidth=1.1,
                linestyle=(0, (1, 1.5)) if edge.exhausted else "-",
            )
            axes.annotate(
                _edge_label(edge),
                (place, 1.0),
                xytext=(2, 3),
                textcoords="offset points",
                fontsize=8,
                color=LIGHT.muted,
                rotation=35,
            )
    axes.set_xlim(0, end)
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    axes.set_xlabel("epochs of the stage")
    _title(axes, stage, f"{printable(stage.stage)}: share of each source")


def _title(axes: Axes, stage: StageOverview, text: str) -> None:
    # The names of edges stand between the title and the axes.
    pad = 8 + 2.9 * max(
        (len(_edge_label(edge)) for edge in stage.edges if edge.position), default=0
    )
    axes.set_title(text, loc="left", fontsize=10.5, fontweight="bold", pad=pad)


def _edge_label(edge: Edge) -> str:
    if edge.exhausted is None:
        return "end" if edge.is_end else f"phase {edge.phase}"
    return f"{_label(edge.exhausted)} used up" + (", end" if edge.is_end else "")


def _draw_passes(axes: Axes, stage: StageOverview) -> None:
    """Passes over each source, with a mark at its epoch limit."""
    places = range(len(stage.sources))
    for number, source in enumerate(stage.sources):
        axes.barh(number, source.passes, height=0.72, linewidth=0, **_look(number))
        axes.annotate(
            f"{source.passes:.3g}",
            (source.passes, number),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            color=LIGHT.muted,
        )
        if source.limit is not None:
            limit = source.limit / source.samples
            axes.plot([limit, limit], [number - 0.45, number + 0.45], color=LIGHT.ink, linewidth=2)
    axes.set_yticks(list(places), [_label(source.name) for source in stage.sources])
    axes.invert_yaxis()
    axes.axvline(1, color=LIGHT.line, linewidth=1, zorder=0)
    axes.margins(x=0.14)
    axes.set_xlim(left=0)
    axes.set_xlabel("passes (mark: epoch limit)")
    _title(axes, stage, "how often each is gone through")
