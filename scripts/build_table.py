"""The page of a build benchmark, from its JSON.

``python scripts/build_table.py docs/results/build.json`` writes ``build.md`` beside it.
``scripts/build_results.sh`` measures first.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from headrace.benchmarks.page import (
    Row,
    Target,
    by_group,
    cell,
    figure_table,
    head,
    line,
    missed_lines,
    opening,
    row_table,
    target_table,
    where_and_how,
    write_page,
)

TARGETS = (
    Target("speed_vs_datatrove", "documents/s a core against datatrove, times", at_least=5),
    Target(
        "speed_vs_datatrove_tuned",
        "documents/s a core against datatrove with a white-space tokenizer, times",
        at_least=1.5,
        digits=2,
    ),
    Target("lost_documents", "documents lost", below=1, digits=0),
)
_FACTS = {
    "a build of few documents, s": "few_s", "of all, s": "all_s", "peak, MiB": "peak_mib",
}  # fmt: skip
_NOISY = 1.5
"""Times by which the rounds of a row may differ before the page says so."""
_TITLES = {
    "steps": "Where the time goes",
    "listed pairs": "Pairs of known similarity",
    "planted copies": "Planted copies",
    "kill -9": "Killed while it reads",
    "broken documents": "One document in a hundred is broken",
    "absent": "Absent",
}


def render(result: dict[str, Any]) -> str:
    """Return the page."""
    figures = result["figures"]
    contents = "protocol, contestants, figures, and why a target is missed"
    lines = [
        *opening("build", contents, result["rounds"]),
        "",
        *target_table(TARGETS, figures),
        "",
        *missed_lines(TARGETS, figures),
        "",
        *figure_table(figures),
        "",
    ]
    for group, rows in by_group(result["rows"]).items():
        lines += [f"## {group[0].upper()}{group[1:]}", ""]
        lines += [*row_table(rows, rows[0]["unit"], _FACTS), "", *_noise(rows)]
    for table, title in _TITLES.items():
        records = result["tables"].get(table, [])
        if not records:
            continue
        names = list(records[0])
        words = [name for name in names if isinstance(records[0][name], str)]
        lines += [f"## {title}", "", *head(names, words)]
        lines += [line([cell(record[name]) for name in names]) for record in records]
        lines.append("")
    return "\n".join([*lines, *where_and_how(result)]) + "\n"


def _noise(rows: Sequence[Row]) -> list[str]:
    """A line where the rounds of a row differ too much for their median to say anything."""
    if all(0 < row["highest"] <= _NOISY * row["lowest"] for row in rows):
        return []
    return ["The rounds differ too much for their medians: other work ran on the machine.", ""]


if __name__ == "__main__":
    write_page(__doc__, render, partial(missed_lines, TARGETS))
