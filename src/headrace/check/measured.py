"""What follows from what ranks measured together."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from headrace.check.facts import Facts
from headrace.check.finding import Finding, Kind, first_ranks, found, kind_where

SKEW_SECONDS = 1.0
"""Beyond this, clocks differ."""
WRONG_SKEW_SECONDS = 300.0
"""Beyond this, certificates and requests to object stores are refused."""
SLOW_SHARE = 0.7
"""Of the median: a node below is slow."""
LATE_SECONDS = 5.0
"""After which a file of rank 0 should be seen."""
FREE_BYTES = 20 * 10**9
"""Fewer may not take the next checkpoint."""


NOT_WRITABLE = "the run folder: it cannot be written to"
OTHER_FOLDER = "Choose another folder with headrace.output, or have this one mounted rightly"


@dataclass(frozen=True)
class FolderSeen:
    """The run folder, as one node sees it."""

    seconds: float | None
    """Until a file of rank 0 was there; None: it was not."""
    problem: tuple[str, str] | None
    """What cannot be done, and what the system says."""
    locks_apart: bool
    """Whether a lock that rank 0 holds is not known here."""
    free_bytes: int


@dataclass
class Measured:
    """What one rank measured; of a node's ranks the first has most of it."""

    skew: tuple[float, float] | None = None
    """Seconds that the node's clock is ahead of rank 0's, and how sure that is."""
    folder: FolderSeen | None = None
    sources: list[Mapping[str, Any]] = field(default_factory=list)
    """Problems of shards, as plain data."""
    all_ranks: Mapping[str, float] = field(default_factory=dict)
    """Bytes of an all-reduce of all ranks, as text -> GB/s of its bus."""
    node: float | None = None
    """GB/s of an all-reduce of the ranks of the node."""
    links: float | None = None
    """GB/s to another node: the best of several."""
    failed: str | None = None
    """What went wrong while measuring."""


def from_data(data: Mapping[str, Any]) -> Measured:
    """From the plain data of one."""
    folder, skew = data["folder"], data["skew"]
    if folder is not None:
        problem = folder["problem"]
        folder = FolderSeen(**{**folder, "problem": None if problem is None else tuple(problem)})
    return Measured(**{**data, "folder": folder, "skew": None if skew is None else tuple(skew)})


def of_clocks(facts: Sequence[Facts], measured: Mapping[int, Measured]) -> Iterable[Finding]:
    """Nodes whose clock differs from that of rank 0."""
    for each in facts:
        skew = measured[each.rank].skew
        if skew is None or abs(skew[0]) - skew[1] <= SKEW_SECONDS:
            continue
        wrong = abs(skew[0]) - skew[1] > WRONG_SKEW_SECONDS
        yield found(
            Kind.FAULT if wrong else Kind.WARNING,
            f"the clock is {'ahead of' if skew[0] > 0 else 'behind'} that of rank 0", [each],
            f"{abs(skew[0]):,.1f} seconds",
            "Have the node's clock set: times of files and logs mislead"
            + (", and object stores refuse its requests" if wrong else ""),
        )  # fmt: skip


def of_folder(facts: Sequence[Facts], measured: Mapping[int, Measured]) -> Iterable[Finding]:
    """What the nodes cannot do in the run folder."""
    nodes = [each for each in first_ranks(facts) if measured[each.rank].folder is not None]
    seen = {each.rank: look for each in nodes if (look := measured[each.rank].folder) is not None}
    by_problem: dict[tuple[str, str], list[Facts]] = {}
    for each in nodes:
        if problem := seen[each.rank].problem:
            by_problem.setdefault(problem, []).append(each)
    for (what, why), there in by_problem.items():
        yield found(
            kind_where(there, facts), f"the run folder: {what}", there, why,
            OTHER_FOLDER,
        )  # fmt: skip
    apart = [each for each in nodes if seen[each.rank].seconds is None]
    apart = [each for each in apart if seen[each.rank].problem is None]
    if apart:
        yield found(
            Kind.MISTAKE, "the run folder: a file that rank 0 wrote is not seen", apart, None,
            "Choose a folder on a file system that all nodes share, with headrace.output",
        )  # fmt: skip
    late = [each for each in nodes if (seen[each.rank].seconds or 0) > LATE_SECONDS]
    if late:
        yield found(
            Kind.WARNING, "the run folder: a file of rank 0 is seen late", late,
            f"{max(seen[each.rank].seconds or 0 for each in late):.1f} seconds",
            "Mount it with a shorter actimeo, or look whether its server is busy",
        )  # fmt: skip
    unlocked = [each for each in nodes if seen[each.rank].locks_apart]
    if unlocked:
        yield found(
            Kind.WARNING, "the run folder: locks of one node are not known on others", unlocked,
            None,
            "Mount it with flock (Lustre) or without nolock (NFS); until then, two jobs of one "
            "run do not notice each other",
        )  # fmt: skip
    full = [each for each in nodes if seen[each.rank].free_bytes < FREE_BYTES]
    full = [each for each in full if seen[each.rank].problem is None]
    if full:
        yield found(
            Kind.WARNING, "the run folder: little space is left", full,
            f"{seen[full[0].rank].free_bytes / 1e9:.1f} GB", "Make room, or choose another folder",
        )  # fmt: skip


def of_sources(facts: Sequence[Facts], measured: Mapping[int, Measured]) -> Iterable[Finding]:
    """Shards that nodes cannot read."""
    nodes = first_ranks(facts)
    by_problem: dict[tuple[str, str, str | None, str | None], list[Facts]] = {}
    for each in nodes:
        for raw in measured[each.rank].sources:
            key = (raw["what"], raw["where"], raw["value"], raw["remedy"])
            by_problem.setdefault(key, []).append(each)
    for (what, where, value, remedy), there in by_problem.items():
        yield found(kind_where(there, facts), f"{where}: {what}", there, value, remedy)


def of_bandwidth(facts: Sequence[Facts], measured: Mapping[int, Measured]) -> Iterable[Finding]:
    """Nodes that are slower than the others, within or to other nodes."""
    for name, what in (("node", "among its own ranks"), ("links", "to other nodes")):
        rates = {each.rank: rate for each in facts if (rate := getattr(measured[each.rank], name))}
        median = statistics.median_high(rates.values()) if rates else 0.0
        for each in (one for one in facts if one.rank in slow_ones(rates)):
            yield found(
                Kind.WARNING, f"the node is slow {what}", [each],
                f"{rates[each.rank]:.2f} GB/s, the median is {median:.2f}",
                f"If a second check finds the same, leave it out: --sbatch=--exclude={each.host}",
            )  # fmt: skip


def slow_ones(rates: Mapping[int, float]) -> list[int]:
    """Those below 0.7 of the median; of two, one that is below that share of the other."""
    if len(rates) < 2:
        return []
    median = statistics.median_high(rates.values())
    return [rank for rank, rate in rates.items() if rate < SLOW_SHARE * median]


def of_failures(facts: Sequence[Facts], measured: Mapping[int, Measured]) -> Iterable[Finding]:
    """Ranks that could not finish their measurements, those that only waited for them left out."""
    by_reason: dict[str, list[Facts]] = {}
    for each in facts:
        if reason := measured[each.rank].failed:
            by_reason.setdefault(reason, []).append(each)
    for reason, there in by_reason.items():
        yield found(
            Kind.FAULT, reason, there, None,
            "Look at the network between these nodes and the others: routes, firewall, and the "
            "interfaces that GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME name",
        )  # fmt: skip


def all_of(facts: Sequence[Facts], measured: Mapping[int, Measured]) -> list[Finding]:
    """Everything that follows from measurements."""
    return [
        *of_failures(facts, measured),
        *of_clocks(facts, measured),
        *of_folder(facts, measured),
        *of_sources(facts, measured),
        *of_bandwidth(facts, measured),
    ]
