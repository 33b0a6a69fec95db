"""The result of the small MultiCoNER experiment, from its run folders to JSON and Markdown.

``python scripts/multiconer_small_table.py RUNS OUTPUT`` reads what
``scripts/reproduce_multiconer_small.sh`` left in RUNS and writes ``multiconer_small.json`` and
``multiconer_small.md`` to OUTPUT.  ``--readme README.md`` also puts the first table between the
markers ``<!-- multiconer_small -->`` there.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

COMMAND = "HEADRACE_DATA=... make reproduce-multiconer-small"
MARKER = "<!-- multiconer_small -->"
SCORES = ("fine_macro_f1", "coarse_macro_f1")
METHODS = {
    "lexicon_own": "lexicon, own language",
    "lexicon_all": "lexicon, all languages",
    "baseline": "single language",
    "first_stage": "first stage only",
    "two_stage": "two stages",
}


def collect(runs: Path) -> dict[str, Any]:
    """Return the result: one row a language and method, with the scores of every seed."""
    scores: dict[tuple[str, str], dict[str, list[float]]] = {}
    losses: dict[tuple[str, str], list[float]] = {}
    steps: dict[str, list[int]] = {}
    seconds: dict[str, list[float]] = {}
    for name in ("lexicon_own", "lexicon_all"):
        lexicon = json.loads((runs / f"{name}.json").read_text(encoding="utf-8"))
        for language, metrics in lexicon["metrics"].items():
            scores[language, name] = {score: [metrics[score]] for score in SCORES}
    seeds = []
    environment: dict[str, str] = {}
    for method in ("baseline", "two_stage"):
        for folder in sorted((runs / method).glob("*seed-*")):
            results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            environment = results["environment"]
            if method == "two_stage":
                seeds.append(config["headrace"]["seed"])
            steps.setdefault(method, []).append(sum(b["steps"] for b in results["stages"]))
            seconds.setdefault(method, []).append(
                sum(b["throughput"]["training_seconds"] for b in results["stages"])
            )
            for branch in results["stages"]:
                column = "first_stage" if branch["stage"] == "multilingual" else method
                for language, metrics in branch["metrics"].items():
                    cell = scores.setdefault((language, column), {score: [] for score in SCORES})
                    for score in SCORES:
                        cell[score].append(metrics[score])
                    if column != "first_stage":
                        losses.setdefault((language, column), []).append(branch["validation_loss"])
    return {
        "name": "multiconer_small",
        "command": COMMAND,
        "seeds": seeds,
        "environment": environment,
        "steps": {method: values[0] for method, values in steps.items()},
        "training_seconds": seconds,
        "rows": [
            {
                "language": language,
                "method": method,
                **scores[language, method],
                "validation_loss": losses.get((language, method), []),
            }
            for language in sorted({language for language, _ in scores})
            for method in METHODS
            if (language, method) in scores
        ],
    }


def render(result: dict[str, Any]) -> str:
    """Return the tables as Markdown, scores in per cent, mean and sample standard deviation."""
    cells = cells_of(result)
    lines = []
    for score in SCORES:
        title = score.replace("_", " ").replace("f1", "F1")
        title = title[0].upper() + title[1:]
        lines += [f"{title}, per cent, on the dev files:", "", *score_table(result, score), ""]
    lines += [
        "Validation loss, nats a labelled word:",
        "",
        "| language | single language | two stages |",
        "|:--|--:|--:|",
    ]
    for language in sorted({language for language, _ in cells}):
        one, two = (
            cells[language, method]["validation_loss"] for method in ("baseline", "two_stage")
        )
        lines.append(f"| {language} | {plain(one)} | {plain(two)} |")
    seconds = {name: statistics.mean(values) for name, values in result["training_seconds"].items()}
    lines += [
        "",
        f"Seeds {', '.join(map(str, result['seeds']))}; mean and sample standard deviation; the "
        "gain is the mean of the differences seed by seed. Steps of a run over all languages: "
        f"{result['steps']['two_stage']:,} in two stages, {result['steps']['baseline']:,} single "
        f"language; training time {seconds['two_stage']:,.0f} s and {seconds['baseline']:,.0f} s.",
        "",
        f"Made by `{result['command']}`.",
    ]
    return "\n".join(lines) + "\n"


def cells_of(result: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the rows by language and method."""
    return {(row["language"], row["method"]): row for row in result["rows"]}


def score_table(result: dict[str, Any], score: str) -> list[str]:
    """Return the lines of one table: a row a language, a column a method."""
    cells = cells_of(result)
    lines = [
        "| language | " + " | ".join(METHODS.values()) + " | gain of two stages |",
        "|:--|" + "--:|" * (len(METHODS) + 1),
    ]
    for language in sorted({language for language, _ in cells}):
        row = [cells[language, method][score] for method in METHODS]
        pairs = zip(
            cells[language, "two_stage"][score], cells[language, "baseline"][score], strict=True
        )
        gains = [two - one for two, one in pairs]
        lines.append(
            f"| {language} | " + " | ".join(map(spread, row)) + f" | {spread(gains, True)} |"
        )
    return lines


def put_into(text: str, result: dict[str, Any]) -> str:
    """Return a page with the first table between its markers."""
    before, rest = text.split(MARKER, 1)
    _, after = rest.split(MARKER, 1)
    table = "\n".join(score_table(result, SCORES[0]))
    return f"{before}{MARKER}\n\n{table}\n\n{MARKER}{after}"


def spread(values: list[float], signed: bool = False) -> str:
    """Return mean and standard deviation in per cent."""
    mean = f"{100 * statistics.mean(values):{'+' if signed else ''}.1f}"
    if len(values) < 2:
        return mean
    return f"{mean} ± {100 * statistics.stdev(values):.1f}"


def plain(values: list[float]) -> str:
    """Return mean and standard deviation of losses."""
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"


def main() -> None:
    """Collect, write and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, help="folder with the runs")
    parser.add_argument("output", type=Path, help="folder for JSON and Markdown")
    parser.add_argument("--readme", type=Path, help="page to put the first table into")
    arguments = parser.parse_args()
    result = collect(arguments.runs)
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "multiconer_small.json").write_text(
        json.dumps(result, indent=1) + "\n", encoding="utf-8"
    )
    (arguments.output / "multiconer_small.md").write_text(render(result), encoding="utf-8")
    if arguments.readme:
        page = arguments.readme.read_text(encoding="utf-8")
        arguments.readme.write_text(put_into(page, result), encoding="utf-8")
    print(render(result))


if __name__ == "__main__":
    main()
