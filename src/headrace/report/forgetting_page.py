"""The page of an experiment about forgetting: Pareto plot, tables, and R as heat maps."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor
from typing import Any

import numpy as np

from headrace.counts import counted
from headrace.forgetting import tables
from headrace.report import numbers, palette
from headrace.report.forgetting_plots import marks_of, pareto_plot
from headrace.report.heat_map import Cell, Family, HeatMap, Row
from headrace.report.page import Tile, render_page, require_page_tools

TEMPLATE = "forgetting.html.j2"


@dataclass(frozen=True)
class SequenceMap:
    """The matrices of all methods on a sequence."""

    name: str
    order: str
    """``first a, then b``."""
    map: HeatMap


def render_forgetting(name: str, results: Mapping[str, Any]) -> str:
    """The page as text.

    Args:
        name: of the experiment, its heading.
        results: ``results.json``.

    Raises:
        MissingExtraError: where jinja2 or matplotlib is not installed.
    """
    require_page_tools()
    from markupsafe import Markup

    found = {
        method["title"]: {
            measure: method["estimates"]["sequences"][measure]["estimate"]
            for measure in ("p_o", "p_s")
        }
        for method in results["methods"].values()
        if method["runs"]
    }
    marks = marks_of({t: m for t, m in found.items() if all(m.values())})
    left = results["runs"] - results["runs_finished"]
    return render_page(
        TEMPLATE,
        name=name,
        facts=[
            counted(len(results["seeds"]), "seed"),
            counted(len(results["sequences"]) + len(results["shifts"]), "sequence"),
        ],
        notes=[f"{numbers.count(left)} of {numbers.count(results['runs'])} runs are not finished."]
        if left
        else [],
        tiles=_tiles(results),
        pareto=Markup(pareto_plot(marks)) if marks else None,
        tables=tables.all_tables(results),
        maps=_maps(results),
        scale=range(palette.SCALE_STEPS),
        percent=numbers.percent,
        note=tables.NOTE,
        settings=json.dumps(
            {title: method["settings"] for title, method in results["methods"].items()},
            indent=2,
            ensure_ascii=False,
        ),
    )


def _tiles(results: Mapping[str, Any]) -> list[Tile]:
    """The best methods by each of the three measures."""
    tiles = []
    for measure, label in (("p", "p_s + p_o"), ("p_o", "p_o"), ("p_s", "p_s")):
        means = {
            method["title"]: entry["mean"]
            for method in results["methods"].values()
            if (entry := method["estimates"]["sequences"][measure]["estimate"]) is not None
        }
        if means:
            best = max(means, key=lambda title: means[title])
            tiles.append(Tile(numbers.percent(means[best], 1), f"best {label}", best))
    return tiles


def _maps(results: Mapping[str, Any]) -> list[SequenceMap]:
    maps = []
    for name in (*results["sequences"], *results["shifts"]):
        order = results["orders"][name]
        matrices = {
            method["title"]: np.mean(values, axis=0)
            for method in results["methods"].values()
            if (values := [run["R"] for run in method["runs"] if run["sequence"] == name])
        }
        if matrices:
            maps.append(SequenceMap(name, f"first {', then '.join(order)}", _map(order, matrices)))
    return maps


def _map(order: Sequence[str], matrices: Mapping[str, Any]) -> HeatMap:
    """After the last stage in the row of the method, the stages before it below."""
    values = np.concatenate([matrix.ravel() for matrix in matrices.values()])
    low = floor(10 * float(values.min())) / 10
    high = max(ceil(10 * float(values.max())) / 10, low + 0.1)

    def cell(value: float, hover: str) -> Cell:
        step = palette.scale_step(value, low, high)
        return Cell(numbers.percent(value, 0), step, f"{hover}: {numbers.percent(value)}")

    def row(label: str, method: str, after: str, scores: Any) -> Row:
        cells = [
            cell(float(score), f"{method}, after {after}, on {task}")
            for task, score in zip(order, scores, strict=True)
        ]
        average = cell(float(scores.mean()), f"{method}, after {after}, mean")
        return Row(label, (*cells, average))

    families = tuple(
        Family(
            row(title, title, order[-1] if len(matrix) > 1 else "all together", matrix[-1]),
            tuple(
                row(f"after {order[stage]}", title, order[stage], matrix[stage])
                for stage in reversed(range(len(matrix) - 1))
            ),
        )
        for title, matrix in matrices.items()
    )
    return HeatMap(tuple(order), families, low, high)
