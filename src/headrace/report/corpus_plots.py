"""The figures of a corpus's page: documents by language, speakers, quality measures.

Each function returns one inline ``<svg>``.  Legends are part of the page, not of the figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headrace.report import numbers, svg
from headrace.report.axes import WIDE, Size, label_bar, name_bars, new_figure, short_numbers

LARGEST_LANGUAGES = 30
"""Languages that a figure has; the tables have all."""
KEPT_COLOUR, LEFT_OUT_COLOUR = 0, 1
TEXTS_COLOUR, SPEAKERS_COLOUR = 0, 3


def language_plot(rows: Sequence[tuple[str, int, int]]) -> str:
    """Documents of each language: kept, and left out by a rule.

    ``rows`` are (language, kept, left out), in the order of the bars.
    """
    name = "languages"
    shown = rows[:LARGEST_LANGUAGES]
    hover = {}
    with svg.style(name):
        figure, axes = new_figure(Size(WIDE.width, 44 + 18 * len(shown)))
        for place, (language, kept, left_out) in enumerate(shown):
            for key, start, length, colour, words in (
                ("kept", 0, kept, KEPT_COLOUR, "kept"),
                ("out", kept, left_out, LEFT_OUT_COLOUR, "left out"),
            ):
                if not length:
                    continue
                (bar,) = axes.barh(place, length, left=start, height=0.68, color=svg.SERIES[colour])
                bar.set_gid(f"{key}-{place}")
                hover[f"{key}-{place}"] = f"{language}: {length:,} {words}"
        name_bars(axes, [language for language, *_ in shown])
        short_numbers(axes, 5)
        axes.set_xlabel("documents")
        return svg.to_svg(
            figure,
            name=name,
            title="Documents by language",
            description="; ".join(
                f"{language}: {kept:,} kept, {left_out:,} left out"
                for language, kept, left_out in shown
            ),
            hover=hover,
        )


def speakers_plot(rows: Sequence[Mapping[str, Any]]) -> str:
    """Share of each language of the characters and of the speakers, most speakers first."""
    name = "speakers"
    shown = rows[:LARGEST_LANGUAGES]
    hover = {}
    kinds = (
        ("share_of_speakers", SPEAKERS_COLOUR, "of the speakers"),
        ("share_of_characters", TEXTS_COLOUR, "of the characters"),
    )
    with svg.style(name):
        figure, axes = new_figure(Size(WIDE.width, 44 + 30 * len(shown)))
        for row, facts in enumerate(shown):
            for number, (key, colour, words) in enumerate(kinds):
                place = row + 0.4 * number - 0.2
                (bar,) = axes.barh(place, 100 * facts[key], height=0.34, color=svg.SERIES[colour])
                bar.set_gid(f"{key}-{row}")
                share = numbers.share(facts[key])
                hover[f"{key}-{row}"] = f"{facts['language']}: {share} {words}"
                label_bar(axes, facts[key], place, letters=9.5)
        name_bars(axes, [facts["language"] for facts in shown])
        highest = max(max(facts[key] for key, *_ in kinds) for facts in shown)
        axes.set_xlim(0, 115 * max(highest, 0.01))
        axes.set_xlabel("percent")
        return svg.to_svg(
            figure,
            name=name,
            title="Shares of the languages beside those of their speakers",
            description="; ".join(
                f"{facts['language']}: {numbers.share(facts['share_of_characters'])} of the "
                f"characters, {numbers.share(facts['share_of_speakers'])} of the speakers"
                for facts in shown
            ),
            hover=hover,
        )


def quality_plot(measure: str, rows: Sequence[Mapping[str, Any]], number: int) -> str:
    """A measure by language: median, middle half, and what lies between 5 and 95 %.

    ``rows`` have ``language`` and ``quantiles`` (0.05, 0.25, 0.5, 0.75, 0.95).
    """
    name = f"quality-{number}"
    shown = rows[:LARGEST_LANGUAGES]
    hover = {}
    with svg.style(name):
        figure, axes = new_figure(Size(280, 40 + 15 * len(shown)))
        for place, row in enumerate(shown):
            low, first, median, third, high = row["quantiles"]
            axes.plot([low, high], [place, place], color=svg.MUTED, linewidth=1.2)
            axes.plot(
                [first, third], [place, place], color=svg.SERIES[KEPT_COLOUR], linewidth=5,
                solid_capstyle="butt",
            )  # fmt: skip
            (dot,) = axes.plot([median], [place], "o", color=svg.INK, markersize=3.6)
            dot.set_gid(f"median-{place}")
            hover[f"median-{place}"] = _quantiles(row)
        name_bars(axes, [row["language"] for row in shown])
        axes.tick_params(axis="y", labelsize=9.5)
        axes.tick_params(axis="x", labelsize=9.5)
        axes.locator_params(axis="x", nbins=4)
        axes.xaxis.set_major_formatter(lambda value, _: numbers.amount(value))
        return svg.to_svg(
            figure,
            name=name,
            title=f"{measure} by language",
            description="; ".join(map(_quantiles, shown)),
            hover=hover,
        )


def _quantiles(row: Mapping[str, Any]) -> str:
    low, first, median, third, high = map(numbers.amount, row["quantiles"])
    return (
        f"{row['language']}: median {median}, middle half {first} to {third}, "
        f"5 to 95 % {low} to {high}"
    )
