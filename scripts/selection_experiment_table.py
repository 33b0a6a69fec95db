"""The page of the selection experiment, from its JSON.

``python scripts/selection_experiment_table.py docs/results/selection_experiment.json`` writes
``selection_experiment.md`` beside it.  ``scripts/selection_experiment.sh`` makes the JSON first.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from headrace.benchmarks.selection_experiment_plan import HALF, METHODS

T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365}
"""97.5 % point of Student's t by the number of values (that less one degrees of freedom)."""
_EMBEDDINGS = {"encoder": "encoder", "doc2vec": "Doc2Vec (training included)"}
Trials = list[dict[str, Any]]


def render(result: dict[str, Any]) -> str:
    """Return the page."""
    settings, test, environment = result["settings"], result["test"], result["environment"]
    error = math.sqrt(0.25 / test["samples"])
    lines = [
        "# Selection experiment",
        "",
        "Rendered from [selection_experiment.json](selection_experiment.json); what was done is in "
        "[experiments](../experiments.md#the-papers-experiment).",
        "",
        f"{settings['rows']} questions of `{settings['corpus']}` a seed, and as many copies: "
        f"{settings['copies']} each of some of them. Test accuracy on {test['samples']} questions "
        f"in per cent, guessing gives {percent(test['chance'])}; mean ± standard deviation over "
        f"{len(settings['seeds'])} seeds. One accuracy has a binomial standard error of "
        f"{percent(error)} at most. In brackets: the difference to `random` of the same seed, with "
        "its 95 % interval (Student's t over the seeds); **bold** where that leaves out 0. Of "
        "twenty such intervals one leaves it out by chance.",
        "",
        "## Accuracy",
        "",
        *accuracy_table(result),
        "",
        *whole_sets(result),
        "",
        *verdict(result),
        "",
        "## Redundant rows among the chosen",
        "",
        "Share of the chosen rows that repeat another chosen one, in per cent.",
        "",
        *redundancy_table(result),
        "",
        f"## lambda, at {share(settings['sweep_fraction'])} of the rows",
        "",
        *lambda_table(result),
        "",
        "## Density of the redundancy",
        "",
        f"{sweep_size(result)} rows are chosen from the same {settings['rows']} questions with "
        "more or fewer copies beside them.",
        "",
        *density_table(result),
        "",
        "## Precision",
        "",
        *precision_table(result),
        "",
        "## Times",
        "",
        *training_times(result),
        "",
        *choosing_times(result),
        "",
        "Environment: " + ", ".join(f"{key} {value}" for key, value in environment.items())
        + f". Measured on {result['date']}.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def picked(result: dict[str, Any], **wanted: Any) -> Trials:
    """Trials with these members, by seed; the defaults are those of the first table."""
    wanted = {"density": HALF, "precision": "bf16", **wanted}
    if wanted.get("method", "").startswith("graph_cut"):
        wanted.setdefault("trade_off", result["settings"]["trade_off"])
    found = [
        trial
        for trial in result["trials"]
        if all(trial[name] == value for name, value in wanted.items())
    ]
    return sorted(found, key=lambda trial: trial["seed"])


def sizes_of(result: dict[str, Any]) -> dict[float, int]:
    """Rows of each fraction."""
    total = 2 * result["settings"]["rows"]
    return {fraction: round(fraction * total) for fraction in result["settings"]["fractions"]}


def sweep_size(result: dict[str, Any]) -> int:
    """Rows that the sweeps choose."""
    return round(result["settings"]["sweep_fraction"] * 2 * result["settings"]["rows"])


def accuracy_table(result: dict[str, Any]) -> list[str]:
    """A row a size, a column a method: Table 2 of the paper."""
    methods = [name for name in METHODS if name not in ("full", "distinct")]
    rows = []
    for fraction, size in sizes_of(result).items():
        control = picked(result, method="random", rows=size)
        cells = [compared(picked(result, method=m, rows=size), control, m) for m in methods]
        rows.append([f"{share(fraction)} ({size})", *cells])
    return table(["rows", *(METHODS[method] for method in methods)], rows)


def whole_sets(result: dict[str, Any]) -> list[str]:
    """All rows, and all that differ."""
    return [
        f"- {METHODS[name]} ({trials[0]['chosen']} rows): {spread(accuracies(trials))}"
        for name in ("full", "distinct")
        if (trials := picked(result, method=name))
    ]


def verdict(result: dict[str, Any]) -> list[str]:
    """What the differences to random say over all sizes that the methods share."""
    lines = ["Mean difference to `random` over all sizes of a method, by seed:", ""]
    for method in METHODS:
        if method in ("full", "distinct", "random"):
            continue
        by_seed: dict[int, list[float]] = {}
        for size in sizes_of(result).values():
            control = {t["seed"]: t["accuracy"] for t in picked(result, method="random", rows=size)}
            for trial in picked(result, method=method, rows=size):
                difference = trial["accuracy"] - control[trial["seed"]]
                by_seed.setdefault(trial["seed"], []).append(difference)
        means = [statistics.mean(values) for values in by_seed.values()]
        lines.append(f"- {METHODS[method]}: {interval(means)}")
    return lines


def redundancy_table(result: dict[str, Any]) -> list[str]:
    """Share of repeated rows by size and method."""
    methods = [name for name in METHODS if name not in ("full", "distinct")]
    rows = []
    for fraction, size in sizes_of(result).items():
        cells = [
            mean_of(picked(result, method=method, rows=size), "repeated_share", percent)
            for method in methods
        ]
        rows.append([share(fraction), *cells])
    return table(["rows", *(METHODS[method] for method in methods)], rows)


def lambda_table(result: dict[str, Any]) -> list[str]:
    """A row a value of lambda."""
    size = sweep_size(result)
    control = picked(result, method="random", rows=size)
    settings = result["settings"]
    rows = []
    for value in [settings["trade_off"], *settings["trade_offs"]]:
        trials = picked(result, method="graph_cut", rows=size, trade_off=value)
        used = trials[0]["trade_off_used"]
        name = f"n/k - 2 = {used:g}" if value == "balanced" else f"{value:g}"
        firsts = [trial["first_negative_gain"] for trial in trials]
        negative = "none" if None in firsts else f"{statistics.mean(firsts):.0f}"
        cells = [compared(trials, control), mean_of(trials, "repeated_share", percent), negative]
        rows.append((used, [name, *cells]))
    rows.sort(key=lambda row: row[0])
    head = ["lambda", "accuracy", "repeated rows, %", "first negative gain at row"]
    return table(head, [cells for _, cells in rows])


def density_table(result: dict[str, Any]) -> list[str]:
    """A row a share of copies."""
    size = sweep_size(result)
    methods = ("graph_cut", "facility_location", "random")
    rows = []
    for density in sorted({HALF, *result["settings"]["densities"]}):
        control = picked(result, method="random", rows=size, density=density)
        found = {
            method: picked(result, method=method, rows=size, density=density) for method in methods
        }
        cells = [
            f"{compared(trials, control, method)}; {mean_of(trials, 'repeated_share', percent)}"
            for method, trials in found.items()
        ]
        rows.append([share(density), *cells])
    return table(
        ["copies among all rows", *(f"{METHODS[m]}; repeated rows, %" for m in methods)], rows
    )


def precision_table(result: dict[str, Any]) -> list[str]:
    """bf16, in which everything was trained, against fp32."""
    size = sweep_size(result)
    usual = picked(result, method="random", rows=size)
    exact = picked(result, method="random", rows=size, precision="fp32")
    differences = ", ".join(
        f"{100 * (a['accuracy'] - b['accuracy']):+.1f}" for a, b in zip(usual, exact, strict=True)
    )
    return [
        f"All trials are trained in bf16 (fp32 master weights). `random`, {size} rows: bf16 "
        f"{spread(accuracies(usual))}, fp32 {spread(accuracies(exact))}; bf16 less fp32, by seed: "
        f"{differences}. Processor time of the training: "
        f"{mean_of(usual, 'processor_seconds', seconds)} s against "
        f"{mean_of(exact, 'processor_seconds', seconds)} s."
    ]


def training_times(result: dict[str, Any]) -> list[str]:
    """Table 3 of the paper: seconds by size, all methods together."""
    sizes = {**sizes_of(result), 1.0: 2 * result["settings"]["rows"]}
    rows = []
    for fraction, size in sizes.items():
        trials = [
            trial for trial in picked(result) if trial["chosen"] == size and not trial["resumed"]
        ]
        if trials:
            rows.append(
                [
                    share(fraction),
                    *(
                        mean_of(trials, name, seconds)
                        for name in ("training_seconds", "wall_seconds", "processor_seconds")
                    ),
                    str(len(trials)),
                ]
            )
    head = ["rows", "steps alone, s", "whole run, s", "processor, s", "runs"]
    workers = result["environment"]["workers"]
    return [
        f"Training, mean over the runs of a size (the paper's Table 3); {workers} at a time, one "
        "core each. A whole run includes loading, a checkpoint and an export an epoch.",
        "",
        *table(head, rows),
    ]


def choosing_times(result: dict[str, Any]) -> list[str]:
    """Table 4 of the paper: embedding and selecting."""
    embedding = [
        (key.split("_")[0], entry)
        for key, entry in result["seconds"].items()
        if key.endswith(f"_copies-{100 * HALF:g}")
    ]
    methods = ("graph_cut", "graph_cut_doc2vec", "facility_location", "random")
    rows = []
    for name in dict.fromkeys(name for name, _ in embedding):
        entries = [entry for other, entry in embedding if other == name]
        wall = statistics.mean(entry["wall_seconds"] for entry in entries)
        rows.append([f"embedding, {_EMBEDDINGS[name]}", f"{wall:.2f}"])
    for fraction, size in sizes_of(result).items():
        for method in methods:
            trials = picked(result, method=method, rows=size)
            if trials:
                took = mean_of(trials, "select_seconds", lambda value: f"{value:.3f}")
                rows.append([f"{share(fraction)}, {METHODS[method]}", took])
    return [
        "Embedding the rows of a seed, and choosing some of them (the paper's Table 4), seconds.",
        "",
        *table(["step", "s"], rows),
    ]


def accuracies(trials: Trials) -> list[float]:
    """Their accuracies by seed."""
    return [trial["accuracy"] for trial in trials]


def compared(trials: Trials, control: Trials, method: str = "") -> str:
    """Mean and deviation, and the difference to the control with its interval."""
    if not trials:
        return "–"
    text = spread(accuracies(trials))
    if method == "random" or len(trials) != len(control):
        return text
    differences = [a["accuracy"] - b["accuracy"] for a, b in zip(trials, control, strict=True)]
    return f"{text} ({interval(differences)})"


def interval(differences: Sequence[float]) -> str:
    """Mean difference with its 95 % interval, bold where that leaves out 0."""
    mean = statistics.mean(differences) + 0.0
    if len(differences) < 2:
        return f"{100 * mean:+.1f}"
    half = T_95[len(differences)] * statistics.stdev(differences) / math.sqrt(len(differences))
    text = f"{100 * mean:+.1f} ± {100 * half:.1f}"
    return f"**{text}**" if abs(mean) > half else text


def mean_of(trials: Trials, name: str, shown: Callable[[float], str]) -> str:
    """Mean of a member over trials."""
    return shown(statistics.mean(trial[name] for trial in trials)) if trials else "–"


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation in per cent."""
    mean = percent(statistics.mean(values))
    return mean if len(values) < 2 else f"{mean} ± {percent(statistics.stdev(values))}"


def percent(value: float) -> str:
    """In per cent, one digit."""
    return f"{100 * value:.1f}"


def share(value: float) -> str:
    """A share as it is named."""
    return f"{100 * value:g} %"


def seconds(value: float) -> str:
    """Seconds, one digit."""
    return f"{value:.1f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    return [
        "| " + " | ".join(head) + " |",
        "|:--|" + "--:|" * (len(head) - 1),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]


def draw(result: dict[str, Any], path: Path) -> None:
    """Accuracy against size, a line a method, with the deviation over the seeds."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "headrace"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.2))
    for method in METHODS:
        sizes = sizes_of(result)
        found = {f: picked(result, method=method, rows=size) for f, size in sizes.items()}
        points = [
            (100 * fraction, accuracies(trials)) for fraction, trials in found.items() if trials
        ]
        if method in ("full", "distinct") or not points:
            continue
        means = [100 * statistics.mean(values) for _, values in points]
        spreads = [100 * statistics.stdev(v) if len(v) > 1 else 0.0 for _, v in points]
        axes.errorbar(
            [x for x, _ in points], means, spreads, label=METHODS[method], marker="o", capsize=3
        )
    for method, style in (("full", "--"), ("distinct", ":")):
        whole = picked(result, method=method)
        if whole:
            level = 100 * statistics.mean(accuracies(whole))
            axes.axhline(level, color="grey", linestyle=style, label=METHODS[method])
    axes.set_xlabel("rows trained on, % of all with their copies")
    axes.set_ylabel("test accuracy, %")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Read the JSON, write the page beside it, and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("json", type=Path, help="file that the experiment wrote")
    parser.add_argument("--plot", type=Path, help="SVG file to draw")
    arguments = parser.parse_args()
    result = json.loads(arguments.json.read_text(encoding="utf-8"))
    page = render(result)
    arguments.json.with_suffix(".md").write_text(page, encoding="utf-8")
    if arguments.plot:
        draw(result, arguments.plot)
    print(page)


if __name__ == "__main__":
    main()
