"""Who holds a run up: decided from what the ranks last said, without clocks, files or processes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from headrace.training.watch.activity import Moment
from headrace.training.watch.files import Heartbeat

GONE = "gone"
"""The state of a process that is no more."""
_NAMED = 8
"""Ranks that a message names with their host, at most."""


@dataclass(frozen=True)
class Sighting:
    """A rank's last heartbeat, and for how long the one who looks has seen no other."""

    heartbeat: Heartbeat
    quiet: float = 0.0
    """Seconds for which the file has not changed; 0 while the rank writes it."""
    state: str | None = None
    """What the kernel says of the process where it can be asked: ``stopped``, for example."""

    @property
    def seconds(self) -> float:
        """Since the rank's last sign of progress, at least."""
        return self.heartbeat.seconds + self.quiet


def ranks_behind(sightings: Sequence[Sighting]) -> tuple[Sighting, ...]:
    """The ranks that the others wait for, whether or not they may take that long.

    They are those without a heartbeat, if there are any.  Otherwise those that have entered the
    fewest phases; if some of these wait in a collective and others do not, those that do not.  All
    ranks at one place, all waiting or none: nobody is behind.
    """
    quiet = [sighting for sighting in sightings if sighting.quiet > 0]
    least = min(sighting.heartbeat.position for sighting in sightings)
    last = [sighting for sighting in sightings if sighting.heartbeat.position == least]
    busy = [sighting for sighting in last if sighting.heartbeat.waits_in is None]
    behind = quiet or busy or last
    return () if len(behind) == len(sightings) > 1 else tuple(behind)


def judge(sightings: Sequence[Sighting]) -> str | None:
    """Say who holds the run up, if somebody does for longer than it may; otherwise None.

    To be asked by a rank that has made no progress itself for longer than a step may take.  A rank
    whose file has not changed since it began to look counts as over its time after half of that,
    because it was quiet for an unknown time before.

    Args:
        sightings: one for each rank.
    """
    behind = ranks_behind(sightings)
    over = [sighting for sighting in behind or sightings if _is_over(sighting)]
    if not over:
        return None
    others = [sighting for sighting in sightings if sighting not in over]
    if not behind and others:
        # each works by itself: those that move are not waiting for the others
        if any(_is_over(sighting, 0.5) for sighting in others):
            return None
        behind = tuple(over)
    said = [describe(sighting) for sighting in over[:_NAMED]] if behind else []
    if len(over) > _NAMED and behind:
        said.append(f"so have {len(over) - _NAMED} more")
    said += _of_groups(others if behind else sightings)
    if not behind:
        said.append("no rank is behind the others")
    return "; ".join(said)


def describe(sighting: Sighting) -> str:
    """One rank for people: who and where it is, what it does, and for how long."""
    beat = sighting.heartbeat
    name = f"rank {beat.rank} on {beat.host} (pid {beat.pid})"
    at = "" if beat.at is None else f", at {beat.at}"
    moment = _moment(beat)
    if sighting.state == GONE:
        return f"{name} is gone, last seen in {moment}{at}"
    if sighting.quiet == 0:
        return f"{name} has been in {moment} for {sighting.seconds:.0f} s{at}"
    state = "" if sighting.state is None else f"; its process is {sighting.state}"
    return (
        f"{name} has shown no heartbeat for {sighting.quiet:.0f} s or longer, last seen in "
        f"{moment}{at}{state}"
    )


def rank_ranges(ranks: Iterable[int]) -> str:
    """Ranks for people: ``rank 3``, ``ranks 0-2, 5``."""
    spans: list[tuple[int, int]] = []
    for rank in sorted(ranks):
        if spans and rank == spans[-1][1] + 1:
            spans[-1] = (spans[-1][0], rank)
        else:
            spans.append((rank, rank))
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in spans]
    return f"{'rank' if texts[0].isdecimal() and len(texts) == 1 else 'ranks'} {', '.join(texts)}"


def _is_over(sighting: Sighting, share: float = 1.0) -> bool:
    """Whether a rank has used up a share of what it may take."""
    allowance = sighting.heartbeat.allowance
    if allowance is None:
        return False
    return sighting.seconds >= share * (allowance / 2 if sighting.quiet > 0 else allowance)


def _moment(beat: Heartbeat) -> Moment:
    return Moment(beat.phase, beat.branch, beat.step)


def _of_groups(sightings: Sequence[Sighting]) -> list[str]:
    groups: dict[tuple[str, str], list[int]] = {}
    for sighting in sightings:
        beat = sighting.heartbeat
        verb = "is in" if beat.waits_in is None else f"waits in the {beat.waits_in} of"
        groups.setdefault((verb, str(_moment(beat))), []).append(beat.rank)
    texts = []
    for (verb, moment), ranks in groups.items():
        if len(ranks) > 1:
            verb = verb.replace("is in", "are in").replace("waits", "wait")
        texts.append(f"{rank_ranges(ranks)} {verb} {moment}")
    return texts
