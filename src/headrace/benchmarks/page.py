"""What the pages of benchmarks share: targets, tables, the facts at the end, the file itself."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from headrace.counts import counted

MISSED, UNMEASURED = "**missed**", "not measured"
Row = Mapping[str, Any]
"""A row of a result, as :class:`headrace.benchmarks.frame.Row` is written."""
Show = Callable[[float | None], str]
"""Writes a number; nothing for None."""


class Target(NamedTuple):
    """What a figure has to be: ``at_least`` or ``below`` a number."""

    figure: str
    what: str
    at_least: float | None = None
    below: float | None = None
    digits: int = 1
    """Behind the point, where the table of targets shows its figures so."""

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


def number(value: float | None) -> str:
    """A number with about three digits; nothing for None."""
    if value is None:
        return ""
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def spread(row: Row | None, show: Show = number) -> str:
    """Median, lowest and highest of a row; nothing for None."""
    if row is None:
        return ""
    return f"{show(row['median'])} [{show(row['lowest'])} {show(row['highest'])}]"


def cell(value: Any) -> str:
    """A number, or text in one line with nothing in it that Markdown would take for its own."""
    if isinstance(value, int | float):
        return number(value)
    text = " ".join(str(value).split())
    for letter in "\\|<>*_`[]":
        text = text.replace(letter, f"\\{letter}")
    return text


def line(cells: Sequence[str]) -> str:
    """A row of a Markdown table; a bar within a cell is escaped already."""
    return "| " + " | ".join(cells) + " |"


def head(titles: Sequence[str], words: Collection[str] | None = None) -> list[str]:
    """The two lines above the rows of a table.

    Args:
        titles: of the columns.
        words: those of them whose columns hold words, which begin at the left; default: the first.
    """
    left = titles[:1] if words is None else words
    return [line(titles), "|" + "".join(":--|" if one in left else "--:|" for one in titles)]


def opening(name: str, contents: str, rounds: int) -> list[str]:
    """The title of a page, and where its numbers are from.

    Args:
        name: of the benchmark, as its files are named.
        contents: what the page about all benchmarks has of this one.
        rounds: of which the numbers are medians.
    """
    return [
        f"# {name.capitalize()} benchmark",
        "",
        f"Rendered from [{name}.json]({name}.json); {contents} are in "
        f"[benchmarks](../benchmarks.md#{name}). Medians of "
        f"{counted(rounds, 'interleaved round')}, with the lowest and the highest.",
    ]


def target_table(
    targets: Sequence[Target], figures: Mapping[str, float], show: Show | None = None
) -> list[str]:
    """The table of targets.

    Args:
        targets: one row each.
        figures: those that were measured, by name.
        show: writes a figure; default: with the digits of its target.
    """
    lines = ["| | measured | target | |", "|:--|--:|--:|:--|"]
    for target in targets:
        value = figures.get(target.figure)
        if show is not None:
            shown = show(value)
        else:
            shown = "" if value is None else f"{value:,.{target.digits}f}"
        lines.append(line([target.what, shown, target.bound, target.verdict(value)]))
    return lines


def missed_lines(targets: Sequence[Target], figures: Mapping[str, float]) -> list[str]:
    """Say in a sentence which targets are missed, and which could not be measured."""
    missed = [
        one.what for one in targets if one.figure in figures and not one.met(figures[one.figure])
    ]
    unmeasured = [one.what for one in targets if one.figure not in figures]
    lines = [
        f"Missed: {'; '.join(missed)}." if missed else "No target that was measured is missed."
    ]
    if unmeasured:
        lines.append(f"Not measured: {'; '.join(unmeasured)}.")
    return lines


def figure_table(figures: Mapping[str, float], show: Show = number) -> list[str]:
    """The table of all figures, by name."""
    rows = (line([f"`{name}`", show(value)]) for name, value in figures.items())
    return ["| figure | |", "|:--|--:|", *rows]


def by_group(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of a result by the title of the table that they stand in, in their order."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["group"], []).append(row)
    return groups


def row_table(
    rows: Sequence[Row], unit: str, facts: Mapping[str, str], show: Show = number
) -> list[str]:
    """A table of contestants: name, spread, facts.

    Args:
        rows: one a contestant.
        unit: title of the column of the spreads.
        facts: names of numbers of the rows, by the title of their column; rows may lack some.
        show: writes all these numbers.
    """
    lines = head(["", unit, *facts])
    for row in rows:
        cells = [show(row.get(fact)) for fact in facts.values()]
        lines.append(line([row["name"], spread(row, show), *cells]))
    return lines


def where_and_how(result: Mapping[str, Any]) -> list[str]:
    """The end of a page: setting, command, date, machine and versions."""
    machine = ", ".join(f"{name} {value}" for name, value in result["environment"].items())
    return [
        "## Where and how",
        "",
        *(f"- {name}: {text}" for name, text in result["setting"].items()),
        f"- command: `{result['command']}`, {result['date']}",
        f"- machine and versions: {machine}",
    ]


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
