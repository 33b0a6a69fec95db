"""The page of a training benchmark, from its JSON.

``python scripts/training_table.py docs/results/training.json`` writes ``training.md`` beside it.
``scripts/training_results.sh`` measures first.
"""

from __future__ import annotations

from typing import Any

from headrace.benchmarks.page import Target, line, number, write_page

_SAME = 1e-6
"""Losses of two loops that differ by less are the same but for rounding."""
TARGETS = tuple(
    target._replace(figure=f"{target.figure}{suffix}", what=f"{target.what}{name}")
    for suffix, name in (("", ", named entities"), ("_masked_lm", ", masked-language modelling"))
    for target in (
        Target("overhead_vs_bare_loop", "time over the bare loop's, share", below=0.03),
        Target(
            "max_loss_difference", "largest difference of a loss to the bare loop's", below=_SAME
        ),
        Target(
            "tokens_vs_trainer", "real tokens a second against the Trainer, times", at_least=1.5
        ),
        Target("data_wait_share", "wait for data, share of the time", below=0.01),
    )
)
_FACTS = {
    "CPU ms": "cpu_ms_a_step", "real tokens a second": "tokens_per_s", "padding": "padding_share",
}  # fmt: skip


def render(result: dict[str, Any]) -> str:
    """Return the page."""
    figures = result["figures"]
    lines = [
        "# Training benchmark",
        "",
        "Rendered from [training.json](training.json); contestants and figures are in "
        f"[benchmarks](../benchmarks.md#training). Medians of {result['rounds']} interleaved "
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
        lines += [f"## {group.capitalize()}", "", line(["", "ms a step", *_FACTS])]
        lines.append("|:--|" + "--:|" * (1 + len(_FACTS)))
        for row in result["rows"]:
            if row["group"] == group:
                spread = [number(row[name]) for name in ("median", "lowest", "highest")]
                facts = [number(row[fact]) for fact in _FACTS.values()]
                lines.append(line([row["name"], f"{spread[0]} [{spread[1]} {spread[2]}]", *facts]))
        lines.append("")
    lines += [
        "## Where and how",
        "",
        *(f"- {name}: {text}" for name, text in result["setting"].items()),
        f"- command: `{result['command']}`, {result['date']}",
        "- machine and versions: "
        + ", ".join(f"{name} {value}" for name, value in result["environment"].items()),
    ]
    return "\n".join(lines) + "\n"


def target_table(figures: dict[str, float]) -> list[str]:
    """Return the lines of the table of targets."""
    lines = ["| | measured | target | |", "|:--|--:|--:|:--|"]
    for target in TARGETS:
        value = figures.get(target.figure)
        lines.append(line([target.what, number(value), target.bound, target.verdict(value)]))
    return lines


if __name__ == "__main__":
    write_page(__doc__, render, target_table)
