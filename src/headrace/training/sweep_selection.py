"""Which runs of a sweep to take: the best method, how far the others are behind, and what it cost.

Methods are compared in pairs, seed by seed, since two runs with the same seed share the order of
the data and their new weights.  A difference that its interval cannot tell from none is noise.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.report import numbers
from headrace.report.summary import mean, spread
from headrace.report.tables import Table

APART, NOISE, UNKNOWN = "worse", "within noise", "one seed: not known"
"""What is said of a method beside the best one."""

# Two-sided 95 % points of Student's t for 1 to 30 degrees of freedom.
_T = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)


@dataclass(frozen=True)
class FinishedRun:
    """What selection looks at of a run."""

    name: str
    method: str
    seed: int
    loss: float | None
    """Validation loss of the last stage: the mean over its branches."""
    score: float | None
    """Main score: the mean over languages."""
    rank_hours: float | None
    """Hours of all ranks together, over all starts; None where they were not recorded."""


def select(
    runs: Sequence[FinishedRun], complete: Sequence[str], *, less_is_better: bool = False
) -> dict[str, Any] | None:
    """Return the selection as a JSON-able object; None if no method is complete.

    Args:
        runs: all finished runs.
        complete: methods all of whose seeds are finished: only these can be chosen.
        less_is_better: whether it is so of the main score; of losses it always is.

    ``method`` has the lowest mean validation loss, ``run`` is its run with the lowest one;
    ``by_score`` is the method with the best mean score.  ``others`` are the other methods, the
    next best first, each with its mean differences to the best one over the seeds that both have,
    95 % intervals (Student's t on the differences) and a verdict on the loss.  ``rank_hours`` is
    what a run of each method cost on average.
    """
    losses = {method: _by_seed(runs, method, "loss") for method in complete}
    losses = {method: own for method, own in losses.items() if own}
    if not losses:
        return None
    order = sorted(losses, key=lambda method: statistics.fmean(losses[method].values()))
    best = order[0]
    scores = {method: _by_seed(runs, method, "score") for method in complete}
    means = {method: statistics.fmean(own.values()) for method, own in scores.items() if own}
    return {
        "method": best,
        "run": min(
            (run for run in runs if run.method == best and run.loss is not None),
            key=lambda run: (run.loss, run.name),
        ).name,
        "by_score": (min if less_is_better else max)(means, key=means.__getitem__)
        if means
        else None,
        "methods": {
            method: {
                "validation_loss": _as_json(losses[method].values()),
                "score": _as_json(scores[method].values()),
                "rank_hours": _cost(runs, method),
            }
            for method in order
        },
        "others": [
            {
                "method": method,
                "loss_difference": (by_loss := difference(losses[method], losses[best])),
                "score_difference": difference(scores[method], scores[best]),
                "verdict": _verdict(by_loss),
            }
            for method in order[1:]
        ],
    }


def difference(values: Mapping[int, float], best: Mapping[int, float]) -> dict[str, Any] | None:
    """Return the mean difference over the seeds of both, with its 95 % interval.

    ``low`` and ``high`` are None for a single seed; the whole is None without a common one.
    """
    found = [values[seed] - best[seed] for seed in sorted(values.keys() & best.keys())]
    if not found:
        return None
    middle = statistics.fmean(found)
    low = high = None
    if len(found) > 1:
        degrees = len(found) - 1
        point = _T[degrees - 1] if degrees <= len(_T) else 1.96 + 2.5 / degrees
        half = point * statistics.stdev(found) / len(found) ** 0.5
        low, high = middle - half, middle + half
    return {"mean": middle, "low": low, "high": high, "seeds": len(found)}


def _verdict(found: Mapping[str, Any] | None) -> str:
    if found is None or found["low"] is None:
        return UNKNOWN
    return APART if found["low"] > 0 else NOISE


def _by_seed(runs: Sequence[FinishedRun], method: str, name: str) -> dict[int, float]:
    values = {run.seed: getattr(run, name) for run in runs if run.method == method}
    return {seed: value for seed, value in values.items() if value is not None}


def _as_json(values: Any) -> dict[str, Any] | None:
    found = spread(list(values))
    if found is None:
        return None
    return {"mean": found.mean, "deviation": found.deviation, "runs": found.runs}


def _cost(runs: Sequence[FinishedRun], method: str) -> float | None:
    """Hours of a run of the method, on average."""
    return mean(run.rank_hours for run in runs if run.method == method)


def selection_table(selection: Mapping[str, Any], score: str, *, is_number: bool = False) -> Table:
    """One row a method, the best first: losses, scores, differences to the best, and costs.

    ``score`` is the title of the main score, which ``is_number`` says is no fraction.
    """

    def write_score(value: float) -> str:
        return numbers.score(value, is_number=is_number)

    others = {entry["method"]: entry for entry in selection["others"]}
    rows = []
    for method, entry in selection["methods"].items():
        other = others.get(method)
        rows.append(
            (
                method,
                _with_deviation(entry["validation_loss"], numbers.loss),
                _with_deviation(entry["score"], write_score),
                _with_interval(other and other["loss_difference"], 1, 4),
                _with_interval(other and other["score_difference"], 1 if is_number else 100, 2),
                other["verdict"] if other else "best",
                numbers.amount(entry["rank_hours"]),
            )
        )
    return Table(
        "Model selection",
        (
            *("Method", "Validation loss", score, "Loss − best [95 %]"),
            *("Score − best [95 %]", "Verdict", "Rank hours a run"),
        ),
        tuple(rows),
    )


def _with_deviation(value: Mapping[str, Any] | None, write: Any) -> str:
    if value is None:
        return numbers.MISSING
    text = str(write(value["mean"]))
    return text if value["deviation"] is None else f"{text} ± {write(value['deviation'])}"


def _with_interval(found: Mapping[str, Any] | None, factor: float, digits: int) -> str:
    if found is None:
        return numbers.MISSING

    def signed(value: float) -> str:
        return f"{factor * value:+.{digits}f}".replace("-", numbers.MINUS)

    text = signed(found["mean"])
    return (
        text
        if found["low"] is None
        else f"{text} [{signed(found['low'])}, {signed(found['high'])}]"
    )


def selection_sentences(selection: Mapping[str, Any]) -> list[str]:
    """What the selection says, in words, as Markdown."""
    near = [entry["method"] for entry in selection["others"] if entry["verdict"] == NOISE]
    unknown = [entry["method"] for entry in selection["others"] if entry["verdict"] == UNKNOWN]
    said = [
        f"By mean validation loss the best method is `{selection['method']}`, its best run "
        f"`{selection['run']}`."
    ]
    if selection["by_score"] not in (None, selection["method"]):
        said.append(f"By mean score it would be `{selection['by_score']}`.")
    if near:
        names = ", ".join(f"`{method}`" for method in near)
        said.append(f"Not to be told from it with these seeds: {names}.")
    if unknown:
        said.append("With a single seed nothing can be said about noise.")
    if selection["others"] and not unknown:
        said.append(
            "Intervals are of differences seed by seed (Student's t); that the best of "
            f"{len(selection['methods'])} was picked by the same numbers is not taken off."
        )
    return said
