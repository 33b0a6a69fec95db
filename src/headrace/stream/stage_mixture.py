"""The mixture of a whole stage: phases, and the positions at which a source is exhausted.

A stage is cut into segments: a new one begins where a phase begins, and where a source has been
gone through as often as it may be.  Within a segment the weights are constant, so that the counts
before any position are those at the segment's start plus those of one :class:`Mixture`: closed
form, exact sums, never falling.  The start of a segment is found by a binary search over the same
counts, so that an epoch limit holds to the sample.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from headrace.stream.digest import digest
from headrace.stream.feistel import Int64Array
from headrace.stream.mixture import Mixture, bounded_weights
from headrace.stream.phases import Phase, check_starts, sample_limits, settings_of_phases

_TAG = 2
"""Hexadecimal digits by which a phase that changed is told from those that did not."""


@dataclass(frozen=True)
class Segment:
    """A stretch of positions over which the weights do not change."""

    start: int
    """First position."""
    phase: int
    """Number of its phase, from 0."""
    weights: tuple[int, ...]
    """One a source, 0 where nothing is drawn.  All 0: the stage ends at ``start``."""
    before: tuple[int, ...]
    """Samples of each source that the stage draws before ``start``."""
    exhausted: int | None = None
    """Source that reached its epoch limit at ``start``; None where a phase begins."""

    @property
    def is_end(self) -> bool:
        """Whether nothing is drawn any more."""
        return not any(self.weights)


class StageMixture:
    """Cumulative counts of the sources of a stage, through all of its phases."""

    def __init__(
        self,
        names: Sequence[str],
        sizes: Sequence[int],
        phases: Sequence[Phase],
        max_epochs: Sequence[float | None] | None = None,
        *,
        where: str = "mixture",
    ) -> None:
        """Cut the stage into segments.

        ``sizes`` are in samples, at least 1 each.  The first of ``phases`` begins at 0.
        ``max_epochs`` says how often each source may be gone through, None for no limit.

        Raises ``ConfigError`` that lists everything that cannot be planned, with paths below
        ``where`` that end in a source's name.
        """
        self.sizes = tuple(sizes)
        self.phases = tuple(phases)
        check_starts(self.phases, where)
        self.limits = sample_limits(names, self.sizes, max_epochs, where)
        """Samples of each source that the stage may draw; None: no limit."""
        self._settings = settings_of_phases(names, self.sizes, self.phases, where)
        self.end_reason = ""
        """Why the stage ends at ``end``, as part of a sentence; empty where it does not."""
        self.segments = self._cut()
        """In the order of their starts; the last is the end of the stage where there is one."""
        self._starts = [segment.start for segment in self.segments]
        self._mixture = lru_cache(maxsize=8)(self._make_mixture)

    @property
    def end(self) -> int | None:
        """Positions of the stage; None: there is no end."""
        return self.segments[-1].start if self.segments[-1].is_end else None

    def counts(self, position: int) -> Int64Array:
        """Samples of each source before ``position``; int64, one a source.

        Raises ``IndexError`` for a position behind ``end``.
        """
        number = bisect_right(self._starts, position) - 1
        segment = self.segments[number]
        before = np.array(segment.before, dtype=np.int64)
        if position == segment.start:
            return before
        if segment.is_end:
            raise IndexError(f"the stage ends at {segment.start}, before {position}")
        return before + self._mixture(number).counts(position - segment.start)

    def counts_at(self, positions: Sequence[int]) -> Int64Array:
        """``counts`` of several positions; int64 of shape (positions, sources)."""
        return np.stack([self.counts(position) for position in positions])

    def segment_at(self, position: int) -> Segment:
        """The segment that holds a position."""
        return self.segments[bisect_right(self._starts, position) - 1]

    def settings_until(self, end: int | None) -> Mapping[str, str]:
        """What fixes the counts up to position ``end`` (None: all), as short digests.

        A phase that begins at ``end`` or later has no part in them, the first always has.  Nor
        has an epoch limit that is not reached before ``end``.
        """
        begun = [
            segment
            for segment in self.segments
            if segment.start == 0 or end is None or segment.start < end
        ]
        first = digest(begun[0].weights)
        settings = {"mixture": first}
        if len(begun) > 1:
            parts: list[list[object]] = [[first]]
            for segment in begun[1:]:
                while segment.phase >= len(parts):
                    parts.append([])
                parts[segment.phase].append([segment.start, segment.weights])
            tags = "".join(digest(part)[:_TAG] for part in parts)
            settings["mixture phases"] = f"{digest(parts)} {tags}"
        return settings

    def _make_mixture(self, number: int) -> Mixture:
        return Mixture(self.segments[number].weights)

    def _cut(self) -> tuple[Segment, ...]:
        segments: list[Segment] = []
        position, before, exhausted = 0, [0] * len(self.sizes), None
        stops = [*(phase.start for phase in self.phases[1:]), None]
        for phase, stop in enumerate(stops):
            while stop is None or position < stop:
                weights = self._weights(phase, before)
                segments.append(Segment(position, phase, tuple(weights), tuple(before), exhausted))
                if not any(weights):
                    return tuple(segments)
                mixture = Mixture(weights)
                found = _first_full(mixture, self._room(before))
                if found is None and stop is None:
                    return tuple(segments)
                if found is None or (stop is not None and position + found[0] >= stop):
                    assert stop is not None
                    length, exhausted = stop - position, None
                else:
                    length, exhausted = found
                drawn = mixture.counts(length).tolist()
                before = [old + new for old, new in zip(before, drawn, strict=True)]
                position += length
        return tuple(segments)

    def _room(self, before: Sequence[int]) -> list[int | None]:
        return [
            None if limit is None else limit - count
            for limit, count in zip(self.limits, before, strict=True)
        ]

    def _weights(self, phase: int, before: Sequence[int]) -> list[int]:
        """The weights of a phase over the sources that are left; all 0 where none can be drawn."""
        weights, least, most = self._settings[phase]
        left = [
            0 if room == 0 else weight
            for weight, room in zip(weights, self._room(before), strict=True)
        ]
        if not any(left):
            self.end_reason = "every source that it draws from has reached its epoch limit"
            return left
        if least is None or most is None:
            return left
        largest = sum(most[number] for number, weight in enumerate(left) if weight)
        if largest < 1:
            self.end_reason = (
                "others have reached their epoch limits, and the largest shares of those that are "
                f"left add up to {float(largest):g} only"
            )
            return [0] * len(left)
        return bounded_weights(left, least, most)


def changed_phases(saved: Mapping[str, object], now: Mapping[str, object]) -> list[int]:
    """The phases, from 0, in which two results of ``settings_until`` differ.

    An earlier one that moves an exhaustion into a later one changes both.  One change in 256
    cannot be told from none: the results differ, and the list lacks the phase.
    """
    before, after = _tags(saved), _tags(now)
    return [
        number
        for number in range(max(len(before), len(after)))
        if before[number : number + 1] != after[number : number + 1]
    ]


def _tags(settings: Mapping[str, object]) -> list[str]:
    if "mixture phases" not in settings:
        return [digest([settings.get("mixture")])[:_TAG]]
    text = str(settings["mixture phases"]).rpartition(" ")[2]
    return [text[start : start + _TAG] for start in range(0, len(text), _TAG)]


def _first_full(mixture: Mixture, room: Sequence[int | None]) -> tuple[int, int] | None:
    """The first position at which a source has drawn all it may, and that source."""
    total = sum(mixture.weights)
    limited = [
        (number, free, weight)
        for number, (free, weight) in enumerate(zip(room, mixture.weights, strict=True))
        if free is not None and weight
    ]
    if not limited:
        return None

    def full(position: int) -> list[int]:
        counts = mixture.counts(position).tolist()
        return [number for number, free, _ in limited if counts[number] >= free]

    # A count differs from its ideal by less than 2, which leaves few positions to search.
    low = max(0, min((free - 2) * total // weight for _, free, weight in limited))
    high = min((free + 2) * total // weight + 1 for _, free, weight in limited)
    position = low + bisect_left(range(low, high), True, key=lambda p: bool(full(p)))
    # One position draws one sample: no two sources are full at once.
    (source,) = full(position)
    return position, source
