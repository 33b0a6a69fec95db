"""What can be wrong with vectors, method and objective, and what there is to choose from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from headrace.counts import counted
from headrace.errors import Problem
from headrace.selection.chosen import METHODS, Method, Objective
from headrace.selection.limits import Facts, Limits, sum_by_group
from headrace.selection.neighbours import NeighbourGraph
from headrace.selection.rows import Rows
from headrace.selection.vectors import Table

BALANCED = "balanced"
"""The trade-off ``n/k - 2``, with which gains reach 0 at about k rows."""


def facts_of(
    rows: Rows,
    group_names: Sequence[str],
    costs: NDArray[np.int64] | None,
    required: NDArray[np.int64],
) -> Facts:
    """What there is to choose from, over all ranks; ``required`` are rows of this one."""
    count, total = len(group_names), rows.ranks.sum
    cheapest = group_costs = required_costs = None
    if costs is not None:
        least = int(costs.min()) if len(costs) else np.iinfo(np.int64).max
        cheapest = -int(rows.ranks.max(np.array([-least]))[0])
        group_costs = total(sum_by_group(rows.groups, costs, count))
        required_costs = total(sum_by_group(rows.groups[required], costs[required], count))
    return Facts(
        group_names,
        total(np.bincount(rows.groups, minlength=count).astype(np.int64)),
        total(np.bincount(rows.groups[required], minlength=count).astype(np.int64)),
        group_costs,
        required_costs,
        cheapest,
    )


def shape_problems(
    vectors: Table, groups: NDArray[np.int32] | None, costs: NDArray[np.int64] | None
) -> list[Problem]:
    """Arrays of this rank that are not what they have to be."""
    problems = []
    if vectors.ndim != 2 or vectors.dtype.kind != "f" or not vectors.shape[-1]:
        problems.append(
            Problem(
                "not a table of floating-point vectors",
                "vectors",
                f"{vectors.dtype} {list(vectors.shape)}",
                "Give [rows, dimensions] fp16, fp32 or fp64",
            )
        )
    for name, values in (("groups", groups), ("costs", costs)):
        if values is not None and len(values) != len(vectors):
            problems.append(
                Problem(
                    f"not one for each of the {counted(len(vectors), 'row')}",
                    name,
                    f"{len(values):,}",
                )
            )
    if costs is not None and len(costs) and int(costs.min()) < 1:
        problems.append(
            Problem("a row costs nothing", "costs", f"{int(costs.min())}", "Costs are 1 or more")
        )
    return problems


def method_problems(
    objective: Objective, method: Method, trade_off: float | str, limits: Limits
) -> list[Problem]:
    """What does not go together."""
    problems = []
    if method not in METHODS[objective]:
        remedy = f"One of {', '.join(METHODS[objective])}"
        problems.append(Problem(f"not a method for {objective}", "method", method, remedy))
    by_number = method == "exact_greedy" or (objective, method) == ("graph_cut_hinge", "greedi")
    if by_number and limits.budget is not None:
        problems.append(
            Problem(
                "the greedy of Algorithm 1 picks a number of rows and keeps no budget",
                "method",
                method,
                "Take frank_wolfe" if objective == "graph_cut" else "Give rows or fraction",
            )
        )
    if trade_off == BALANCED:
        if limits.budget is not None:
            problems.append(
                Problem(
                    "a balanced trade-off is n/k - 2, and a budget does not say what k is",
                    "trade_off",
                    BALANCED,
                    "Give a number",
                )
            )
    elif isinstance(trade_off, str) or not (np.isfinite(trade_off) and trade_off >= 0):
        problems.append(
            Problem("out of range", "trade_off", str(trade_off), "Give a number, 0 or more")
        )
    return problems


def parts_problems(parts: int) -> list[Problem]:
    """Whether rows can be cut in so many parts."""
    return [] if parts >= 1 else [Problem("out of range", "parts", f"{parts:,}", "Give 1 or more")]


def one_pass_problems(limits: Limits, sample_rows: int, warm_passes: int) -> list[Problem]:
    """What does not go with one pass."""
    problems = [
        Problem("out of range", name, str(value), f"Give {least} or more")
        for name, value, least in (
            ("sample_rows", sample_rows, 1), ("warm_passes", warm_passes, 0),
        )
        if value < least
    ]  # fmt: skip
    if limits.budget is not None:
        problems.append(
            Problem(
                "one pass chooses a number of rows and keeps no budget",
                "method",
                "one_pass",
                "Take frank_wolfe",
            )
        )
    return problems


def graph_problems(objective: Objective, graph: NeighbourGraph | None, total: int) -> list[Problem]:
    """Whether the graph is one of these rows, and needed."""
    if objective == "graph_cut":
        return []
    if graph is None:
        remedy = "Make one with neighbour_graph"
        return [Problem(f"{objective} needs a neighbour graph", "graph", None, remedy)]
    if len(graph.indices) != total:
        found = counted(len(graph.indices), "row")
        return [
            Problem(f"not a graph of the {counted(total, 'row')}", "graph", found, "Make it again")
        ]
    return []
