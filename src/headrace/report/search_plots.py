"""The figures of a search's page: history, importance, and the distribution of learning rates.

Each function returns one inline ``<svg>``.  Legends are part of the page, not of the figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from headrace.report import numbers, svg
from headrace.report.axes import WIDE, Size, new_figure, short_label, short_numbers

GROUPS_COLOUR, FLAT_COLOUR, MEAN_COLOUR = 0, 1, 3
_DISTRIBUTION = Size(420, 280)


def distribution_plot(combined: Mapping[str, Any], flat: Mapping[str, Any] | None) -> str:
    """Learning rate of each group from the input to the output, on a logarithmic axis.

    Args:
        combined: the combined rates with their intervals.
        flat: those of the search with one rate, if there is one.
    """
    name = "distribution"
    rates = combined["rates"]
    hover = {}
    with svg.style(name):
        figure, axes = new_figure(_DISTRIBUTION)
        colour = svg.SERIES[GROUPS_COLOUR]
        axes.plot(range(len(rates)), [r["rate"] for r in rates.values()], color=colour, zorder=2)
        for place, (group, facts) in enumerate(rates.items()):
            text = f"{group}: {facts['rate']:.2e}"
            if facts["interval"] is not None:
                axes.vlines(place, *facts["interval"], color=colour, alpha=0.55, zorder=2)
                text += f", from {facts['interval'][0]:.1e} to {facts['interval'][1]:.1e}"
            (dot,) = axes.plot([place], [facts["rate"]], "o", color=colour, markersize=6, zorder=3)
            dot.set_gid(f"rate-{place}")
            hover[f"rate-{place}"] = text
        mean = axes.axhline(
            combined["geometric_mean"], color=svg.SERIES[MEAN_COLOUR], linestyle=(0, (5, 3)),
            linewidth=1.4,
        )  # fmt: skip
        mean.set_gid("mean")
        hover["mean"] = f"geometric mean of all: {combined['geometric_mean']:.2e}"
        if flat is not None:
            (only,) = flat["rates"].values()
            line = axes.axhline(only["rate"], color=svg.SERIES[FLAT_COLOUR], linewidth=1.4)
            line.set_gid("flat")
            hover["flat"] = f"one rate for all: {only['rate']:.2e}"
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0e}".replace("e-0", "e-"))
        axes.yaxis.set_minor_formatter(lambda value, _: "")
        axes.set_xticks(
            range(len(rates)), [short_label(group) for group in rates], rotation=35, ha="right"
        )
        axes.set_xlim(-0.5, len(rates) - 0.5)
        axes.grid(visible=False, axis="x")
        axes.set_ylabel("learning rate")
        return svg.to_svg(
            figure,
            name=name,
            title="Combined learning rates from the input to the output",
            description="; ".join(
                f"{group}: {facts['rate']:.2e}" for group, facts in rates.items()
            ),
            hover=hover,
        )


def history_plot(
    name: str,
    pair: str,
    history: Sequence[Mapping[str, Any]],
    flat: Sequence[Mapping[str, Any]] | None,
) -> str:
    """Value of each trial in the order in which they were made, and the best so far.

    Args:
        name: of the figure.
        pair: of tasks.
        history: trials with a rate for each group.
        flat: those with one rate, if there are any.
    """
    hover = {}
    described = []
    with svg.style(name):
        figure, axes = new_figure(WIDE)
        for kind, trials, colour, words in (
            ("flat", flat or (), FLAT_COLOUR, "one rate"),
            ("groups", history, GROUPS_COLOUR, "a rate for each group"),
        ):
            if not trials:
                continue
            series = svg.SERIES[colour]
            for place, trial in enumerate(trials, start=1):
                (dot,) = axes.plot(
                    [place], [trial["value"]], "x" if trial["ended_early"] else "o", color=series,
                    markersize=3.5, alpha=0.6,
                )  # fmt: skip
                dot.set_gid(f"{kind}-{place}")
                hover[f"{kind}-{place}"] = _trial_words(trial, words)
            whole = [
                (place, trial["value"])
                for place, trial in enumerate(trials, start=1)
                if not trial["ended_early"]
            ]
            if whole:
                best = list(accumulate((value for _, value in whole), max))
                places = [place for place, _ in whole]
                axes.step([*places, len(trials)], [*best, best[-1]], where="post", color=series)
                described.append(f"With {words} the best of {len(trials)} is {best[-1]:.4f}.")
        short_numbers(axes, 5)
        axes.set_xlabel("trial")
        axes.set_ylabel("p_s + p_o")
        return svg.to_svg(
            figure,
            name=name,
            title=f"Trials of {pair}",
            description=" ".join(described),
            hover=hover,
        )


def _trial_words(trial: Mapping[str, Any], words: str) -> str:
    text = f"trial {trial['number']} ({words}): {trial['value']:.4f}"
    if trial["error"] is not None:
        return text + ", failed"
    return text + (", ended early" if trial["ended_early"] else "")


def importance_plot(importance: Mapping[str, Mapping[str, float]]) -> str:
    """Share of the variance that the rate of each group explains, the pairs side by side.

    Args:
        importance: by pair, then by group.
    """
    name = "importance"
    groups = list(next(iter(importance.values())))
    height = 0.8 / len(importance)
    hover = {}
    with svg.style(name):
        figure, axes = new_figure(Size(WIDE.width, 44 + (16 + 9 * len(importance)) * len(groups)))
        for number, (pair, shares) in enumerate(importance.items()):
            colour = svg.SERIES[number % len(svg.SERIES)]
            for row, group in enumerate(groups):
                place = row + (number + 0.5) * height - 0.4
                (bar,) = axes.barh(place, 100 * shares[group], height=0.86 * height, color=colour)
                bar.set_gid(f"bar-{number}-{row}")
                hover[f"bar-{number}-{row}"] = f"{pair}, {group}: {numbers.share(shares[group])}"
        axes.set_yticks(range(len(groups)), [short_label(group) for group in groups])
        axes.tick_params(axis="y", labelcolor=svg.INK)
        axes.set_ylim(len(groups) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("percent")
        return svg.to_svg(
            figure,
            name=name,
            title="Importance of the learning rate of each group",
            description="; ".join(
                f"{pair}: " + ", ".join(f"{g} {numbers.share(s)}" for g, s in shares.items())
                for pair, shares in importance.items()
            ),
            hover=hover,
        )
