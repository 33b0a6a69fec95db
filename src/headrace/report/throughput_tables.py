"""How fast the branches of a run train, and where the time of their steps goes."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from headrace.report import numbers
from headrace.report.records import Branch
from headrace.report.run_folder import RunFolder
from headrace.report.table import Table


def throughput_table(run: RunFolder) -> Table:
    """Speed of every branch; where the run has no figure yet, the median of the log so far."""
    rows = []
    for branch in run.branches:
        figures = [
            branch.result.throughput.get(name) if branch.result else None
            for name in ("tokens_per_s", "samples_per_s", "padding_share")
        ]
        logged = (
            [point.tokens_per_s for point in branch.training],
            [point.samples_per_s for point in branch.training],
            [point.padding_share for point in branch.training],
        )
        tokens, samples, padding = (
            _median(values) if figure is None else figure
            for figure, values in zip(figures, logged, strict=True)
        )
        rows.append(
            (
                branch.stage,
                branch.name,
                numbers.amount(tokens),
                numbers.amount(samples),
                numbers.share(padding),
                numbers.count(branch.steps_done),
                numbers.duration(elapsed(branch)),
                numbers.count(branch.restarts),
            )
        )
    columns = (
        *("Stage", "Branch", "Tokens/s", "Samples/s", "Padding", "Steps"),
        *("Elapsed", "Restarts"),
    )
    return Table("Throughput", columns, tuple(rows), names=2)


def _median(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return statistics.median(there) if there else None


def elapsed(branch: Branch) -> float | None:
    """Seconds between the first and the last record of a branch, pauses included."""
    times = [point.time for point in branch.training]
    times += [validation.time for validation in branch.validations]
    known = [time for time in times if time is not None]
    return max(known) - min(known) if len(known) > 1 else None


def steps_table(run: RunFolder) -> list[Table]:
    """Times, memory and utilisation; no table where no branch has measured them.

    Where the run has no figure yet it is that of the log so far: the median, of memory and of the
    longest step the largest.
    """
    rows = []
    for branch in run.branches:
        p50, p95, wait, overhead, mfu = (
            _figure(branch, name)
            for name in (
                *("step_seconds_p50", "step_seconds_p95"),
                *("data_wait_share", "overhead_share", "mfu"),
            )
        )
        longest = _figure(branch, "step_seconds_max", largest=True)
        resident = _figure(branch, "memory_resident", largest=True)
        allocated = _figure(branch, "memory_allocated", largest=True)
        if p50 is not None:
            rows.append(
                (
                    branch.stage,
                    branch.name,
                    *map(numbers.milliseconds, (p50, p95, longest)),
                    numbers.share(wait),
                    numbers.share(overhead),
                    *map(numbers.gigabytes, (allocated, resident)),
                    numbers.share(mfu),
                )
            )
    columns = (
        *("Stage", "Branch", "Step, median", "95 %", "Longest", "Data wait", "Overhead"),
        *("GPU memory", "Memory", "MFU"),
    )
    return [Table("Steps", columns, tuple(rows), names=2)] if rows else []


def _figure(branch: Branch, name: str, *, largest: bool = False) -> float | None:
    """A measure of a branch: of its result, or of its log so far."""
    if branch.result and name in branch.result.throughput:
        return branch.result.throughput[name]
    logged = [point.measures[name] for point in branch.training if name in point.measures]
    return max(logged, default=None) if largest else _median(logged)
