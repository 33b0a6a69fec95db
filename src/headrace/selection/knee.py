"""What to say of a selection whose lambda is past the knee."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from headrace.counts import counted


def knee_warning(report: Mapping[str, Any], setting: str) -> str | None:
    """A warning that lambda, or the hinge, takes too much for the number of rows, or None.

    Args:
        report: ``selection.json``.
        setting: what lambda is called where it is set.
    """
    place = report["first_negative_gain"]
    if place is None or report["method"] not in ("frank_wolfe", "exact_greedy", "greedi"):
        return None
    largest = report["suggested_trade_off"]
    if report["maximised"] == "graph_cut_hinge" and largest is None:
        return (
            f"from sample {place:,} on, each lowers the objective: what is left is too similar to "
            f"what is chosen. Choose fewer rows, a higher threshold or a lower penalty"
        )
    knee = "" if report["knee"] is None else f" (its knee is at about {report['knee']:,.0f})"
    advice = [f"choose at most {place - 1:,}"] if place > 1 else []
    balanced = max(0.0, report["rows"] / report["chosen"] - 2)
    if balanced < report["trade_off"]:
        advice.append(f"take {setting} balanced, which is n/k - 2 = {balanced:.3g}")
    if largest is not None:
        advice.append(f"take {setting} {_down(largest):g}, with which none does")
    return (
        f"from sample {place:,} on, each lowers the objective: lambda {report['trade_off']:g} is "
        f"too large for {report['chosen']:,} of {counted(report['rows'], 'row')}{knee}. "
        f"To mend it, {', or '.join(advice or ['choose by facility location'])}"
    )


def _down(value: float) -> float:
    """The largest number of three digits that is not above a value of 0 or more."""
    if value == 0:
        return 0.0
    places = 2 - math.floor(math.log10(value))
    scale = 10.0 ** abs(places)
    return math.floor(value * scale) / scale if places > 0 else math.floor(value / scale) * scale
