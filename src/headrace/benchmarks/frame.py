"""What all benchmarks share: interleaved rounds, medians, environment facts, the JSON file.

Figures are ratios of medians from one process on one machine.  The contestants take turns in every
round, and the order turns with the rounds, so that a machine that gets slower or busier does so
for all of them.
"""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from headrace import __version__

Measurement = TypeVar("Measurement")


@dataclass(frozen=True)
class Row:
    """One contestant in the table."""

    name: str
    unit: str
    """Unit of ``values``."""
    values: tuple[float, ...]
    """One number a round, in the order of the rounds."""
    facts: Mapping[str, float]
    """Further numbers that belong to the row, by name with unit."""
    group: str = ""
    """Title of the table that the row stands in, where a benchmark has several."""

    @property
    def median(self) -> float:
        """Median over the rounds."""
        return statistics.median(self.values)

    def to_json(self) -> dict[str, Any]:
        """Return the row as it is written."""
        return {
            **({"group": self.group} if self.group else {}),
            "name": self.name,
            "unit": self.unit,
            "median": self.median,
            "lowest": min(self.values),
            "highest": max(self.values),
            "values": list(self.values),
            **self.facts,
        }


@dataclass(frozen=True)
class Measured:
    """What a benchmark found."""

    setting: Mapping[str, str]
    """What was measured, for people: network, data, sizes."""
    rows: tuple[Row, ...]
    figures: Mapping[str, float]
    packages: tuple[str, ...]
    """Packages whose versions belong to the result."""
    tables: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    """What is no median of rounds, by the title of its table."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """What belongs to the environment and is known only after measuring, by name."""


def interleave(
    contestants: Mapping[str, Callable[[], Measurement]], rounds: int
) -> dict[str, list[Measurement]]:
    """Run every contestant once a round and return what each call gave, by contestant.

    Round r begins with contestant r, counted around.  Without contestants nothing is run.
    """
    names = list(contestants)
    found: dict[str, list[Measurement]] = {name: [] for name in names}
    with tqdm(total=rounds * len(names), unit="run", disable=None) as progress:
        for number in range(rounds):
            first = number % max(1, len(names))
            for name in names[first:] + names[:first]:
                progress.set_description(f"round {number + 1} of {rounds}, {name}")
                found[name].append(contestants[name]())
                progress.update(1)
    return found


def environment(packages: Sequence[str]) -> dict[str, str]:
    """Return the facts about machine and software that belong to a measurement.

    Raises nothing for a package that is not installed: it is named as absent.
    """
    import torch

    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    return {
        "cpu": _cpu_model(),
        "cores": str(_cores()),
        "threads": str(torch.get_num_threads()),
        "load at the start": load,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "headrace": __version__,
        **{package: _version(package) for package in packages},
    }


def render(name: str, found: Measured, facts: Mapping[str, str], rounds: int) -> str:
    """Return the table, the figures and the environment as text."""
    lines = [
        f"{name}: {rounds} interleaved rounds, medians; lowest and highest round in brackets",
        *(f"  {key}: {value}" for key, value in found.setting.items()),
        "",
    ]
    for group in dict.fromkeys(row.group for row in found.rows):
        lines += _render_group(group, [row for row in found.rows if row.group == group])
    for title, records in found.tables.items():
        if records:
            lines += [f"{title}:", *(_render_record(record) for record in records), ""]
    lines += [*(f"{key:<32}{_number(value):>12}" for key, value in found.figures.items()), ""]
    facts = {**facts, **found.facts}
    lines.append("environment: " + ", ".join(f"{key} {value}" for key, value in facts.items()))
    return "\n".join(lines)


def _render_group(title: str, rows: Sequence[Row]) -> list[str]:
    width = max(len(title), *(len(row.name) for row in rows))
    columns = list(dict.fromkeys(fact for row in rows for fact in row.facts))
    lines = [
        f"{title:<{width}}  {rows[0].unit:>27}" + "".join(f"  {column:>16}" for column in columns)
    ]
    for row in rows:
        spread = f"{row.median:.2f} [{min(row.values):.2f} {max(row.values):.2f}]"
        lines.append(
            f"{row.name:<{width}}  {spread:>27}"
            + "".join(f"  {_number(row.facts.get(column)):>16}" for column in columns)
        )
    return [*lines, ""]


def _render_record(record: Mapping[str, Any]) -> str:
    cells = (
        f"{key} {_number(value) if isinstance(value, (int, float)) else value}"
        for key, value in record.items()
    )
    return "  " + ", ".join(cells)


def report(
    name: str, command: str, found: Measured, facts: Mapping[str, str], rounds: int
) -> dict[str, Any]:
    """Return the content of the JSON file."""
    return {
        "name": name,
        "command": command,
        "date": datetime.now(tz=timezone.utc).date().isoformat(),
        "environment": {**facts, **found.facts},
        "setting": dict(found.setting),
        "rounds": rounds,
        "rows": [row.to_json() for row in found.rows],
        "figures": dict(found.figures),
        **(
            {"tables": {key: list(rows) for key, rows in found.tables.items()}}
            if found.tables
            else {}
        ),
    }


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_model() -> str:
    facts = Path("/proc/cpuinfo")
    if facts.exists():
        for line in facts.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"
