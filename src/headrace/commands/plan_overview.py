"""What ``headrace plan`` says of a branch, as text and as JSON: sources, mix over time, needs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from headrace.commands.options import counted
from headrace.errors import Problem

if TYPE_CHECKING:
    from headrace.stream.overview import Edge, StageOverview
    from headrace.training.stages import Branch

BAR_WIDTH = 48
LETTERS = "abcdefghijklmnopqrstuvwxyz"
"""One for each source of a bar; further sources share the last sign."""
OTHERS = "+"


@dataclass(frozen=True)
class PlannedBranch:
    """A branch, what it draws, and what that needs."""

    branch: Branch
    overview: StageOverview
    batch_size: int | None
    """Samples of a batch; None where batches differ."""
    bytes: tuple[int, ...]
    """Of all shards of each source."""
    window_bytes: tuple[int, ...]
    """Of the largest shards of each source, as many as may be in use at once."""
    window: int
    """Samples in a row that shards are counted for: a window of batches, or else a block."""
    problems: tuple[Problem, ...]
    """Why training would refuse the branch."""
    awaits_selection: bool = False
    """Whether the run is going to choose some of these samples when it starts."""
    cuts_texts: bool = False
    """Whether these samples are texts, and those of the run the sequences they are cut into."""


def overview_document(planned: PlannedBranch) -> dict[str, Any]:
    """The plan of a branch as a JSON-able object."""
    facts = planned.overview
    sources = [
        {
            **asdict(source),
            "passes": source.passes,
            "repeated": source.repeated,
            "unseen": source.unseen,
            "share": source.drawn / max(1, facts.positions),
            "bytes": planned.bytes[number],
            "window_bytes": planned.window_bytes[number],
        }
        for number, source in enumerate(facts.sources)
    ]
    return {
        "stage": planned.branch.stage.name,
        "branch": planned.branch.name,
        "samples_per_epoch": facts.samples_per_epoch,
        "samples": facts.positions,
        "batch_size": planned.batch_size,
        "sources": sources,
        "mix": [asdict(stretch) for stretch in facts.stretches],
        "edges": [asdict(edge) for edge in facts.edges],
        "phases_not_reached": [
            {"phase": number, "start": start} for number, start in facts.phases_not_reached
        ],
        "window": planned.window,
        "open_shards": sum(source.open_shards for source in facts.sources),
        "cache_bytes": {"windows": sum(planned.window_bytes), "all": sum(planned.bytes)},
        "awaits_selection": planned.awaits_selection,
        "cuts_texts": planned.cuts_texts,
        "refused": [str(problem) for problem in planned.problems],
    }


def overview_text(planned: PlannedBranch) -> str:
    """The plan of a branch for a terminal: sources, mix over time, edges, needs."""
    from headrace.stream.batching import steps_until

    facts = planned.overview
    length = f"{facts.positions / facts.samples_per_epoch:.4g} epochs of"
    head = f"{facts.stage}: {length} {counted(facts.samples_per_epoch, 'sample')}"
    if planned.batch_size is not None and not planned.cuts_texts:
        steps = steps_until(facts.positions, facts.samples_per_epoch, planned.batch_size)
        head += f", {steps:,} {'batch' if steps == 1 else 'batches'} of {planned.batch_size}"
    lines = [head, "", *_source_table(planned)]
    if planned.awaits_selection:
        lines.insert(1, "  the selection is not made yet: these are the numbers of all samples")
    if planned.cuts_texts:
        note = "samples: texts; how many sequences they are cut into is known after encoding"
        lines.insert(1, f"  {note}")
    if len(facts.sources) > 1:
        lines += ["", *_mix(facts), ""]
        lines += [f"  {line}" for edge in facts.edges for line in _edge_lines(edge, facts)]
    lines += [
        f"  phase {number} would begin at position {start:,}: the stage is over before"
        for number, start in facts.phases_not_reached
    ]
    shards = sum(source.open_shards for source in facts.sources)
    lines += [
        "",
        f"  {counted(planned.window, 'sample')} in a row lie in {counted(shards, 'shard')} at "
        f"most; a cache needs {_size(sum(planned.window_bytes))} for these, "
        f"{_size(sum(planned.bytes))} for all",
    ]
    return "\n".join(lines)


def _sign(number: int) -> str:
    return LETTERS[number] if number < len(LETTERS) else OTHERS


def _source_table(planned: PlannedBranch) -> list[str]:
    facts = planned.overview
    rows = [
        ["", "source", "shards", "samples", "share", "drawn", "passes", "repeated", "never seen",
         "epoch limit"]
    ]  # fmt: skip
    for number, source in enumerate(facts.sources):
        limit = "none" if source.limit is None else f"{source.limit / source.samples:g}"
        if source.exhausted_at is not None:
            limit += f", reached at epoch {source.exhausted_at / facts.samples_per_epoch:.3g}"
        rows.append(
            [
                _sign(number),
                source.name,
                f"{source.shards:,}",
                f"{source.samples:,}",
                f"{source.drawn / max(1, facts.positions):.2%}",
                f"{source.drawn:,}",
                f"{source.passes:.3g}",
                f"{source.repeated:,}",
                f"{source.unseen:,}",
                limit,
            ]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  "
        + "  ".join(
            cell.ljust(width) if column in (0, 1, 9) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _mix(facts: StageOverview) -> list[str]:
    """A bar for each stretch of the stage: as many letters of each source as its share."""
    per_epoch = facts.samples_per_epoch
    labels = [
        f"{stretch.start / per_epoch:.2f} to {stretch.end / per_epoch:.2f}"
        for stretch in facts.stretches
    ]
    width = max(len("epochs"), *map(len, labels))
    lines = [f"  {'epochs':<{width}}  mix"]
    for label, stretch in zip(labels, facts.stretches, strict=True):
        total = max(1, stretch.end - stretch.start)
        bar, before = "", 0
        for number, drawn in enumerate(stretch.drawn):
            before += drawn
            bar += _sign(number) * (round(before / total * BAR_WIDTH) - len(bar))
        lines.append(f"  {label:<{width}}  {bar}")
    return lines


def _edge_lines(edge: Edge, facts: StageOverview) -> list[str]:
    place = f"position {edge.position:,} (epoch {edge.position / facts.samples_per_epoch:.4g})"
    if edge.exhausted is not None:
        what = f"{edge.exhausted} has been gone through as often as it may"
    elif edge.position == 0:
        what = "the stage begins"
    else:
        what = f"phase {edge.phase} begins"
    if edge.is_end:
        return [f"{place}: {what}, and the stage ends"]
    shares = ", ".join(
        f"{source.name} {share:.1%}"
        for source, share in zip(facts.sources, edge.shares, strict=True)
        if share
    )
    return [f"{place}: {what}", f"  {shares}"]


def _size(number: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if number < 1000:
            return f"{number:.4g} {unit}"
        number /= 1000
    return f"{number:.4g} TB"
