"""What came out of an experiment: ``results.json``, made of the matrices of the runs alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timezone
from typing import Any

import numpy as np

from headrace.forgetting.experiment import (
    START_FILE,
    chosen_values,
    is_decided,
    tried_values,
)
from headrace.forgetting.experiment_file import sequence_name, settings_of
from headrace.forgetting.intervals import Runs, estimate
from headrace.forgetting.matrix import MEASURES, Matrix
from headrace.forgetting.trials import Cell, Setup
from headrace.training.results import write_json

RESULTS_FILE = "results.json"


def write_results(setup: Setup, environment: Mapping[str, str]) -> dict[str, Any]:
    """Collect what is finished, write ``results.json``, and return its content.

    Args:
        setup: the experiment.
        environment: facts about software and machine.

    Raises:
        UserError: for runs of other settings in the folder.
    """
    results = collect(setup)
    results = {
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "environment": dict(environment),
        **results,
    }
    write_json(setup.output / RESULTS_FILE, results)
    return results


def collect(setup: Setup) -> dict[str, Any]:
    """All results as a JSON-able object.

    ``methods`` has for each method its settings, what was chosen among what, its runs with R and
    all measures, and ``estimates``: mean and interval of each measure over the ``sequences`` and
    over the ``shifts`` together and for each sequence alone, with ``difference``, the same of its
    differences to the reference method.
    """
    experiment = setup.experiment
    chosen = chosen_values(setup)
    names = [name for name in experiment.methods if is_decided(experiment, name, chosen)]
    runs = {name: _runs(setup, name, chosen) for name in names}
    reference = runs.get(experiment.reference_name, {})
    groups = {
        "sequences": [sequence_name(order) for order in experiment.sequences],
        "shifts": [sequence_name(order) for order in experiment.shifts],
    }
    return {
        "reference": experiment.reference_name,
        "score": experiment.score,
        "seeds": experiment.seeds,
        "orders": {
            sequence_name(order): order
            for order in (*experiment.sequences, *experiment.shifts, *_tuning_orders(setup))
        },
        **groups,
        "tuning": None
        if experiment.tuning is None
        else {
            "sequences": [sequence_name(order) for order in experiment.tuning.sequences],
            "seeds": experiment.tuning.seeds,
            "values": experiment.tuning.values,
        },
        "tasks": {
            name: {
                split: setup.manifests[url].samples
                for split, url in (
                    ("train", section.train),
                    ("validation", section.validation),
                    ("test", section.test),
                )
            }
            for name, section in experiment.tasks.items()
        },
        "runs": len(experiment.methods) * len(setup.compared_cells()),
        "runs_finished": sum(map(len, runs.values())),
        "methods": {
            name: {
                "title": experiment.title(name),
                "settings": settings_of(experiment, name, chosen),
                "tuning": _tuning(setup, name, chosen),
                "runs": [
                    {
                        "sequence": sequence,
                        "seed": seed,
                        "R": matrix.values.tolist(),
                        "start": None if matrix.start is None else matrix.start.tolist(),
                        **matrix.measures(),
                    }
                    for (sequence, seed), matrix in runs[name].items()
                ],
                "estimates": _estimates(
                    runs[name], None if name == experiment.reference_name else reference, groups
                ),
            }
            for name in names
        },
    }


def _tuning_orders(setup: Setup) -> Sequence[Sequence[str]]:
    tuning = setup.experiment.tuning
    return [] if tuning is None else tuning.sequences


def _runs(setup: Setup, method: str, chosen: Mapping[str, Mapping[str, Any]]) -> Runs:
    found: dict[tuple[str, int], Matrix] = {}
    for cell in setup.compared_cells():
        matrix = setup.plan(setup.trial(cell, method, chosen)).matrix(cell.splits)
        if matrix is not None:
            found[cell.sequence, cell.seed] = replace(matrix, start=_start(cell, matrix.order))
    return found


def _start(cell: Cell, order: Sequence[str]) -> Any:
    path = cell.folder / START_FILE
    if not path.exists():
        return None
    scores = json.loads(path.read_text(encoding="utf-8"))
    return np.array([scores[task] for task in order])


def _tuning(setup: Setup, method: str, chosen: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    """What was tried, and the scores of what was chosen on each sequence."""
    if not setup.experiment.methods[method].is_tuned:
        return None
    by_sequence: dict[str, list[list[float]]] = {}
    for cell in setup.tuning_cells():
        matrix = setup.plan(setup.trial(cell, method, chosen)).matrix(cell.splits)
        if matrix is not None:
            pair = [matrix.measure("p_o") or 0.0, matrix.measure("p_s") or 0.0]
            by_sequence.setdefault(cell.sequence, []).append(pair)
    return {
        "tried": [{"values": v, "p": p} for v, p in tried_values(setup, method, chosen)],
        "chosen": chosen[method],
        "by_sequence": {
            name: dict(zip(("p_o", "p_s"), np.mean(pairs, axis=0).tolist(), strict=True))
            for name, pairs in by_sequence.items()
        },
    }


def _estimates(
    runs: Runs, reference: Runs | None, groups: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """By group or sequence, then by measure."""
    parts = {name: members for name, members in groups.items() if members}
    parts |= {name: [name] for members in groups.values() for name in members}
    found: dict[str, Any] = {}
    for part, members in parts.items():
        own = {key: matrix for key, matrix in runs.items() if key[0] in members}
        found[part] = {}
        for measure in MEASURES:
            mean = estimate(own, measure)
            difference = None if reference is None else estimate(own, measure, reference)
            found[part][measure] = {
                "estimate": None if mean is None else asdict(mean),
                "difference": None if difference is None else asdict(difference),
            }
    return found
