"""The tables of an experiment; the first four are in the layout of the paper's Tables 1 to 4.

The paper is Kenneweg et al., *Intelligent Learning Rate Distribution to reduce Catastrophic
Forgetting in Transformers*.  Scores are per cent.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from headrace.forgetting.matrix import MEASURES
from headrace.report import numbers
from headrace.report.summary import mean
from headrace.report.tables import Table

Results = Mapping[str, Any]

NOTE = (
    "Scores are per cent, differences percentage points; in brackets the 95 % interval of a "
    "bootstrap over seeds, and over test samples where the score is the share of right answers. "
    "An asterisk marks a difference whose interval leaves out 0."
)


def all_tables(results: Results) -> list[Table]:
    """Every table that has a row."""
    tables = [
        before_shift_table(results),
        search_table(results),
        pairs_table(results),
        shifts_table(results),
        measures_table(results),
        differences_table(results),
        tuning_table(results),
    ]
    return [table for table in tables if table.rows]


def before_shift_table(results: Results) -> Table:
    """Table 1: scores on a task right after it was learned first, before any shift."""
    tasks = list(dict.fromkeys(results["orders"][name][0] for name in _compared(results)))
    rows = []
    for method in results["methods"].values():
        values = [
            mean(
                run["R"][0][0]
                for run in method["runs"]
                if results["orders"][run["sequence"]][0] == task and len(run["R"]) > 1
            )
            for task in tasks
        ]
        if any(value is not None for value in values):
            rows.append((method["title"], *_percents([*values, mean(values)])))
    title = "Scores without any shift: on the first task, right after it"
    return Table(title, ("Method", *tasks, "Average"), tuple(rows))


def search_table(results: Results) -> Table:
    """Table 2: the chosen values on the sequences that they were chosen on, validation data."""
    sequences = results["tuning"]["sequences"] if results["tuning"] else []
    rows = [
        (
            method["title"],
            *(_pair(found.get(name)) for name in sequences),
            _pair(_mean_pair(found.get(name) for name in sequences)),
        )
        for method in results["methods"].values()
        if method["tuning"] and (found := method["tuning"]["by_sequence"])
    ]
    title = "Sequences that values were chosen on (validation data): p_o - p_s"
    return Table(title, ("Method", *sequences, "Average"), tuple(rows))


def pairs_table(results: Results) -> Table:
    """Table 3: sequences that nothing was chosen on: p_o - p_s."""
    names = results["sequences"]
    rows = [
        (
            method["title"],
            *(_pair(_means(method, name, ("p_o", "p_s"))) for name in names),
            _pair(_means(method, "sequences", ("p_o", "p_s"))),
        )
        for method in results["methods"].values()
        if method["runs"]
    ]
    title = "Held-out sequences (test data): p_o - p_s"
    return Table(title, ("Method", *names, "Average"), tuple(rows))


def shifts_table(results: Results) -> Table:
    """Table 4: scores on the first part before and after the shift."""
    names = results["shifts"]
    rows = []
    for method in results["methods"].values() if names else ():
        cells = []
        for name in names:
            matrices = [run["R"] for run in method["runs"] if run["sequence"] == name]
            before = mean(values[0][0] for values in matrices if len(values) > 1)
            after = mean(values[-1][0] for values in matrices)
            cells.append(f"{numbers.percent(before, 1)} - {numbers.percent(after, 1)}")
        rows.append((method["title"], *cells))
    title = "Shifts of one task (test data): before - after, on what came first"
    return Table(title, ("Method", *names), tuple(rows))


def measures_table(results: Results) -> Table:
    """Every measure over the held-out sequences, with intervals."""
    rows = [
        (
            method["title"],
            str(_seeds(method)),
            *(_interval(_estimate(method, "sequences", name)) for name in MEASURES),
        )
        for method in results["methods"].values()
        if method["runs"]
    ]
    columns = ("Method", "Seeds", *MEASURES.values())
    return Table("Measures over the held-out sequences", columns, tuple(rows))


def differences_table(results: Results) -> Table:
    """Differences of every measure to the reference method, paired."""
    reference = results["methods"].get(results["reference"])
    rows = [
        (
            method["title"],
            *(
                _interval(_estimate(method, "sequences", name, "difference"), sign=True)
                for name in MEASURES
            ),
        )
        for method in results["methods"].values()
        if reference and method is not reference and method["runs"]
    ]
    title = f"Differences to {reference['title']}, paired" if reference else ""
    return Table(title, ("Method", *MEASURES.values()), tuple(rows))


def tuning_table(results: Results) -> Table:
    """What was tried for each tuned method, and chosen."""
    rows = [
        (
            method["title"] + (" *" if entry["values"] == method["tuning"]["chosen"] else ""),
            ", ".join(f"{key}={json.dumps(value)}" for key, value in entry["values"].items()),
            numbers.percent(entry["p"], 1),
        )
        for method in results["methods"].values()
        if method["tuning"]
        for entry in method["tuning"]["tried"]
    ]
    columns = ("Method", "Values", "p_s + p_o, validation")
    return Table("What was tried; an asterisk marks what was chosen", columns, tuple(rows), names=2)


def markdown(results: Results, name: str) -> str:
    """All tables as the text of ``results.md``."""
    parts = [
        f"# {name}\n",
        f"{results['runs_finished']} of {results['runs']} runs are finished.\n",
        *(f"## {table.title}\n\n{table.markdown()}" for table in all_tables(results)),
        f"{NOTE}\n",
    ]
    return "\n".join(parts)


def _compared(results: Results) -> list[str]:
    return [*results["sequences"], *results["shifts"]]


def _estimate(
    method: Mapping[str, Any], part: str, measure: str, kind: str = "estimate"
) -> Mapping[str, Any] | None:
    found: Mapping[str, Any] | None = method["estimates"].get(part, {}).get(measure, {}).get(kind)
    return found


def _means(
    method: Mapping[str, Any], part: str, measures: Iterable[str]
) -> dict[str, float | None]:
    found = {name: _estimate(method, part, name) for name in measures}
    return {name: None if entry is None else entry["mean"] for name, entry in found.items()}


def _seeds(method: Mapping[str, Any]) -> int:
    return len({run["seed"] for run in method["runs"]})


def _percents(values: Sequence[float | None]) -> list[str]:
    return [numbers.percent(value, 1) for value in values]


def _pair(pair: Mapping[str, float | None] | None) -> str:
    if pair is None:
        return numbers.MISSING
    return f"{numbers.percent(pair['p_o'], 1)} - {numbers.percent(pair['p_s'], 1)}"


def _mean_pair(pairs: Iterable[Mapping[str, float] | None]) -> dict[str, float | None]:
    there = [pair for pair in pairs if pair is not None]
    return {name: mean(pair[name] for pair in there) for name in ("p_o", "p_s")}


def _interval(entry: Mapping[str, Any] | None, *, sign: bool = False) -> str:
    if entry is None:
        return numbers.MISSING

    def write(value: float) -> str:
        text = numbers.points(value) if sign else numbers.percent(value, 1)
        return text.replace("-", numbers.MINUS)

    text = write(entry["mean"])
    if entry["low"] is None:
        return text
    mark = " *" if sign and (entry["low"] > 0 or entry["high"] < 0) else ""
    return f"{text} [{write(entry['low'])}, {write(entry['high'])}]{mark}"
