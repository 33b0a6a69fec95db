"""The page of a selection benchmark, from its JSON.

``python scripts/selection_table.py docs/results/selection.json`` writes ``selection.md`` beside
it.  ``scripts/selection_results.sh`` measures first.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from headrace.benchmarks.page import (
    Target,
    by_group,
    cell,
    figure_table,
    head,
    line,
    opening,
    row_table,
    target_table,
    where_and_how,
    write_page,
)
from headrace.benchmarks.page import number as plain_number

TARGETS = (
    Target("speed_vs_dense", "speed against the dense matrix, times", at_least=30),
    Target("memory_beside_embeddings", "memory beside the vectors, share of these", below=0.1),
    Target("objective_vs_exact", "objective against the exact greedy's", at_least=0.9999),
    Target("gap", "gap to the bound, largest", below=1e-3),
    Target("million_rows_s", "a million rows, seconds", below=20),
)
_FACTS = {
    "memory, MiB": "peak_mib", "of the vectors": "of_the_vectors", "f against exact": "f_vs_exact",
    "gap": "gap", "near-copies": "near_copies", "coverage": "coverage", "sent, bytes": "sent_bytes",
}  # fmt: skip


def render(result: dict[str, Any]) -> str:
    """Return the page."""
    figures = result["figures"]
    lines = [
        *opening("selection", "protocol, contestants and figures", result["rounds"]),
        "",
        *target_table(TARGETS, figures, number),
        "",
        *figure_table(figures, number),
        "",
    ]
    for group, rows in by_group(result["rows"]).items():
        lines += [f"## {group}", "", *row_table(rows, "seconds", _FACTS, number), ""]
    absent = result.get("tables", {}).get("absent", [])
    if absent:
        titles = ("contestant", "vectors", "why")
        lines += ["## Absent", "", *head(titles, words=titles)]
        lines += [
            line([cell(one[name]) for name in ("contestant", "vectors", "reason")])
            for one in absent
        ]
        lines.append("")
    return "\n".join([*lines, *where_and_how(result)]) + "\n"


def number(value: float | None) -> str:
    """Return a number with about three digits; shares near 1 with six."""
    if value is not None and 0.99 < value < 1.01 and value != 1:
        return f"{value:.6f}"
    return plain_number(value)


if __name__ == "__main__":
    write_page(__doc__, render, partial(target_table, TARGETS, show=number))
