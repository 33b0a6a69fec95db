"""The figures of a report: losses, learning rate, throughput, F1 bars.

Each function returns one inline ``<svg>``.  Legends are part of the page, not of the figure.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

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
from headrace.report.records import Branch, Stage, TrainPoint
from headrace.report.summary import LanguageResult

MAXIMUM_POINTS = 160
"""A curve has at most this many points: a longer log is averaged in that many equal parts."""
TRAINING_COLOUR, VALIDATION_COLOUR = 0, 1


@dataclass(frozen=True)
class _Curve:
    steps: list[float]
    means: list[float]
    lows: list[float]
    highs: list[float]


def _curve(points: Sequence[TrainPoint], value_of: Callable[[TrainPoint], float | None]) -> _Curve:
    """Values over steps; a long log is reduced to the mean, minimum and maximum of each part."""
    pairs = [(point.step, value) for point in points if (value := value_of(point)) is not None]
    parts = min(MAXIMUM_POINTS, len(pairs))
    bounds = [number * len(pairs) // max(parts, 1) for number in range(parts + 1)]
    curve = _Curve([], [], [], [])
    for start, end in itertools.pairwise(bounds):
        values = [value for _, value in pairs[start:end]]
        curve.steps.append(sum(step for step, _ in pairs[start:end]) / len(values))
        curve.means.append(sum(values) / len(values))
        curve.lows.append(min(values))
        curve.highs.append(max(values))
    return curve


def loss_limit(branches: Sequence[Branch]) -> float | None:
    """A common upper limit of the loss axes of a stage's branches, None without losses.

    It holds every validation loss and all but the highest 2 % of the training losses, which
    are the first steps of training from scratch and would flatten everything after them.
    """
    training = sorted(
        point.loss for branch in branches for point in branch.training if point.loss is not None
    )
    shown = [
        validation.loss
        for branch in branches
        for validation in branch.validations
        if validation.loss is not None
    ]
    if training:
        shown.append(training[-1 - len(training) // 50])
    return 1.05 * max(shown) if shown and max(shown) > 0 else None


def loss_plot(branch: Branch, *, name: str, size: Size, limit: float | None) -> str:
    """Training and validation loss of one branch over its steps."""
    with svg.style(name):
        figure, axes = new_figure(size)
        hover = {}
        curve = _curve(branch.training, lambda point: point.loss)
        colour = svg.SERIES[TRAINING_COLOUR]
        if curve.highs != curve.lows:
            axes.fill_between(curve.steps, curve.lows, curve.highs, color=colour, alpha=0.18, lw=0)
        axes.plot(curve.steps, curve.means, color=colour)
        validations = [
            (item.step, item.loss) for item in branch.validations if item.loss is not None
        ]
        colour = svg.SERIES[VALIDATION_COLOUR]
        steps, losses = [step for step, _ in validations], [loss for _, loss in validations]
        axes.plot(steps, losses, color=colour)
        for number, (step, loss) in enumerate(validations):
            best = step == branch.best_step
            (dot,) = axes.plot(
                [step],
                [loss],
                marker="o",
                clip_on=False,  # a ring at the end of the axis stays whole
                markersize=9 if best else 4.5,
                markerfacecolor=svg.CARD if best else colour,
                markeredgecolor=colour,
                markeredgewidth=2.2 if best else 0,
            )
            dot.set_gid(f"validation-{number}")
            words = f"step {step:,}: validation loss {numbers.loss(loss)}"
            hover[f"validation-{number}"] = words + (" (best)" if best else "")
        axes.set_ylim(0, limit)
        short_numbers(axes, 5 if size is WIDE else 2)
        if size is WIDE:
            axes.set_xlabel("step")
        place = f"{branch.stage}, {branch.name}"
        return svg.to_svg(
            figure,
            name=name,
            title=f"Training and validation loss, {place}",
            description=_describe_losses(branch, curve),
            hover=hover,
        )


def _describe_losses(branch: Branch, curve: _Curve) -> str:
    parts = []
    if curve.means:
        parts.append(
            f"The training loss goes from {numbers.loss(curve.means[0])} "
            f"to {numbers.loss(curve.means[-1])} in {counted(branch.steps_done, 'step')}."
        )
    best = branch.best_validation
    if best:
        parts.append(
            f"The best validation loss is {numbers.loss(best.loss)} at step {best.step:,}."
        )
    else:
        parts.append("There is no validation yet.")
    return " ".join(parts)


def stage_plot(
    stage: Stage, quantity: str, value_of: Callable[[TrainPoint], float | None], *, name: str
) -> str:
    """One quantity of the training log over steps, a line for each branch of the stage."""
    with svg.style(name):
        figure, axes = new_figure(WIDE)
        alone = len(stage.branches) == 1
        highest = []
        hover = {}
        for number, branch in enumerate(stage.branches):
            curve = _curve(branch.training, value_of)
            if not curve.means:
                continue
            (line,) = axes.plot(
                curve.steps,
                curve.means,
                color=svg.SERIES[TRAINING_COLOUR],
                alpha=1 if alone else 0.55,
                linewidth=1.8 if alone else 1.3,
            )
            line.set_gid(f"line-{number}")
            hover[f"line-{number}"] = branch.name
            highest.append(max(curve.highs))
        axes.set_ylim(0, 1.08 * max(highest) if highest and max(highest) > 0 else None)
        axes.yaxis.set_major_formatter(lambda value, _: short_tick(value))
        short_numbers(axes, 5)
        axes.set_xlabel("step")
        top = f" It reaches {max(highest):.3g}." if highest else " Nothing is logged yet."
        return svg.to_svg(
            figure,
            name=name,
            title=f"{quantity}, stage {stage.name}",
            description=(
                f"{quantity} over optimizer steps, {counted(len(highest), 'branch', 'branches')}."
                + top
            ),
            hover=hover,
        )


def rate_groups(stage: Stage) -> list[tuple[str, ...]]:
    """Parameter groups of a stage; those that have the same learning rate all along are together.

    The groups are those of the first branch that logged any: branches differ in their steps only.
    """
    points = _points_with_groups(stage)
    names = list(points[0].learning_rates) if points else []
    together: dict[tuple[float | None, ...], tuple[str, ...]] = {}
    for name in names:
        curve = tuple(point.learning_rates.get(name) for point in points)
        together[curve] = (*together.get(curve, ()), name)
    return list(together.values())


def _points_with_groups(stage: Stage) -> list[TrainPoint]:
    logged = (
        [point for point in branch.training if point.learning_rates] for branch in stage.branches
    )
    return next((points for points in logged if points), [])


def _rate_of(group: str, point: TrainPoint) -> float | None:
    """The rate of a group; None for 0, which has no place on an axis of powers."""
    return point.learning_rates.get(group) or None


def group_rates_plot(stage: Stage, *, name: str) -> str:
    """Learning rates of the parameter groups over steps, a line for each of `rate_groups`."""
    points = _points_with_groups(stage)
    with svg.style(name):
        figure, axes = new_figure(WIDE)
        hover, described, highest = {}, [], []
        for number, groups in enumerate(rate_groups(stage)):
            curve = _curve(points, partial(_rate_of, groups[0]))
            if not curve.means:
                continue
            (line,) = axes.plot(
                curve.steps,
                curve.means,
                color=svg.SERIES[number % len(svg.SERIES)],
                linestyle="-" if number < len(svg.SERIES) else "--",
            )
            line.set_gid(f"line-{number}")
            hover[f"line-{number}"] = ", ".join(groups)
            highest.append(max(curve.highs))
            described.append(f"{', '.join(groups)}: {highest[-1]:.3g} at most")
        axes.set_yscale("log")
        # the last steps of a schedule that ends at zero would flatten all the others
        axes.set_ylim(bottom=1e-3 * min(highest) if highest else None)
        short_numbers(axes, 5)
        axes.yaxis.set_major_formatter(lambda value, _: short_tick(value))
        axes.set_xlabel("step")
        return svg.to_svg(
            figure,
            name=name,
            title=f"Learning rates by group, stage {stage.name}",
            description="; ".join(described) + ".",
            hover=hover,
        )


def score_plot(
    results: Sequence[LanguageResult],
    series: Mapping[str, Mapping[str, float]],
    *,
    name: str,
    score: str,
) -> str:
    """Bars of one score: a group for each language, a bar for each stage.

    ``series`` maps a stage to language -> score (a fraction from 0 to 1).
    """
    languages = [result.language for result in results]
    thickness = 0.8 / max(len(series), 1)
    with svg.style(name):
        pixels = 15 * len(series) + 8
        figure, axes = new_figure(Size(WIDE.width, 44 + max(pixels, 24) * max(len(languages), 1)))
        hover = {}
        for number, (stage, values) in enumerate(series.items()):
            for row, language in enumerate(languages):
                value = values.get(language)
                if value is None:
                    continue
                place = row + (number + 0.5) * thickness - 0.4
                (bar,) = axes.barh(
                    place,
                    100 * value,
                    height=0.86 * thickness,
                    color=svg.SERIES[number % len(svg.SERIES)],
                )
                bar.set_gid(f"bar-{number}-{row}")
                hover[f"bar-{number}-{row}"] = f"{language}, {stage}: {numbers.percent(value)}"
                label_bar(axes, value, place, letters=10.5)
        name_bars(axes, languages)
        highest = max((value for values in series.values() for value in values.values()), default=1)
        # The axis starts at zero, so that lengths compare; it ends at full tens, plus room for
        # the figures beside the bars.
        axes.set_xlim(0, 108 * max(math.ceil(10 * highest) / 10, 0.1))
        axes.set_xlabel(f"{score}, percent")
        return svg.to_svg(
            figure,
            name=name,
            title=f"{score} by language and stage",
            description="; ".join(
                f"{stage}: "
                + ", ".join(
                    f"{language} {numbers.percent(values[language], 1)}"
                    for language in languages
                    if language in values
                )
                for stage, values in series.items()
            ),
            hover=hover,
        )
