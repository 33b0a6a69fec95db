"""The page of a selection benchmark, from its JSON.

``python scripts/selection_table.py docs/results/selection.json`` writes ``selection.md`` beside
it.  ``scripts/selection_results.sh`` measures first.
"""

from __future__ import annotations

from typing import Any

from headrace.benchmarks.page import Target, line, write_page
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
        "# Selection benchmark",
        "",
        "Rendered from [selection.json](selection.json); protocol, contestants and figures are in "
        f"[benchmarks](../benchmarks.md#selection). Medians of {result['rounds']} interleaved "
        "rounds, with the lowest and the highest.",
        "",
        *target_table(figures),
        "",
        "| figure | |",
        "|:--|--:|",
        *(f"| `{name}` | {number(value)} |" for name, value in figures.items()),
        "",
    ]
    for group in dict.fromkeys(row["group"] for row in result["rows"]):
        rows = [row for row in result["rows"] if row["group"] == group]
        lines += [f"## {group}", "", line(["", "seconds", *_FACTS])]
        lines.append("|:--|" + "--:|" * (1 + len(_FACTS)))
        for row in rows:
            spread = f"{number(row['median'])} [{number(row['lowest'])} {number(row['highest'])}]"
            facts = [number(row.get(fact)) for fact in _FACTS.values()]
            lines.append(line([_cell(row["name"]), spread, *facts]))
        lines.append("")
    absent = result.get("tables", {}).get("absent", [])
    if absent:
        lines += ["## Absent", "", "| contestant | vectors | why |", "|:--|:--|:--|"]
        lines += [
            line([_cell(one[name]) for name in ("contestant", "vectors", "reason")])
            for one in absent
        ]
        lines.append("")
    environment = result["environment"]
    lines += [
        "## Where and how",
        "",
        *(f"- {name}: {text}" for name, text in result["setting"].items()),
        f"- command: `{result['command']}`, {result['date']}",
        "- machine and versions: "
        + ", ".join(f"{name} {value}" for name, value in environment.items()),
    ]
    return "\n".join(lines) + "\n"


def target_table(figures: dict[str, float]) -> list[str]:
    """Return the lines of the table of targets."""
    lines = ["| | measured | target | |", "|:--|--:|--:|:--|"]
    for target in TARGETS:
        value = figures.get(target.figure)
        lines.append(line([target.what, number(value), target.bound, target.verdict(value)]))
    return lines


def number(value: float | None) -> str:
    """Return a number with about three digits; shares near 1 with six."""
    if value is not None and 0.99 < value < 1.01 and value != 1:
        return f"{value:.6f}"
    return plain_number(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    write_page(__doc__, render, target_table)
