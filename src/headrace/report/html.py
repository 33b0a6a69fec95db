"""One self-contained HTML page for a run: no script, nothing fetched from anywhere."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.counts import counted
from headrace.report import numbers, palette, plots, tables
from headrace.report.axes import SMALL, WIDE
from headrace.report.heat_map import heat_map
from headrace.report.page import Tile, render_page, require_page_tools
from headrace.report.records import Branch, Stage
from headrace.report.run_folder import UNBRANCHED, RunFolder
from headrace.report.summary import branch_for, language_results, mean
from headrace.report.throughput_tables import steps_table, throughput_table

TEMPLATE = "report.html.j2"


@dataclass(frozen=True)
class Share:
    """The share of a language in a stage's stream."""

    language: str
    fraction: float
    largest: float
    """The largest share of the stage, whose bar has the full width."""

    @property
    def text(self) -> str:
        """The share in percent with its sign."""
        return numbers.share(self.fraction)

    @property
    def width(self) -> str:
        """The width of its bar in CSS."""
        return f"{100 * self.fraction / (self.largest or 1):.2f}%"


@dataclass(frozen=True)
class PlannedStage:
    """One stage of the plan, as the page shows it."""

    name: str
    origin: str
    facts: tuple[tuple[str, str], ...]
    shares: tuple[Share, ...]
    branches: tuple[Branch, ...]
    """Empty for a stage that is not fanned out."""
    status: str


@dataclass(frozen=True)
class LossFigure:
    """A loss plot and the branch it is of."""

    branch: str
    drawing: Any


@dataclass(frozen=True)
class StageFigures:
    """The figures of one stage."""

    name: str
    losses: tuple[LossFigure, ...]
    learning_rate: Any
    throughput: Any
    rate_groups: tuple[str, ...] = ()
    """Names of the lines of the learning rates, where there are parameter groups."""


def render_report(run: RunFolder, others: Sequence[RunFolder] = ()) -> str:
    """The page as text.

    ``others`` are runs to compare with.  Raises :class:`~headrace.errors.MissingExtraError`
    where jinja2 or matplotlib is not installed.
    """
    require_page_tools()
    from markupsafe import Markup

    runs = [run, *others]
    titles = tables.score_titles(run)
    compared = [tables.comparison_table(runs, score) for score in titles] if others else []
    return render_page(
        TEMPLATE,
        run=run,
        tiles=_tiles(run),
        notes=tables.notes(run),
        headline=tables.headline_table(run),
        all_branches=tables.branches_table(run),
        parts=tables.part_tables(run),
        bars=[Markup(drawing) for drawing in _bars(run)],
        bar_legend=[stage.name for stage in _scored_stages(run)],
        heat_map=heat_map(run),
        scale=range(palette.SCALE_STEPS),
        figures=[_figures(number, stage, Markup) for number, stage in enumerate(run.stages)],
        plan=[_planned(stage) for stage in run.stages],
        throughput=throughput_table(run),
        steps=steps_table(run),
        comparisons=compared,
        config=json.dumps(run.config, indent=2, ensure_ascii=False) if run.config else None,
        command=reproduce_command(run),
        ranks=next((_ranks(item.start.world_size) for item in run.branches if item.start), ""),
        count=numbers.count,
        percent=numbers.percent,
        created=numbers.moment(run.created) if run.created else None,
    )


def _tiles(run: RunFolder) -> list[Tile]:
    results = language_results(run)
    tiles = []
    for score, title in run.terms.scores.items():
        value = mean(result.scores.values.get(score) for result in results)
        if value is not None:
            note = f"mean of {len(results)} languages" if len(results) > 1 else results[0].language
            for reference, name in run.terms.references.items():
                level = mean(result.scores.values.get(reference) for result in results)
                if level is not None:
                    note += f", {name.lower()} {numbers.percent(level)}"
            tiles.append(Tile(tables.score_cell(run.terms, score, value), title, note))
    gains = [result.gain for result in results if result.gain is not None]
    if gains:
        ends = ["last stage", "first stage"]
        if run.terms.main in run.terms.lower_is_better:
            ends.reverse()
        note = f"{run.terms.main_in_a_sentence}, {' − '.join(ends)}"
        if len(gains) < len(results):
            note += f", {len(gains)} of {len(results)} languages"
        is_number = run.terms.main in run.terms.numbers
        gain = numbers.difference(mean(gains), is_number=is_number)
        tiles.append(Tile(gain, "Gain", note))
    done = sum(branch.status == "finished" for branch in run.branches)
    if run.branches:
        steps = sum(branch.steps_done for branch in run.branches)
        plural = "branch" if len(run.branches) == 1 else "branches"
        note = f"in {numbers.count(steps)} optimizer steps"
        tiles.append(Tile(f"{done} / {len(run.branches)}", f"{plural} finished", note))
    started = [branch.start for branch in run.branches if branch.start]
    if started:
        start = started[0]
        hardware = [f"{start.precision}" if start.precision else ""]
        hardware.append(f"ZeRO {start.zero_stage:.0f}" if start.zero_stage is not None else "")
        hardware.append(_ranks(start.world_size))
        note = ", ".join(part for part in hardware if part)
        tiles.append(Tile(_large(start.parameters), "parameters", note))
    return tiles


def _ranks(world_size: float | None) -> str:
    if world_size is None:
        return ""
    return f"{world_size:.0f} rank{'s' if world_size != 1 else ''}"


def _large(value: float | None) -> str:
    """A count in three digits with its unit: 560 M."""
    if value is None:
        return numbers.MISSING
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return numbers.count(value)


def _scored_stages(run: RunFolder) -> list[Stage]:
    return [stage for stage in run.stages if any(branch.scores for branch in stage.branches)]


def _bars(run: RunFolder) -> list[str]:
    results = language_results(run)
    drawings = []
    titles = tables.score_titles(run)
    for score in run.terms.plotted:
        if score not in titles:
            continue
        series: dict[str, dict[str, float]] = {}
        for stage in _scored_stages(run):
            values = series.setdefault(stage.name, {})
            for result in results:
                branch = branch_for(stage, result.language)
                if branch and score in branch.scores[result.language].values:
                    values[result.language] = branch.scores[result.language].values[score]
        drawings.append(
            plots.score_plot(results, series, name=f"bars-{score}", score=titles[score])
        )
    return drawings


def _figures(number: int, stage: Stage, markup: Any) -> StageFigures:
    logged = [branch for branch in stage.branches if branch.training or branch.validations]
    limit = plots.loss_limit(logged)
    size = WIDE if len(stage.branches) == 1 else SMALL
    losses = tuple(
        LossFigure(
            branch.name,
            markup(plots.loss_plot(branch, name=f"loss-{number}-{at}", size=size, limit=limit)),
        )
        for at, branch in enumerate(logged)
    )
    trained = any(branch.training for branch in stage.branches)
    rate = speed = None
    groups = tuple(map(", ".join, plots.rate_groups(stage)))
    if groups:
        rate = plots.group_rates_plot(stage, name=f"rate-{number}")
    elif trained:
        rate = plots.stage_plot(
            stage, "Learning rate", lambda point: point.learning_rate, name=f"rate-{number}"
        )
    if trained:
        speed = plots.stage_plot(
            stage, "Tokens per second", lambda point: point.tokens_per_s, name=f"speed-{number}"
        )
    return StageFigures(
        stage.name,
        losses,
        markup(rate) if rate else None,
        markup(speed) if speed else None,
        groups,
    )


def _planned(stage: Stage) -> PlannedStage:
    settings = stage.settings
    starts = [branch.start for branch in stage.branches if branch.start]
    start = starts[0] if starts else None
    languages = settings.languages or tuple(
        dict.fromkeys(language for branch in stage.branches for language in branch.languages)
    )
    fanned = bool(settings.for_each) or [branch.name for branch in stage.branches] != [UNBRANCHED]
    kept = {"validation_loss": "the lowest validation loss", "last": "the last model"}
    origin = "Starts from the base model"
    if settings.start_from:
        origin = f"Starts from {settings.start_from}"
    steps = [item.steps for item in starts if item.steps is not None]
    total = (
        f"{numbers.count(sum(steps))} in {counted(len(steps), 'branch', 'branches')}"
        if fanned
        else ""
    )
    epochs = settings.epochs if settings.epochs is not None else start and start.epochs
    facts = (
        ("Languages", f"{len(languages)}: {', '.join(languages)}" if languages else ""),
        ("Branches", f"one for each {settings.for_each}" if settings.for_each else ""),
        ("Epochs", f"{epochs:g}" if epochs is not None else ""),
        ("Steps", (total or numbers.count(steps[0])) if steps else ""),
        ("Samples an epoch", _range([item.samples_per_epoch for item in starts])),
        ("Batch size", numbers.count(start.batch_size) if start else ""),
        ("Mixture", _temperature(settings.temperature) if not settings.for_each else ""),
        ("Keeps", kept.get(settings.keep_best or "", settings.keep_best or "")),
    )
    mixture: Mapping[str, float] = start.mixture if start and not fanned else {}
    shares = sorted(mixture.items(), key=lambda item: -item[1])
    statuses = {branch.status for branch in stage.branches}
    return PlannedStage(
        name=stage.name,
        origin=origin,
        facts=tuple((label, value) for label, value in facts if value),
        shares=tuple(Share(language, fraction, shares[0][1]) for language, fraction in shares),
        branches=stage.branches if fanned else (),
        status=statuses.pop() if len(statuses) == 1 else "unfinished",
    )


def _range(values: Sequence[float | None]) -> str:
    """``7,705``, or ``7,705 to 13,422`` where the branches differ."""
    there = [value for value in values if value is not None]
    if not there:
        return ""
    low, high = numbers.count(min(there)), numbers.count(max(there))
    return low if low == high else f"{low} to {high}"


def _temperature(temperature: float | None) -> str:
    if temperature is None:
        return ""
    if temperature == 1:
        return "natural shares"
    if temperature == 0:
        return "all languages equal"
    return f"shares proportional to size to the power of {temperature:g}"


def reproduce_command(run: RunFolder) -> str | None:
    """A shell command that trains the same run again into a new folder; None without a config.

    The new folder matters: in the old one every stage is complete, and nothing would run.
    """
    if run.config is None:
        return None
    words = ["deepspeed", "launch/train.py", "--ds_config", str(run.path / "config.json")]
    words += ["--set", f"headrace.output={run.path}-again"]
    return shlex.join(words)
