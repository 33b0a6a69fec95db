"""A simulation of failures as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from headrace.counts import counted
from headrace.planning.checkpoint_size import CheckpointSize
from headrace.planning.failures import Job
from headrace.planning.goodput import MOST_TIME
from headrace.planning.interval_study import GOOD, Row, Study

_HOUR = 3600
_PARTS = ("saving", "lost", "detecting", "queueing", "starting")


@dataclass(frozen=True)
class Simulated:
    """A job on some nodes, with each way of saving."""

    nodes: int
    node_mtbf: float
    """Seconds between two failures of a node."""
    job: Job
    limit: float | None
    """Time limit of the job in seconds."""
    load: float
    """Seconds of each start that load the checkpoint."""
    size: CheckpointSize | None
    """None where only the time of a save is known."""
    studies: Mapping[str, Study]
    """``synchronous``, and ``asynchronous`` where the time of the copy is known."""
    chosen: str
    """The way of saving that the config asks for."""

    @property
    def study(self) -> Study:
        """That of the way of saving that the config asks for."""
        return self.studies[self.chosen]


def setting(row: Row) -> dict[str, dict[str, float]]:
    """The section of a run config that makes checkpoints at an interval."""
    if row.steps is not None:
        return {"checkpoint": {"every_steps": row.steps}}
    return {"checkpoint": {"every_seconds": round(row.outcome.interval, 1)}}


def duration(seconds: float) -> str:
    """Seconds in the unit that suits them: ``45 s``, ``12.5 min``, ``3.2 h``."""
    if seconds < 100:
        return f"{seconds:.3g} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.3g} min"
    return f"{seconds / _HOUR:,.4g} h"


def text(found: Simulated) -> str:
    """The job, a table for each way of saving, and what to put into the config."""
    job = found.job
    lines = [
        f"failures: {counted(found.nodes, 'node')}, a failure every {duration(job.mtbf)} "
        f"({found.node_mtbf / _HOUR:,.4g} hours of a node); {duration(job.detect)} until the job "
        f"has ended, {duration(job.requeue)} until it starts again, {duration(job.start)} until it "
        f"trains ({duration(found.load)} of it for loading)",
    ]
    run = f"the run: {duration(job.work)} of training"
    if found.study.step is not None:
        run += f", {found.study.step:.3g} s a step"
    if found.limit is not None:
        run += f"; jobs of at most {duration(found.limit)}"
    if found.size is not None:
        run += f"; a checkpoint has {found.size.whole / 1e9:,.3g} GB"
    lines.append(run)
    for name, study in found.studies.items():
        lines += ["", *_study_lines(name, study)]
    return "\n".join([*lines, "", *_recommendation(found)])


def _study_lines(name: str, study: Study) -> list[str]:
    saving = study.saving
    what = f"{name} saving: training stands still for {duration(saving.stall)}"
    if saving.write:
        what += f", the checkpoint counts {duration(saving.write)} later"
    columns = ["by formula"] if study.rows[0].by_formula is not None else []
    head = ["every", "steps", "goodput", "5 %", "95 %", *columns, "saving", "lost", "down"]
    rows = [head]
    for row in study.rows:
        if not (row.shown or row is study.best):
            continue
        out = row.outcome
        wall = out.wall
        down = out.detecting + out.queueing + out.starting
        cells = [
            duration(out.interval),
            "" if row.steps is None else f"{row.steps:,}",
            *(f"{share:.1%}" for share in (out.mean, out.quantile(0.05), out.quantile(0.95))),
        ]
        if columns:
            cells.append("" if row.by_formula is None else f"{row.by_formula:.1%}")
        shares = (out.saving, out.lost, down)
        cells += [f"{float((part / wall).mean()):.1%}" for part in shares]
        marks = [*row.marks, *(["best simulated"] if row is study.best else [])]
        cells.append(", ".join(marks))
        rows.append(cells)
    if study.step is None:
        rows = [[cell for place, cell in enumerate(line) if place != 1] for line in rows]
    widths = [max(len(line[place]) for line in rows) for place in range(len(rows[0]))]
    lines = [what, ""]
    for line in rows:
        cells = [cell.rjust(width) for cell, width in zip(line, widths, strict=False)]
        lines.append("  " + "  ".join([*cells, *line[len(widths) :]]).rstrip())
    low, high = study.good
    lines += [
        "",
        f"  best by formula: {duration(study.daly)} (Daly), {duration(study.young)} (Young); "
        f"simulated: {duration(study.best.outcome.interval)}, and from {duration(low)} to "
        f"{duration(high)} within {100 * GOOD:g} points of it",
    ]
    cut = [row for row in study.rows if not row.outcome.finished.all()]
    if cut:
        first = cut[0].outcome.interval
        lines.append(
            f"  some draws of {counted(len(cut), 'interval')} (the first: {duration(first)}) had "
            f"not finished in {MOST_TIME} times the work, and were broken off"
        )
    return lines


def _recommendation(found: Simulated) -> list[str]:
    study = found.study
    advised, now = study.recommended, study.configured
    entry = json.dumps(setting(advised))[1:-1]
    lines = [
        f"recommended, with {found.chosen} saving: {entry} in the section headrace "
        f"({duration(advised.outcome.interval)}): goodput {advised.outcome.mean:.1%}, "
        f"{float(advised.outcome.of_held.mean()):.1%} of the time for which nodes are held"
    ]
    if now is not None:
        lines.append(
            f"as configured, every {counted(now.steps or 0, 'step')} "
            f"({duration(now.outcome.interval)}): goodput {now.outcome.mean:.1%}"
        )
    others = [(name, each) for name, each in found.studies.items() if name != found.chosen]
    for name, other in others:
        wanted = json.dumps(setting(other.recommended)["checkpoint"])[1:-1]
        lines.append(
            f"with {name} saving it would be {other.recommended.outcome.mean:.1%} "
            f'({wanted}, "asynchronous": {json.dumps(name == "asynchronous")})'
        )
    return lines


def assumptions_text(draws: int, seed: int) -> str:
    """What the numbers rest on."""
    return (
        f"simulated: {counted(draws, 'draw')} of each interval, seed {seed}; failures come at "
        "random, independent of each other; nothing here was measured"
    )


def document(found: Simulated) -> dict[str, Any]:
    """A simulation as a JSON-able object; times in seconds, sizes in bytes."""
    return {
        "nodes": found.nodes,
        "node_mtbf": found.node_mtbf,
        **asdict(found.job),
        "time_limit": found.limit,
        "load": found.load,
        "step": found.study.step,
        "checkpoint_bytes": None if found.size is None else found.size.whole,
        "saving": {name: _study_document(each) for name, each in found.studies.items()},
        "chosen": found.chosen,
        "recommended": setting(found.study.recommended),
    }


def _study_document(study: Study) -> dict[str, Any]:
    configured = study.configured
    return {
        **asdict(study.saving),
        "simulated_work": study.job.work,
        "young": study.young,
        "daly": study.daly,
        "best": study.best.outcome.interval,
        "good": list(study.good),
        "recommended": setting(study.recommended),
        "recommended_interval": study.recommended.outcome.interval,
        "configured_interval": None if configured is None else configured.outcome.interval,
        "intervals": [_row_document(row) for row in study.rows],
    }


def _row_document(row: Row) -> dict[str, Any]:
    out = row.outcome
    return {
        "interval": out.interval,
        "steps": row.steps,
        "goodput": out.mean,
        "low": out.quantile(0.05),
        "high": out.quantile(0.95),
        "of_held": float(out.of_held.mean()),
        "by_formula": row.by_formula,
        "failures": float(out.failures.mean()),
        "finished": float(out.finished.mean()),
        **{part: float((getattr(out, part) / out.wall).mean()) for part in _PARTS},
    }
