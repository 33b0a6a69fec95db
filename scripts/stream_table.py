"""The page of a stream benchmark, from its JSON.

``python scripts/stream_table.py docs/results/stream.json`` writes ``stream.md`` beside it.
``scripts/stream_results.sh`` measures first.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple


class Target(NamedTuple):
    """What a figure has to be."""

    figure: str
    what: str
    at_least: float | None = None
    below: float | None = None
    digits: int = 1

    def met(self, value: float) -> bool:
        """Whether the figure is what it has to be."""
        return value >= self.at_least if self.at_least is not None else value < self.below

    @property
    def bound(self) -> str:
        """The target in words."""
        return f"≥ {self.at_least:g}" if self.at_least is not None else f"< {self.below:g}"


TARGETS = (
    Target("raw_vs_litdata", "raw samples/s against litData, times", at_least=1, digits=2),
    Target("raw_vs_webdataset", "raw samples/s against webdataset, times", at_least=10),
    Target("encoded_vs_online", "samples/s from sidecars against tokenising, times", at_least=100),
    Target("first_batch_ms", "first batch of a fresh process after import, ms", below=50),
    Target("resume_ms_0.01", "resume at 1 % of an epoch, ms", below=50),
    Target("resume_ms_0.5", "resume at 50 % of an epoch, ms", below=50),
    Target("resume_ms_0.99", "resume at 99 % of an epoch, ms", below=50),
    Target("resume_lost_or_repeated", "samples lost or repeated by a resume", below=1, digits=0),
    Target("state_bytes", "state, bytes of JSON", below=1024, digits=0),
    Target("memory_growth_mib", "growth of memory from 10 % to 100 % of an epoch, MiB", below=16),
)
OURS = "headrace"
MISSED, UNMEASURED = "**missed**", "not measured"


def render(result: dict[str, Any]) -> str:
    """Return the page."""
    environment = result["environment"]
    lines = [
        "# Stream benchmark",
        "",
        "Rendered from [stream.json](stream.json); protocol, contestants and figures are in "
        "[benchmarks](../benchmarks.md#stream). Medians of "
        f"{result['rounds']} interleaved {_plural(result['rounds'], 'round')}, with the lowest and "
        "the highest.",
        "",
        *target_table(result["figures"]),
        "",
        *missed_lines(result["figures"]),
        "",
        "## Where another is ahead",
        "",
        *ahead(result),
        "",
        "## Raw samples",
        "",
        *_raw(result),
        "## Over HTTP, with an empty cache",
        "",
        *_grouped(result, "HTTP", "samples/s", {"rounds": "rounds_done", "first batch, ms":
            "first_batch_ms", "requests": "requests", "of which failed": "failed_requests"}),
        "## Token ids",
        "",
        *_grouped(result, "token ids", "samples/s", {"tokens/s": "tokens_per_s",
            "CPU µs a sample": "cpu_us_a_sample", "tokens a sample": "tokens_a_sample"}),
        "## Resume in a fresh process",
        "",
        *_grouped(result, "resume", "ms", {"state, bytes": "state_bytes",
            "samples lost": "samples_lost", "repeated": "samples_repeated"}),
        *_tables(result),
        "## Where and how",
        "",
        *(f"- {name}: {text}" for name, text in result["setting"].items()),
        f"- command: `{result['command']}`, {result['date']}",
        "- machine and versions: "
        + ", ".join(f"{name} {value}" for name, value in environment.items()),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def target_table(figures: dict[str, float]) -> list[str]:
    """Return the lines of the table of targets."""
    lines = ["| | measured | target | |", "|:--|--:|--:|:--|"]
    for target in TARGETS:
        value = figures.get(target.figure)
        if value is None:
            shown, verdict = "", UNMEASURED
        else:
            shown = f"{value:,.{target.digits}f}"
            verdict = "met" if target.met(value) else MISSED
        lines.append(f"| {target.what} | {shown} | {target.bound} | {verdict} |")
    return lines


def missed_lines(figures: dict[str, float]) -> list[str]:
    """Say in a sentence which targets are missed, and which could not be measured."""
    missed = [t.what for t in TARGETS if t.figure in figures and not t.met(figures[t.figure])]
    unmeasured = [t.what for t in TARGETS if t.figure not in figures]
    lines = [
        f"Missed: {'; '.join(missed)}." if missed else "No target that was measured is missed."
    ]
    if unmeasured:
        lines.append(f"Not measured: {'; '.join(unmeasured)}.")
    return lines


def ahead(result: dict[str, Any]) -> list[str]:
    """List every table in which the median of another contestant is better than Headrace's."""
    lines = []
    for group in _groups(result):
        rows = {row["name"]: row for row in result["rows"] if row["group"] == group}
        ours = rows.pop(OURS, None)
        if ours is None:
            continue
        for name, row in rows.items():
            slow, fast = sorted((ours["median"], row["median"]))
            wins = row["median"] == (slow if row["unit"] == "ms" else fast)
            if wins and slow != fast:
                lines.append(f"- {group}: {name}, {fast / slow:.2f} times")
    return lines or ["Nowhere."]


def _raw(result: dict[str, Any]) -> list[str]:
    """Return one row a contestant, one column a size and number of workers; then what else."""
    groups = [group for group in _groups(result) if "page cache" in group]
    rows = {(row["group"], row["name"]): row for row in result["rows"]}
    names = list(dict.fromkeys(name for group, name in rows if group in groups))
    titles = [group.replace(", page cache", "") for group in groups]
    lines = _head(["samples/s", *titles])
    for name in names:
        cells = [_spread(rows.get((group, name))) for group in groups]
        lines.append(_line([name, *cells]))
    first = groups[0]
    lines += ["", f"{titles[0]}, further:", ""]
    facts = {"MB/s": "mb_per_s", "CPU µs a sample": "cpu_us_a_sample", "imports, s": "import_s",
             "first batch, ms": "first_batch_ms", "peak, MiB": "peak_mib"}  # fmt: skip
    lines += _head(["", *facts])
    for name in names:
        row = rows.get((first, name), {})
        lines.append(_line([name, *(number(row.get(fact)) for fact in facts.values())]))
    return [*lines, ""]


def _grouped(result: dict[str, Any], word: str, unit: str, facts: dict[str, str]) -> list[str]:
    """Return a table for each group whose title has this word."""
    lines: list[str] = []
    for group in [group for group in _groups(result) if word in group]:
        lines += [f"{group[0].upper()}{group[1:]}:", "", *_head(["", unit, *facts])]
        for row in [row for row in result["rows"] if row["group"] == group]:
            cells = [number(row.get(fact)) for fact in facts.values()]
            lines.append(_line([row["name"], _spread(row), *cells]))
        lines.append("")
    return lines


def _tables(result: dict[str, Any]) -> list[str]:
    """Return what is no median of rounds, a table for each shape of its records."""
    lines: list[str] = []
    titles = {
        "preparation": "Preparation, once",
        "memory": "Memory over an epoch",
        "faults": "Faults, each run once",
        "failures": "Failures while measuring",
        "absent": "Absent",
    }
    for table, title in titles.items():
        records = result["tables"][table]
        if not records:
            continue
        lines += [f"## {title}", ""]
        for shape in dict.fromkeys(tuple(record) for record in records):
            lines += _head(list(shape), numbers=False)
            for record in records:
                if tuple(record) == shape:
                    lines.append(_line([_cell(value) for value in record.values()]))
            lines.append("")
    return lines


def _groups(result: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(row["group"] for row in result["rows"]))


def _head(titles: list[str], numbers: bool = True) -> list[str]:
    return [_line(titles), "|:--|" + ("--:|" if numbers else ":--|") * (len(titles) - 1)]


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _spread(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    shown: Callable[[float], str] = number
    return f"{shown(row['median'])} [{shown(row['lowest'])} {shown(row['highest'])}]"


def _cell(value: Any) -> str:
    """Return text with nothing in it that Markdown would take for its own."""
    if isinstance(value, int | float):
        return number(value)
    text = " ".join(str(value).split())
    for letter in "\\|<>*_`[]":
        text = text.replace(letter, f"\\{letter}")
    return text


def number(value: float | None) -> str:
    """Return a number with about three digits."""
    if value is None:
        return ""
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _plural(count: int, noun: str) -> str:
    return noun if count == 1 else f"{noun}s"


def main() -> None:
    """Render, write and say which targets are missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("result", type=Path, help="stream.json")
    path = parser.parse_args().result
    result = json.loads(path.read_text(encoding="utf-8"))
    path.with_suffix(".md").write_text(render(result), encoding="utf-8")
    print("\n".join(missed_lines(result["figures"])))


if __name__ == "__main__":
    main()
