"""The result of the experiment about forgetting, from its run folders to JSON and Markdown.

``python scripts/forgetting_table.py RUNS OUTPUT`` reads what ``scripts/forgetting_experiment.sh``
left in RUNS (``experiment/results.json``, ``search/search.json``) and writes ``forgetting.json``
and ``forgetting.md`` to OUTPUT.  ``--readme README.md`` also writes the verdict between the markers
``<!-- forgetting -->`` there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from headrace.forgetting.tables import NOTE, all_tables
from headrace.report import numbers
from headrace.report.tables import Table

COMMAND = "HEADRACE_DATA=... scripts/forgetting_experiment.sh"
MARKER = "<!-- forgetting -->"
LAYER_WISE = ("decay", "paper_text", "paper_code", "ours")
"""Methods that differ from the reference in nothing but rates by layer."""


def collect(runs: Path) -> dict[str, Any]:
    """Return the result: the experiment's, and what the search says about the rates.

    Raises:
        SystemExit: if not everything is finished.
    """
    results = json.loads((runs / "experiment" / "results.json").read_text(encoding="utf-8"))
    search = json.loads((runs / "search" / "search.json").read_text(encoding="utf-8"))
    if results["runs_finished"] < results["runs"]:
        raise SystemExit(f"{results['runs_finished']} of {results['runs']} runs are finished")
    return {
        "name": "forgetting",
        "command": COMMAND,
        **results,
        "search": {
            "trials": search["study"]["trials"],
            "sampler": search["study"]["sampler"],
            **{name: found["combined"] for name, found in search["searches"].items()},
        },
    }


def render(result: Mapping[str, Any]) -> str:
    """Return the page."""
    tuning, environment = result["tuning"], result["environment"]
    samples = next(iter(result["tasks"].values()))
    lines = [
        "# Forgetting",
        "",
        "Rendered from [forgetting.json](forgetting.json); what was done is in "
        "[experiments](../experiments.md#forgetting).",
        "",
        verdict(result),
        "",
        f"Command: `{result['command']}`. {len(result['seeds'])} seeds on each of "
        f"{len(result['sequences'])} pairs for every method; each tuned method tried "
        f"{tuning['values']} sets of values on each of {len(tuning['sequences'])} other pairs, "
        f"validation data, as many as the search had trials. A task has {samples['train']} samples "
        f"to train on, {samples['validation']} to choose on, {samples['test']} to report on.",
        "",
        NOTE,
        "",
    ]
    for table in [*all_tables(result)[:-1], rates_table(result), all_tables(result)[-1]]:
        lines += [f"## {table.title}", "", table.markdown()]
    facts = ", ".join(f"{name} {value}" for name, value in environment.items())
    lines += ["## Environment", "", f"{facts}; {result['created'][:10]}."]
    return "\n".join(lines) + "\n"


def rates_table(result: Mapping[str, Any]) -> Table:
    """The rates that the search has combined, with intervals."""
    search = result["search"]
    rows = [
        (
            "one for all" if name == "flat" else group,
            f"{found['rate']:.2e}",
            *(_pair_of_rates(found[key]) for key in ("interval", "ratio_interval")),
        )
        for name in ("groups", "flat")
        for group, found in search[name]["rates"].items()
    ]
    title = f"Rates that the search found ({search['trials']} trials a pair, {search['sampler']})"
    columns = ("Group", "Rate", "95 % interval", "95 % interval of its ratio to the mean of all")
    return Table(title, columns, tuple(rows))


def verdict(result: Mapping[str, Any]) -> str:
    """Say in one paragraph whether rates by layer beat one tuned rate for all layers."""
    reference = result["methods"][result["reference"]]
    mean = _difference(reference, "estimate")["mean"]
    ahead, behind, level = [], [], []
    for name in LAYER_WISE:
        method = result["methods"][name]
        found = _difference(method, "difference")
        text = f"{method['title']} {_points(found)}"
        if found["low"] > 0:
            ahead.append(text)
        elif found["high"] < 0:
            behind.append(text)
        else:
            level.append(text)
    said = [
        f"{kind}: {', '.join(texts)}"
        for kind, texts in (
            ("Better than it", ahead),
            ("not to be told from it", level),
            ("worse", behind),
        )
        if texts
    ]
    answer = (
        "Learning rates by layer beat one tuned rate for all layers"
        if ahead
        else "No distribution of learning rates by layer beats one tuned rate for all layers"
    )
    listed = "; ".join(said)
    return (
        f"**{answer}** in p_s + p_o on these pairs ({reference['title']}: "
        f"{numbers.percent(mean, 1)}). {listed[0].upper()}{listed[1:]} (differences in percentage "
        "points, 95 % intervals)."
    )


def put_into(readme: str, result: Mapping[str, Any]) -> str:
    """Return the README with the verdict between its markers."""
    before, _, after = readme.split(MARKER)
    return f"{before}{MARKER}\n{verdict(result)}\n{MARKER}{after}"


def _difference(method: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = method["estimates"]["sequences"]["p"][kind]
    return found


def _points(found: Mapping[str, Any]) -> str:
    mean, low, high = (numbers.points(found[key]) for key in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def _pair_of_rates(interval: Sequence[float] | None) -> str:
    if interval is None:
        return numbers.MISSING
    return f"{interval[0]:.2e} to {interval[1]:.2e}"


def main() -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, help="folder with experiment/ and search/")
    parser.add_argument("output", type=Path, help="folder for forgetting.json and forgetting.md")
    parser.add_argument("--readme", type=Path, help="README to put the verdict into")
    arguments = parser.parse_args()
    result = collect(arguments.runs)
    text = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
    (arguments.output / "forgetting.json").write_text(text, encoding="utf-8")
    (arguments.output / "forgetting.md").write_text(render(result), encoding="utf-8")
    if arguments.readme:
        readme = arguments.readme.read_text(encoding="utf-8")
        arguments.readme.write_text(put_into(readme, result), encoding="utf-8")


if __name__ == "__main__":
    main()
