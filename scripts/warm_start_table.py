"""What pre-training brings to named entities, from run folders to JSON and Markdown.

``python scripts/warm_start_table.py RUNS OUTPUT`` reads what ``scripts/warm_start.sh`` left in RUNS
and writes ``warm_start.json`` and ``warm_start.md`` to OUTPUT.  The columns of the first experiment
come from ``multiconer_small.json``, which lies in OUTPUT already.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

COMMAND = "HEADRACE_DATA=... scripts/warm_start.sh"
SCORES = {"fine_macro_f1": "Fine macro F1", "coarse_macro_f1": "Coarse macro F1"}
ARMS = {"scratch": "from scratch", "warm": "warm start"}
STAGES = {"multilingual": "first stage", "monolingual": "two stages"}
FIRST_EXPERIMENT = "one layer from scratch, two stages"


def collect(runs: Path, output: Path) -> dict[str, Any]:
    """The pre-training, and a row a language, arm and stage with the scores of every seed."""
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    seconds: dict[str, list[float]] = {}
    seeds: dict[str, list[int]] = {}
    for arm in ARMS:
        for folder in sorted((runs / arm).glob("*seed-*")):
            results = _json(folder / "results.json")
            seeds.setdefault(arm, []).append(_json(folder / "config.json")["headrace"]["seed"])
            seconds.setdefault(arm, []).append(_seconds(results))
            for branch in results["stages"]:
                for language, metrics in branch["metrics"].items():
                    row = rows.setdefault(
                        (language, arm, branch["stage"]), {score: [] for score in SCORES}
                    )
                    for score in SCORES:
                        row[score].append(metrics[score])
    before = _json(output / "multiconer_small.json")["rows"]
    pretraining = _json(runs / "masked_lm" / "results.json")
    (text,) = pretraining["stages"]
    return {
        "name": "warm_start",
        "command": COMMAND,
        "seeds": seeds,
        "environment": pretraining["environment"],
        "pretraining": {
            "steps": text["steps"],
            "training_seconds": _seconds(pretraining),
            "validation": text["metrics"],
        },
        "training_seconds": seconds,
        "first_experiment": {
            row["language"]: {score: row[score] for score in SCORES}
            for row in before
            if row["method"] == "two_stage"
        },
        "rows": [
            {"language": language, "arm": arm, "stage": stage, **row}
            for (language, arm, stage), row in sorted(rows.items())
        ],
    }


def render(result: dict[str, Any]) -> str:
    """The tables as Markdown: per cent, mean and sample standard deviation over the seeds."""
    cells = {(row["language"], row["arm"], row["stage"]): row for row in result["rows"]}
    languages = sorted({language for language, _, _ in cells})
    columns = [(arm, stage) for stage in STAGES for arm in ARMS]
    names = [f"{ARMS[arm]}, {STAGES[stage]}" for arm, stage in columns]
    lines: list[str] = []
    for score, title in SCORES.items():
        gains = ["gain, first stage", "gain, two stages"]
        lines += [
            f"{title}, per cent, on the dev files:",
            "",
            "| " + " | ".join(["language", FIRST_EXPERIMENT, *names, *gains]) + " |",
            "|:--|" + "--:|" * (1 + len(columns) + len(gains)),
        ]
        for language in languages:
            row = [spread(result["first_experiment"][language][score])]
            row += [spread(cells[language, arm, stage][score]) for arm, stage in columns]
            for stage in STAGES:
                pairs = zip(
                    cells[language, "warm", stage][score],
                    cells[language, "scratch", stage][score],
                    strict=True,
                )
                row.append(spread([warm - scratch for warm, scratch in pairs], signed=True))
            lines.append(f"| {language} | " + " | ".join(row) + " |")
        lines.append("")
    lines += [
        "Pre-training, on held-out text of the corpus:",
        "",
        "| language | perplexity of a masked token | right, per cent |",
        "|:--|--:|--:|",
    ]
    for language, metrics in sorted(result["pretraining"]["validation"].items()):
        right = 100 * metrics["token_accuracy"]
        lines.append(f"| {language} | {metrics['perplexity']:,.1f} | {right:.1f} |")
    seconds = {arm: statistics.mean(values) for arm, values in result["training_seconds"].items()}
    pretraining = result["pretraining"]
    lines += [
        "",
        f"Seeds {', '.join(map(str, result['seeds']['warm']))}; the gain is the mean of the "
        f"differences seed by seed, warm start less from scratch. Pre-training: one run of "
        f"{pretraining['steps']:,} steps, {pretraining['training_seconds']:,.0f} s; both stages: "
        f"{seconds['warm']:,.0f} s from the warm start, {seconds['scratch']:,.0f} s from scratch.",
        "",
        f"Made by `{result['command']}`.",
    ]
    return "\n".join(lines) + "\n"


def spread(values: list[float], signed: bool = False) -> str:
    """Mean and sample standard deviation in per cent."""
    mean = f"{100 * statistics.mean(values):{'+' if signed else ''}.1f}"
    return f"{mean} ± {100 * statistics.stdev(values):.1f}"


def _seconds(results: dict[str, Any]) -> float:
    return float(sum(branch["throughput"]["training_seconds"] for branch in results["stages"]))


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def main() -> None:
    """Collect, write and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, help="folder with the runs")
    parser.add_argument("output", type=Path, help="folder for JSON and Markdown")
    arguments = parser.parse_args()
    result = collect(arguments.runs, arguments.output)
    text = json.dumps(result, indent=1) + "\n"
    (arguments.output / "warm_start.json").write_text(text, encoding="utf-8")
    (arguments.output / "warm_start.md").write_text(render(result), encoding="utf-8")
    print(render(result))


if __name__ == "__main__":
    main()
