"""What a stage will draw: sources, mix over time, and the positions at which something changes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from headrace.stream.mixture import MAX_DEVIATION
from headrace.stream.plan import StagePlan
from headrace.stream.stage_mixture import Segment


@dataclass(frozen=True)
class SourceOverview:
    """What a stage draws from one source."""

    name: str
    url: str
    shards: int
    samples: int
    drawn: int
    """Samples that the stage draws, repeats included."""
    limit: int | None
    """Samples that it may draw; None: no limit."""
    exhausted_at: int | None
    """Position at which it has drawn all it may; None: the stage does not get there."""
    open_shards: int
    """Shards that the samples which are planned together lie in, at most."""

    @property
    def passes(self) -> float:
        """How often the source is gone through."""
        return self.drawn / self.samples

    @property
    def repeated(self) -> int:
        """Draws of a sample that was drawn before."""
        return max(0, self.drawn - self.samples)

    @property
    def unseen(self) -> int:
        """Samples that are never drawn."""
        return max(0, self.samples - self.drawn)


@dataclass(frozen=True)
class Stretch:
    """Some positions of the stage, and what they draw."""

    start: int
    end: int
    drawn: tuple[int, ...]
    """Samples of each source."""


@dataclass(frozen=True)
class Edge:
    """A position at which the shares change."""

    position: int
    phase: int
    """Number of the phase that holds from there on, from 1."""
    exhausted: str | None
    """Name of the source that has drawn all it may; None where a phase begins."""
    is_end: bool
    """Whether nothing is left to draw."""
    shares: tuple[float, ...]
    """Of each source from there on, 0 to 1."""


@dataclass(frozen=True)
class StageOverview:
    """What a stage draws in its first ``positions`` positions."""

    stage: str
    positions: int
    samples_per_epoch: int
    sources: tuple[SourceOverview, ...]
    stretches: tuple[Stretch, ...]
    edges: tuple[Edge, ...]
    """The first is the start of the stage."""
    phases_not_reached: tuple[tuple[int, int], ...]
    """Number and start of the phases that begin at the end of the stage or later."""


def overview(
    plan: StagePlan, positions: int, cuts: Sequence[int], *, together: int
) -> StageOverview:
    """Look ahead over the first ``positions`` positions of a stage, or to its end.

    ``together`` is how many positions are planned together, as a window of batches is.  ``cuts``
    are the positions between which the mix is counted; those outside of the stage are left out,
    its start and its end are added.
    """
    mixture = plan.stage_mixture
    if mixture.end is not None:
        positions = min(positions, mixture.end)
    segments = [
        segment
        for segment in mixture.segments
        if segment.start < positions or (segment.start == positions and segment.is_end)
    ]
    exhausted_at = {
        segment.exhausted: segment.start for segment in segments if segment.exhausted is not None
    }
    counts = mixture.counts(positions).tolist()
    # Whole blocks, since a block is shuffled.
    covered = min((-(-together // plan.block) + 1) * plan.block, plan.samples_per_epoch)
    inside = sorted({cut for cut in cuts if 0 < cut < positions})
    places = [0, *inside, positions]
    drawn = [mixture.counts(place) for place in places]
    return StageOverview(
        stage=plan.stage,
        positions=positions,
        samples_per_epoch=plan.samples_per_epoch,
        sources=tuple(
            SourceOverview(
                name=source.name,
                url=source.url,
                shards=len(source.shard_sizes),
                samples=sum(source.shard_sizes),
                drawn=counts[number],
                limit=mixture.limits[number],
                exhausted_at=exhausted_at.get(number),
                open_shards=_open_shards(
                    source.shard_sizes,
                    plan.shard_window,
                    math.ceil(
                        max(_share(segment, number) for segment in segments) * covered
                        + 2 * MAX_DEVIATION * len(segments)
                    ),
                ),
            )
            for number, source in enumerate(plan.sources)
        ),
        stretches=tuple(
            Stretch(start, end, tuple((after - before).tolist()))
            for (start, before), (end, after) in pairwise(zip(places, drawn, strict=True))
        ),
        edges=tuple(
            Edge(
                position=segment.start,
                phase=segment.phase + 1,
                exhausted=None
                if segment.exhausted is None
                else plan.sources[segment.exhausted].name,
                is_end=segment.is_end,
                shares=tuple(weight / max(1, sum(segment.weights)) for weight in segment.weights),
            )
            for segment in segments
        ),
        phases_not_reached=tuple(
            (number + 1, phase.start)
            for number, phase in enumerate(mixture.phases)
            if phase.start >= positions
        ),
    )


def _share(segment: Segment, source: int) -> float:
    return segment.weights[source] / max(1, sum(segment.weights))


def _open_shards(sizes: Sequence[int], window: int, drawn: int) -> int:
    """Shards that so many draws in a row from a source touch at most."""
    least = sum(sorted(sizes)[:window])
    if not least:
        return len(sizes)
    # All windows of shards but the first and the last are covered whole; one of them may be the
    # short one at the end of a pass.
    windows = (drawn - 2) // least + 2 + (len(sizes) % window != 0)
    return min(len(sizes), windows * window)
