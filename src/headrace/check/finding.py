"""What is wrong, where, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from headrace.check.facts import Facts
from headrace.errors import EXIT_DONE, EXIT_FAULT, EXIT_USER_ERROR, Problem

_NAMED_HOSTS = 8
"""More are counted."""


class Kind(Enum):
    """How bad it is."""

    MISTAKE = "mistake"
    """A job would fail, and again at every start: the user can mend it."""
    FAULT = "fault"
    """A node or the network is not as it should be; on other nodes the job may do well."""
    WARNING = "warning"
    """The job would run: more slowly than it could, or with a risk."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, at some ranks."""

    kind: Kind
    problem: Problem
    """Its ``where`` names hosts and ranks."""
    ranks: tuple[int, ...]
    """Empty: it is not about single ranks."""

    def __str__(self) -> str:
        return f"{self.kind.value}: {self.problem}"


def found(
    kind: Kind, what: str, at: Sequence[Facts], value: str | None = None, remedy: str | None = None
) -> Finding:
    """A finding about some ranks."""
    ranks = tuple(each.rank for each in at)
    return Finding(kind, Problem(what, places(at), value, remedy), ranks)


def missing(ranks: Sequence[int], hosts: Sequence[str | None], seconds: float) -> Finding:
    """Ranks that did not arrive.

    Args:
        ranks: their numbers.
        hosts: where each should be; None: not known.
        seconds: how long they were waited for.
    """
    known: dict[str, list[int]] = {}
    for rank, host in zip(ranks, hosts, strict=True):
        known.setdefault(host or "a node that is not known", []).append(rank)
    where = _listed([f"{host} ({numbered(there)})" for host, there in known.items()])
    names = ",".join(host for host in known if host in hosts)
    remedy = "Look whether the program starts there, and whether it reaches rank 0"
    if names:
        remedy += f"; leave the node out with --sbatch=--exclude={names}"
    what = f"not there after {seconds:g} seconds"
    return Finding(Kind.FAULT, Problem(what, where, None, remedy), tuple(ranks))


def places(at: Sequence[Facts]) -> str:
    """Hosts with their ranks: ``n1 (ranks 0-3), n2 (rank 4)``."""
    by_host: dict[str, list[int]] = {}
    for each in at:
        by_host.setdefault(each.host, []).append(each.rank)
    return _listed([f"{host} ({numbered(ranks)})" for host, ranks in by_host.items()])


def numbered(ranks: Iterable[int]) -> str:
    """``rank 3``, ``ranks 0-3, 7``."""
    runs: list[list[int]] = []
    for rank in sorted(ranks):
        if runs and rank == runs[-1][-1] + 1:
            runs[-1][1:] = [rank]
        else:
            runs.append([rank])
    text = ", ".join("-".join(map(str, run)) for run in runs)
    return f"rank {text}" if len(runs) == len(runs[0]) == 1 else f"ranks {text}"


def _listed(hosts: Sequence[str]) -> str:
    more = len(hosts) - _NAMED_HOSTS
    if more <= 0:
        return ", ".join(hosts)
    return f"{', '.join(hosts[:_NAMED_HOSTS])} and {more} more"


def kind_where(at: Sequence[Facts], everybody: Sequence[Facts]) -> Kind:
    """A mistake if it is so on all nodes; the fault of some nodes otherwise."""
    everywhere = {each.host for each in at} == {each.host for each in everybody}
    return Kind.MISTAKE if everywhere else Kind.FAULT


def first_ranks(facts: Sequence[Facts]) -> list[Facts]:
    """The first rank of each node, which speaks for it."""
    firsts: dict[str, Facts] = {}
    for each in facts:
        firsts.setdefault(each.host, each)
    return list(firsts.values())


def faulty_nodes(findings: Iterable[Finding], hosts: Sequence[str | None]) -> tuple[str, ...]:
    """Return the nodes that faults name.

    None if they are more than half of all: what is wrong may be with the others, as when rank 0 is
    the one that nobody reaches.

    Args:
        findings: all of them.
        hosts: node of each rank, as SLURM calls it; None: not known.
    """
    ranks = {rank for each in findings if each.kind is Kind.FAULT for rank in each.ranks}
    named = {host for rank in ranks if (host := hosts[rank]) is not None}
    return tuple(sorted(named)) if 2 * len(named) <= len(set(hosts)) else ()


def exit_code(findings: Iterable[Finding]) -> int:
    """2 if the user can mend something, 1 if nodes are bad, 0 if the job may begin."""
    kinds = {finding.kind for finding in findings}
    if Kind.MISTAKE in kinds:
        return EXIT_USER_ERROR
    return EXIT_FAULT if Kind.FAULT in kinds else EXIT_DONE
