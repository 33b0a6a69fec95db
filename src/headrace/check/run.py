"""The check as a whole: the ranks meet, look, measure together, and rank 0 concludes."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from headrace.check import bandwidth, measured
from headrace.check.facts import Facts
from headrace.check.finding import (
    Finding,
    Kind,
    exit_code,
    faulty_nodes,
    first_ranks,
    found,
    missing,
)
from headrace.check.folders import probe_folder, try_folder, try_sources
from headrace.check.look import look
from headrace.check.machine import of_devices, of_machines, of_networks
from headrace.check.measured import NOT_WRITABLE, OTHER_FOLDER, Measured
from headrace.check.meeting import Meeting, NotMetError, clock_of_ranks, expected_hosts, tell_clock
from headrace.config import RunConfig
from headrace.errors import ConfigError, HeadraceError
from headrace.slurm.ranks import adopt_step
from headrace.training.distributed import free_port
from headrace.training.precision import choose_precision

SILENT = "it arrived, and did not finish: it ended, or hangs"


@dataclass(frozen=True)
class Request:
    """What is to be checked."""

    folder: Path
    """Run folder; what is made in it is removed again."""
    sources: tuple[str, ...] = ()
    """Of shards."""
    config: RunConfig | None = None
    """Says which precision is wanted; without one: ``auto``."""
    seconds: float = 180.0
    """How long others are waited for, at each step."""


@dataclass(frozen=True)
class Report:
    """What rank 0 concludes."""

    size: int
    """Ranks that were started."""
    facts: tuple[Facts, ...]
    """Of those that arrived, by rank."""
    measured: Mapping[int, Measured]
    findings: tuple[Finding, ...]
    precision: str
    """What ``auto`` comes to, and why."""
    faulty: tuple[str, ...]
    """Nodes that a job does better without, as SLURM calls them."""
    code: int
    """0, 1 or 2."""


@dataclass(frozen=True)
class Outcome:
    """The end of the check, on one rank."""

    code: int
    report: Report | None
    """On rank 0."""
    hangs: bool
    """Whether a collective is still under way: the process can only be ended from within."""


@dataclass(frozen=True)
class _Plan:
    """What rank 0 says when all have arrived, or cannot."""

    nodes: list[list[int]]
    """Ranks of each node; empty: nothing is to be measured."""
    probe: str | None
    content: str


def check(request: Request, *, now: Callable[[], float] = time.time) -> Outcome:
    """Check this job, as one of its ranks; a launcher has set their variables.

    Args:
        request: the same on all ranks.
        now: the clock of this rank.

    Raises:
        NotMetError: on a rank that rank 0 does not answer.
    """
    adopt_step(os.environ)
    rank, size = (int(os.environ.get(name, value)) for name, value in _ALONE)
    address = os.environ.get("MASTER_ADDR", "127.0.0.1")
    port = int(os.environ.get("MASTER_PORT") or free_port())
    facts = look(rank, int(os.environ.get("LOCAL_RANK", "0")), address)
    meeting = Meeting(rank, size, address, port, request.seconds)
    meeting.store.set(f"facts/{rank}", facts.to_json())
    if rank == 0:
        return _lead(meeting, request, now)
    plan = _Plan(**meeting.hear("plan", 2 * request.seconds))
    mine = _try_node(request, plan, facts, meeting, now)
    meeting.say(f"tried/{rank}", True)
    hangs = False
    if plan.nodes and meeting.hear("group", 4 * request.seconds):
        mine, hangs = _measure_links(meeting, request, plan, facts, mine)
    meeting.say(f"results/{rank}", asdict(mine))
    code = int(meeting.hear("end", 4 * request.seconds))
    meeting.leave()
    return Outcome(code, None, hangs)


_ALONE = (("RANK", "0"), ("WORLD_SIZE", "1"))


def _lead(meeting: Meeting, request: Request, now: Callable[[], float]) -> Outcome:
    """Rank 0: wait for all, measure with them, and conclude."""
    arrived = meeting.gather("facts", range(meeting.size), request.seconds)
    facts = tuple(Facts.from_data(data) for data in arrived.values())
    findings = of_machines(facts)
    hosts = expected_hosts(os.environ, meeting.size)
    results: dict[int, Measured] = {each.rank: Measured() for each in facts}
    hangs = False
    absent = [rank for rank in range(meeting.size) if rank not in arrived]
    if absent:
        findings.insert(0, missing(absent, [hosts[rank] for rank in absent], request.seconds))
        meeting.say("plan", asdict(_Plan([], None, "")))
    else:
        with ExitStack() as stack:
            probe, content = None, ""
            try:
                path, content = stack.enter_context(probe_folder(request.folder))
                probe = str(path.absolute())
            except OSError as error:
                why = f"{request.folder}: {error.strerror or error}"
                findings.append(found(Kind.MISTAKE, NOT_WRITABLE, facts[:1], why, OTHER_FOLDER))
            results, hangs = _measure(meeting, request, facts, probe, content, now)
        findings += _of_silent(facts, results)
    precision, refused = _precision(request, facts)
    findings += refused
    code = exit_code(findings)
    meeting.say("end", code)
    silent = {rank for finding in findings for rank in finding.ranks if _is_silence(finding)}
    meeting.leave([each.rank for each in facts if each.rank not in silent])
    faulty = faulty_nodes(findings, hosts)
    report = Report(meeting.size, facts, results, tuple(findings), precision, faulty, code)
    return Outcome(code, report, hangs)


def _measure(
    meeting: Meeting,
    request: Request,
    facts: Sequence[Facts],
    probe: str | None,
    content: str,
    now: Callable[[], float],
) -> tuple[dict[int, Measured], bool]:
    """All that the ranks do together; what rank 0 knows of each, and whether it hangs itself."""
    firsts = first_ranks(facts)
    nodes = [[each.rank for each in facts if each.host == first.host] for first in firsts]
    plan = _Plan(nodes, probe, content)
    meeting.say("plan", asdict(plan))
    others = [each.rank for each in firsts if each.rank]
    skews = clock_of_ranks(meeting, others, now)
    blocked = [*of_devices(facts), *of_networks(facts)]
    fit = all(finding.kind is Kind.WARNING for finding in blocked) and len(skews) == len(others)
    mine, hangs = _try_node(request, plan, facts[0], meeting, now), False
    if fit:
        # a node that looks for the file of rank 0 in vain comes when its time for it is over
        tried = meeting.gather("tried", range(1, meeting.size), 1.5 * request.seconds)
        fit = len(tried) == meeting.size - 1
    together = fit and len(facts) > 1  # nobody is to wait for one who is gone
    meeting.say("group", together)
    if together:
        mine, hangs = _measure_links(meeting, request, plan, facts[0], mine)
    heard = meeting.gather("results", range(1, meeting.size), request.seconds)
    results = {0: mine, **{rank: measured.from_data(data) for rank, data in heard.items()}}
    for rank, skew in skews.items():
        if rank in results:
            results[rank].skew = skew
    return results, hangs


def _try_node(
    request: Request, plan: _Plan, facts: Facts, meeting: Meeting, now: Callable[[], float]
) -> Measured:
    """What the first rank of each node looks at: clock, run folder, sources."""
    mine = Measured()
    firsts = [ranks[0] for ranks in plan.nodes]
    if facts.rank in firsts:
        node = firsts.index(facts.rank)
        if node:
            with suppress(NotMetError):  # rank 0 says what it did not hear
                tell_clock(meeting, now)
        if plan.probe is not None:
            mine.folder = try_folder(
                Path(plan.probe), plan.content, node, request.seconds, alone=node == 0
            )
        error = try_sources(list(request.sources), node)
        mine.sources = [asdict(problem) for problem in error.problems] if error else []
    return mine


def _measure_links(
    meeting: Meeting, request: Request, plan: _Plan, facts: Facts, mine: Measured
) -> tuple[Measured, bool]:
    """Add the rates between the ranks, all of which begin now; and whether this one hangs."""
    device = torch.device("cpu" if facts.device.kind == "cpu" else f"cuda:{facts.device.index}")

    def work() -> None:
        try:
            # the other client is in use by the thread that waits
            store = meeting.another_client()
            rates = bandwidth.measure(store, facts.rank, plan.nodes, device, request.seconds)
        except (RuntimeError, HeadraceError) as error:
            mine.failed = f"ranks do not reach each other: {str(error).splitlines()[0]}"
            return
        mine.all_ranks = {str(size): rate for size, rate in rates.all_ranks.items()}
        mine.node, mine.links = rates.node, rates.links

    thread = threading.Thread(target=work, name="headrace-bandwidth", daemon=True)
    thread.start()
    thread.join(1.5 * request.seconds)
    if thread.is_alive():
        what = f"a collective is not finished after {1.5 * request.seconds:g} seconds"
        return Measured(folder=mine.folder, sources=mine.sources, failed=what), True
    return mine, False


def _of_silent(facts: Sequence[Facts], results: dict[int, Measured]) -> list[Finding]:
    """What follows from the measurements; where ranks were silent, the others waited for them."""
    silent = [each for each in facts if each.rank not in results]
    for each in silent:
        results[each.rank] = Measured()
    if silent:
        for result in results.values():
            result.failed = None
    heard = measured.all_of(facts, results)
    if not silent:
        return heard
    remedy = "Look at its output, and at the node: memory, devices, network"
    return [found(Kind.FAULT, SILENT, silent, None, remedy), *heard]


def _is_silence(finding: Finding) -> bool:
    return finding.problem.what == SILENT


def _precision(request: Request, facts: Sequence[Facts]) -> tuple[str, list[Finding]]:
    """What ``auto`` comes to with the GPUs that there are; and what refuses the config's own."""
    capabilities = [each.device.capability for each in facts if each.device.capability]
    lowest = min(capabilities, default=None)
    device = torch.device("cuda" if lowest else "cpu")
    section = {"zero_optimization": {"stage": 1}}  # fp16 wants one
    chosen = choose_precision("auto", section, device, lowest)
    said = f"{chosen.name} ({chosen.reason.removeprefix('auto: ')})"
    if request.config is None:
        return said, []
    mode, section = request.config.headrace.precision, dict(request.config.deepspeed)
    try:
        choose_precision(mode, section, device, lowest)
    except ConfigError as error:
        return said, [Finding(Kind.MISTAKE, problem, ()) for problem in error.problems]
    return said, []
