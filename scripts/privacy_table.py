"""The tables of private information that is found, from their result file to docs/privacy.md.

``python scripts/privacy_table.py`` writes what ``docs/results/privacy.json`` says between the
markers ``<!-- privacy -->`` of ``docs/privacy.md``.  ``scripts/privacy_experiment.py`` makes that
file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from headrace.report import numbers
from headrace.report.table import Table

ROOT = Path(__file__).parents[1]
MARKER = "<!-- privacy -->"
COMMAND = "HEADRACE_DATA=DIR python scripts/privacy_experiment.py --peer PYTHON"


def render(result: Mapping[str, Any]) -> str:
    """Return the tables."""
    versions = ", ".join(f"{name} {value}" for name, value in result["versions"].items())
    lines = [
        f"`{COMMAND}`, {result['created']}; {versions}. Processor time of one core, on a machine "
        "that was busy with other work.",
    ]
    tools = list(next(iter(result["sets"][0]["types"].values())))
    for gold_set in result["sets"]:
        table = scores_table(gold_set, tools)
        lines += ["", f"**{table.title}**", "", table.markdown()]
        others = ", ".join(f"{name} {count}" for name, count in gold_set["not_looked_for"].items())
        lines += [f"Gold spans that no rule looks for: {others}.", ""]
    speed = speed_table(result["speed"])
    lines += ["", f"**{speed.title}**", "", speed.markdown()]
    return "\n".join(lines).replace("\n\n\n", "\n\n").strip() + "\n"


def scores_table(gold_set: Mapping[str, Any], tools: Sequence[str]) -> Table:
    """Precision and recall of each tool by type."""
    columns = ["Type", "Gold"]
    for tool in tools:
        columns += [f"{tool}: recall", "precision"]
    rows = []
    for type_, scores in gold_set["types"].items():
        title = {"PERSON": "PERSON (with --names)", "any": "all but PERSON"}.get(type_, type_)
        row = [title, str(next(iter(scores.values()))["gold"])]
        for tool in tools:
            counts = scores[tool]
            row += [share(counts["hit"], counts["gold"]), share(counts["right"], counts["found"])]
        rows.append(tuple(row))
    seen = "seen when the rules were written" if gold_set["seen"] else "not seen before"
    title = f"{gold_set['name']}: {gold_set['documents']} texts, {seen}"
    return Table(title, tuple(columns), tuple(rows))


def speed_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Documents a second."""
    columns = ("Language", "Texts", "Findings", "find", "mask", "presidio")
    found = tuple(
        (
            row["language"],
            f"{row['file']} ({row['documents']})",
            str(row["findings"]),
            *(
                f"{row[name]:,.0f}" if name in row else numbers.MISSING
                for name in ("find_per_second", "mask_per_second", "presidio_per_second")
            ),
        )
        for row in rows
    )
    return Table("Documents of 2,000 characters a second", columns, found)


def share(part: int, whole: int) -> str:
    """In percent."""
    return numbers.percent(part / whole, 1) if whole else numbers.MISSING


def put_into(page: str, result: Mapping[str, Any]) -> str:
    """Return the page with the tables between its markers."""
    before, _, after = page.split(MARKER)
    return f"{before}{MARKER}\n{render(result)}{MARKER}{after}"


def main() -> None:
    """Run the script."""
    result = json.loads((ROOT / "docs" / "results" / "privacy.json").read_text(encoding="utf-8"))
    page = ROOT / "docs" / "privacy.md"
    page.write_text(put_into(page.read_text(encoding="utf-8"), result), encoding="utf-8")


if __name__ == "__main__":
    main()
