"""The page of a stream benchmark, from its JSON.

``python scripts/stream_table.py docs/results/stream.json`` writes ``stream.md`` beside it.
``scripts/stream_results.sh`` measures first.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from headrace.benchmarks.page import (
    Target,
    by_group,
    cell,
    head,
    line,
    missed_lines,
    number,
    opening,
    row_table,
    spread,
    target_table,
    where_and_how,
    write_page,
)

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


def render(result: dict[str, Any]) -> str:
    """Return the page."""
    figures = result["figures"]
    lines = [
        *opening("stream", "protocol, contestants and figures", result["rounds"]),
        "",
        *target_table(TARGETS, figures),
        "",
        *missed_lines(TARGETS, figures),
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
        *where_and_how(result),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def ahead(result: dict[str, Any]) -> list[str]:
    """List every table in which the median of another contestant is better than Headrace's."""
    lines = []
    for group, found in by_group(result["rows"]).items():
        rows = {row["name"]: row for row in found}
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
    groups = [group for group in by_group(result["rows"]) if "page cache" in group]
    rows = {(row["group"], row["name"]): row for row in result["rows"]}
    names = list(dict.fromkeys(name for group, name in rows if group in groups))
    titles = [group.replace(", page cache", "") for group in groups]
    lines = head(["samples/s", *titles])
    for name in names:
        cells = [spread(rows.get((group, name))) for group in groups]
        lines.append(line([name, *cells]))
    first = groups[0]
    lines += ["", f"{titles[0]}, further:", ""]
    facts = {"MB/s": "mb_per_s", "CPU µs a sample": "cpu_us_a_sample", "imports, s": "import_s",
             "first batch, ms": "first_batch_ms", "peak, MiB": "peak_mib"}  # fmt: skip
    lines += head(["", *facts])
    for name in names:
        row = rows.get((first, name), {})
        lines.append(line([name, *(number(row.get(fact)) for fact in facts.values())]))
    return [*lines, ""]


def _grouped(result: dict[str, Any], word: str, unit: str, facts: dict[str, str]) -> list[str]:
    """Return a table for each group whose title has this word."""
    lines: list[str] = []
    for group, rows in by_group(result["rows"]).items():
        if word in group:
            title = f"{group[0].upper()}{group[1:]}:"
            lines += [title, "", *row_table(rows, unit, facts), ""]
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
            lines += head(shape, words=shape)
            for record in records:
                if tuple(record) == shape:
                    lines.append(line([cell(value) for value in record.values()]))
            lines.append("")
    return lines


if __name__ == "__main__":
    write_page(__doc__, render, partial(missed_lines, TARGETS))
