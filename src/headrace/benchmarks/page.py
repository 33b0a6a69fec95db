"""What the pages of benchmarks share: targets, lines of tables, the file beside the JSON."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

MISSED, UNMEASURED = "**missed**", "not measured"


class Target(NamedTuple):
    """What a figure has to be: ``at_least`` or ``below`` a number."""

    figure: str
    what: str
    at_least: float | None = None
    below: float | None = None
    digits: int = 1
    """Behind the point, where a page shows all its figures so."""

    def met(self, value: float) -> bool:
        """Whether the figure is what it has to be."""
        above = self.at_least is None or value >= self.at_least
        return above and (self.below is None or value < self.below)

    def verdict(self, value: float | None) -> str:
        """``met``, or what else is to be said of the figure; None: it was not measured."""
        if value is None:
            return UNMEASURED
        return "met" if self.met(value) else MISSED

    @property
    def bound(self) -> str:
        """The target in words."""
        return f"≥ {self.at_least:g}" if self.at_least is not None else f"< {self.below:g}"


def line(cells: Sequence[str]) -> str:
    """A row of a Markdown table; a bar within a cell is escaped already."""
    return "| " + " | ".join(cells) + " |"


def number(value: float | None) -> str:
    """A number with about three digits; nothing for None."""
    if value is None:
        return ""
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def write_page(
    description: str | None,
    render: Callable[[dict[str, Any]], str],
    summary: Callable[[dict[str, float]], list[str]],
) -> None:
    """Render the result that the command line names, beside it, and print lines of its figures.

    Args:
        description: of the script.
        render: makes the page from the result.
        summary: makes the lines from the figures.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("result", type=Path, help="JSON of the benchmark")
    path = parser.parse_args().result
    result = json.loads(path.read_text(encoding="utf-8"))
    path.with_suffix(".md").write_text(render(result), encoding="utf-8")
    print("\n".join(summary(result["figures"])))
