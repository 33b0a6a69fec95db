"""The page of a training benchmark, from its JSON.

``python scripts/training_table.py docs/results/training.json`` writes ``training.md`` beside it.
``scripts/training_results.sh`` measures first.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from headrace.benchmarks.page import (
    Target,
    by_group,
    figure_table,
    number,
    opening,
    row_table,
    target_table,
    where_and_how,
    write_page,
)

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
        *opening("training", "contestants and figures", result["rounds"]),
        "",
        *target_table(TARGETS, figures, number),
        "",
        *figure_table(figures),
        "",
    ]
    for group, rows in by_group(result["rows"]).items():
        lines += [f"## {group.capitalize()}", "", *row_table(rows, "ms a step", _FACTS), ""]
    return "\n".join([*lines, *where_and_how(result)]) + "\n"


if __name__ == "__main__":
    write_page(__doc__, render, partial(target_table, TARGETS, show=number))
