"""The page of a build benchmark, from its JSON.

``python scripts/build_table.py docs/results/build.json`` writes ``build.md`` beside it.
``scripts/build_results.sh`` measures first.
"""

from __future__ import annotations

from typing import Any

from headrace.benchmarks.page import Target, line, number, write_page

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
    lines = [
        "# Build benchmark",
        "",
        "Rendered from [build.json](build.json); protocol, contestants, figures, and why a target "
        "is missed are in [benchmarks](../benchmarks.md#build). Medians of "
        f"{result['rounds']} interleaved {_plural(result['rounds'], 'round')}, with the lowest and "
        "the highest.",
        "",
        *target_table(figures),
        "",
        *missed_lines(figures),
        "",
        "| figure | |",
        "|:--|--:|",
        *(line([f"`{name}`", number(value)]) for name, value in figures.items()),
        "",
    ]
    for group in dict.fromkeys(row["group"] for row in result["rows"]):
        lines += [f"## {group[0].upper()}{group[1:]}", ""]
        rows = [row for row in result["rows"] if row["group"] == group]
        lines += _head([rows[0]["unit"], *_FACTS])
        for row in rows:
            spread = f"{number(row['median'])} [{number(row['lowest'])} {number(row['highest'])}]"
            facts = [number(row.get(fact)) for fact in _FACTS.values()]
            lines.append(line([row["name"], spread, *facts]))
        lines += ["", *_noise(rows)]
    for table, title in _TITLES.items():
        records = result["tables"].get(table, [])
        if not records:
            continue
        names = list(records[0])
        words = [name for name in names if isinstance(records[0][name], str)]
        lines += [f"## {title}", "", line(names)]
        lines.append("|" + "".join(":--|" if name in words else "--:|" for name in names))
        lines += [line([_cell(record[name]) for name in names]) for record in records]
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
        shown = "" if value is None else f"{value:,.{target.digits}f}"
        lines.append(line([target.what, shown, target.bound, target.verdict(value)]))
    return lines


def missed_lines(figures: dict[str, float]) -> list[str]:
    """Say in a sentence which targets are missed, and which could not be measured."""
    missed = [
        one.what for one in TARGETS if one.figure in figures and not one.met(figures[one.figure])
    ]
    unmeasured = [one.what for one in TARGETS if one.figure not in figures]
    lines = [
        f"Missed: {'; '.join(missed)}." if missed else "No target that was measured is missed."
    ]
    if unmeasured:
        lines.append(f"Not measured: {'; '.join(unmeasured)}.")
    return lines


def _noise(rows: list[dict[str, Any]]) -> list[str]:
    """Say it where rounds differ too much, and what the shortest builds of each give."""
    if all(0 < row["highest"] <= _NOISY * row["lowest"] for row in rows):
        return []
    return ["The rounds differ too much for their medians: other work ran on the machine.", ""]


def _head(titles: list[str]) -> list[str]:
    return [line(["", *titles]), "|:--|" + "--:|" * len(titles)]


def _cell(value: Any) -> str:
    """Return text with nothing in it that Markdown would take for its own."""
    if isinstance(value, int | float):
        return number(value)
    text = " ".join(str(value).split())
    for letter in "\\|<>*_`[]":
        text = text.replace(letter, f"\\{letter}")
    return text


def _plural(count: int, noun: str) -> str:
    return noun if count == 1 else f"{noun}s"


if __name__ == "__main__":
    write_page(__doc__, render, missed_lines)
