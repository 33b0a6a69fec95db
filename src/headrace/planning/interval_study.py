"""Which interval between checkpoints is best for a job: by formula, and by simulation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from headrace.planning.failures import (
    Job,
    Saving,
    best_interval,
    expected_goodput,
    young_interval,
)
from headrace.planning.goodput import Outcome, simulate

_PARTS = 4
"""Intervals that are simulated for each doubling."""
_DOUBLINGS = 4
"""From the best one by formula to either side."""
_MOST_STARTS = 300
"""So many failures, or time limits, of a job say enough: a longer job is cut to it."""
GOOD = 0.005
"""An interval is good if its goodput is less than this below that of the best."""


@dataclass(frozen=True)
class Row:
    """An interval and what came out."""

    outcome: Outcome
    steps: int | None
    """Optimizer steps of the interval; None if a step's time is not known."""
    by_formula: float | None
    """Goodput by Daly's model; None where it does not hold."""
    marks: tuple[str, ...]
    """What is special about it."""
    shown: bool
    """Whether it is in the table that is printed."""


@dataclass(frozen=True)
class Study:
    """All intervals of one job with one way of saving."""

    job: Job
    """As it was simulated."""
    saving: Saving
    step: float | None
    """Seconds of a step."""
    rows: tuple[Row, ...]
    """By interval."""
    young: float
    daly: float
    """No less than a checkpoint is written in."""
    recommended: Row
    """That by Daly's formula, in whole steps, and no more than the whole run."""
    configured: Row | None

    @property
    def best(self) -> Row:
        """The highest mean goodput of those simulated."""
        return max(self.rows, key=lambda row: row.outcome.mean)

    @property
    def good(self) -> tuple[float, float]:
        """The shortest and the longest interval around the best that are good."""
        enough = self.best.outcome.mean - GOOD
        place = self.rows.index(self.best)
        low = high = place
        while low > 0 and self.rows[low - 1].outcome.mean >= enough:
            low -= 1
        while high < len(self.rows) - 1 and self.rows[high + 1].outcome.mean >= enough:
            high += 1
        return self.rows[low].outcome.interval, self.rows[high].outcome.interval


def study_intervals(
    job: Job,
    saving: Saving,
    *,
    draws: int,
    seed: int,
    step: float | None = None,
    configured: float | None = None,
    asked: Iterable[float] = (),
) -> Study:
    """Simulate intervals around that of Daly's formula.

    Args:
        job: its times; one of more than 300 failures or time limits is cut to that.
        saving: what a checkpoint takes.
        draws: of each interval.
        seed: of the draws.
        step: seconds of an optimizer step: intervals are whole steps.
        configured: interval of a config, in seconds of training.
        asked: further ones.
    """
    enough = _MOST_STARTS * min(job.mtbf, job.signal_at or job.mtbf)
    job = replace(job, work=min(job.work, enough))
    best = best_interval(saving, job.mtbf)

    def possible(interval: float) -> float:
        interval = min(interval, job.work)
        return interval if step is None else max(1, round(interval / step)) * step

    sides = _PARTS * _DOUBLINGS
    ladder = {part: possible(best * 2 ** (part / _PARTS)) for part in range(-sides, sides + 1)}
    shown = {interval for part, interval in ladder.items() if part % 2 == 0}
    marks: dict[float, list[str]] = {}
    young = young_interval(saving.stall, job.mtbf)
    for name, interval in (("Young", young), ("Daly", best), ("config", configured)):
        if interval is not None:
            marks.setdefault(possible(interval), []).append(name)
    shown |= set(map(possible, asked)) | set(marks)
    intervals = sorted(shown | set(ladder.values()))
    waits = saving.write == 0 and job.signal_at is None
    rows = [
        Row(
            outcome,
            None if step is None else round(outcome.interval / step),
            expected_goodput(job, saving.stall, outcome.interval) if waits else None,
            tuple(marks.get(outcome.interval, ())),
            outcome.interval in shown,
        )
        for outcome in simulate(job, saving, intervals, draws=draws, seed=seed)
    ]
    by_interval = {row.outcome.interval: row for row in rows}
    return Study(
        job,
        saving,
        step,
        tuple(rows),
        young,
        best,
        by_interval[possible(best)],
        None if configured is None else by_interval[possible(configured)],
    )
