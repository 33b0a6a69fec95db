"""A table of text cells, as Markdown and as plain text for the console."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """A table of text cells: columns of names are flush left, columns of numbers flush right."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    names: int = 1
    """How many leading columns hold names."""
    totals: int = 0
    """How many rows at the end sum up the others."""

    def markdown(self) -> str:
        """A GitHub-flavoured Markdown table, without the title."""
        rules = [":---"] * self.names + ["---:"] * (len(self.columns) - self.names)
        lines = [self.columns, rules, *self.rows]
        cells = [[markdown_cell(cell) for cell in line] for line in lines]
        return "".join(f"| {' | '.join(line)} |\n" for line in cells)

    def text(self) -> str:
        """The table with its title in aligned columns; wide (CJK) characters count twice."""
        lines = [tuple(map(_one_line, line)) for line in (self.columns, *self.rows)]
        widths = [max(map(_width, column)) for column in zip(*lines, strict=True)]
        written = []
        for line in lines:
            cells = []
            for number, (cell, width) in enumerate(zip(line, widths, strict=True)):
                space = " " * (width - _width(cell))
                cells.append(cell + space if number < self.names else space + cell)
            written.append("  ".join(cells).rstrip())
        rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
        written.insert(1, rule)
        if self.totals:
            written.insert(len(written) - self.totals, rule)
        return "\n".join([self.title, *written]) + "\n"


def _one_line(cell: str) -> str:
    """``cell`` without control characters: a name from a file must not steer the terminal."""
    return "".join(
        " " if unicodedata.category(letter) in {"Cc", "Cs"} else letter for letter in cell
    )


def markdown_cell(cell: str) -> str:
    """``cell`` with everything escaped that Markdown, or the HTML inside it, would act on."""
    escaped = "".join("\\" + letter if letter in r"\`*_[]|~$!" else letter for letter in cell)
    return _one_line(escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))


def _width(text: str) -> int:
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    marks = sum(unicodedata.category(letter) in ("Mn", "Me", "Cf") for letter in text)
    return len(text) + wide - marks
