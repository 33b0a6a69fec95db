"""What rank 0 prints: a line a node, the all-reduces, and what was found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from headrace.check.facts import Facts
from headrace.check.finding import first_ranks, numbered
from headrace.check.measured import Measured
from headrace.check.run import Report
from headrace.counts import counted
from headrace.report.table import Table


def text_of(report: Report) -> str:
    """For people."""
    nodes = first_ranks(report.facts)
    columns = (
        "node", "ranks", "device", "memory free", "CPUs", "threads", "clock", "file seen",
        "own ranks GB/s", "other nodes GB/s",
    )  # fmt: skip
    rows = tuple(_row(report, each) for each in nodes)
    title = f"{counted(report.size, 'rank')} on {counted(len(nodes), 'node')}"
    lines = [Table(title, columns, rows, names=3).text()]
    versions = report.facts[0].versions
    lines.append(", ".join(f"{name} {version}" for name, version in versions.items()))
    lines.append(f"precision auto: {report.precision}")
    rates = report.measured[0].all_ranks
    if rates:
        each = ", ".join(f"{int(size) >> 20} MiB: {rate:.2f}" for size, rate in rates.items())
        lines.append(f"all-reduce of all ranks (GB/s of the bus): {each}")
    if report.findings:
        lines += ["", *map(str, report.findings)]
    else:
        lines += ["", "nothing is wrong"]
    return "\n".join(lines)


def _row(report: Report, first: Facts) -> tuple[str, ...]:
    ranks = [each for each in report.facts if each.host == first.host]
    mine = report.measured[first.rank]
    device = first.device
    folder = mine.folder
    return (
        first.host,
        numbered(each.rank for each in ranks).partition(" ")[2],
        f"{len({each.device.uuid for each in ranks})} x {device.name}" if device.name else "CPU",
        f"{min(each.device.free_bytes for each in ranks) / 1e9:.0f} GB" if device.name else "",
        str(len({cpu for each in ranks for cpu in each.threads.cpus})),
        first.threads.asked or "",
        "" if mine.skew is None else f"{mine.skew[0]:+.3f} s",
        "" if folder is None or folder.seconds is None else f"{folder.seconds:.2f} s",
        _rate(mine.node),
        _rate(mine.links),
    )


def _rate(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def data_of(report: Report) -> Mapping[str, Any]:
    """For programs."""

    def with_facts(each: Facts) -> Mapping[str, Any]:
        return {**asdict(each), "measured": asdict(report.measured.get(each.rank, Measured()))}

    return {
        "size": report.size,
        "exit_code": report.code,
        "findings": [
            {"kind": finding.kind.value, "ranks": finding.ranks, **asdict(finding.problem)}
            for finding in report.findings
        ],
        "faulty_nodes": report.faulty,
        "precision": report.precision,
        "ranks": [with_facts(each) for each in report.facts],
    }
