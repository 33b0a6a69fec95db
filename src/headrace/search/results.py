"""What a search has found: combined rates, intervals, the control, importance, and its files."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState

from headrace import __version__
from headrace.report.search_page import render_search
from headrace.search import combine
from headrace.search.claims import finished
from headrace.search.combine import Bounds, Combined, Trials
from headrace.search.rates import distribution_of
from headrace.search.study import Part, Study
from headrace.search.study_file import FLAT, StudyFile
from headrace.shards import storage
from headrace.training.distributions import write_distribution

DISTRIBUTION_FILE = "distribution.json"
FLAT_FILE = "flat.json"
RESULTS_FILE = "search.json"
REPORT_FILE = "report.html"
_FANOVA, _PED_ANOVA = "fANOVA", "PED-ANOVA"
_LEAST_FOR_IMPORTANCE = 10
"""Finished trials that importance is computed from at least."""


def write_results(study: Study) -> dict[str, Any]:
    """Combine what is finished, and write distributions, ``search.json`` and the report.

    Returns:
        What is in ``search.json``.

    Raises:
        MissingExtraError: where jinja2 or matplotlib is not installed; all else is written.
    """
    results: dict[str, Any] = {
        "version": 1,
        "headrace": __version__,
        "study": study.file.model_dump(mode="json", exclude={"base"}),
        "network": study.space.as_json(),
        "b": combine.BASE,
        "searches": {},
    }
    for flat in (False, True):
        parts = [part for part in study.parts if part.is_flat is flat]
        if parts:
            results["searches"][FLAT if flat else "groups"] = _search(study, parts)
    _compare_best(results["searches"])
    _write(study.folder / RESULTS_FILE, results)
    page = render_search(study.file.name, results)
    storage.write_atomically(str(study.folder / REPORT_FILE), page.encode())
    return results


def _write(path: Path, value: Any) -> None:
    text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
    storage.write_atomically(str(path), text.encode())


def _search(study: Study, parts: Sequence[Part]) -> dict[str, Any]:
    """Trials and combined rates of all pairs of one search, the flat one or the other."""
    found: dict[str, Any] = {
        "groups": list(parts[0].groups),
        "pairs": {"-".join(part.tasks): _pair(part) for part in parts},
        "combined": None,
    }
    ranked = [ranked_trials(part) for part in parts]
    if not all(len(trials.values) for trials in ranked):
        return found
    combined = combine.combine(ranked, seed=study.file.sampler_seed)
    bounds, source = bounds_of(combined, study.file)
    found["combined"] = _as_json(combined, parts, bounds, source)
    names = parts[0].groups
    whole = all(len(finished(part)) >= study.file.trials for part in parts)
    flat = parts[0].is_flat
    write_distribution(
        study.folder / (FLAT_FILE if flat else DISTRIBUTION_FILE),
        distribution_of(
            study.space.flat() if flat else study.space,
            dict(zip(names, map(float, combined.rates), strict=True)),
            study=f"{study.file.name}: {len(parts)} pairs, "
            f"{min(len(trials.values) for trials in ranked)} trials each"
            + ("" if source is None else f", intervals over the {source}")
            + ("" if whole else ", not finished"),
            seeds=study.file.seeds,
            intervals=None
            if bounds is None
            else {
                name: (float(low), float(high))
                for name, (low, high) in zip(names, bounds.rates, strict=True)
            },
        ),
    )
    return found


def ranked_trials(part: Part) -> Trials:
    """The finished trials of a pair in the order of their ranks.

    A trial that ended early ranks behind all that were run whole, and those that came further
    before those that did not: its value is that of a shorter run.
    """
    trials = finished(part)
    rates = np.array([[trial.params[name] for name in part.groups] for trial in trials])
    keys = [
        (trial.state == TrialState.COMPLETE, trial.last_step or 0, trial.value)
        if trial.state == TrialState.PRUNED
        else (True, 0, trial.value)
        for trial in trials
    ]
    order = {key: place for place, key in enumerate(sorted(set(keys)))}
    places = np.array([order[key] for key in keys], dtype=np.float64)
    return Trials(rates.reshape(len(trials), len(part.groups)), places)


def bounds_of(combined: Combined, file: StudyFile) -> tuple[Bounds | None, str | None]:
    """The intervals that hold what they say for a sampler, and what they were made over.

    Those of rates end where the range does that was searched.
    """
    bounds, source = combined.by_pairs, "pairs"
    if file.sampler == "random" and combined.by_trials is not None:
        bounds, source = combined.by_trials, "trials"
    if bounds is None:
        return None, None
    low, high = file.range
    return replace(bounds, rates=np.clip(bounds.rates, low, high)), source


def _as_json(
    combined: Combined, parts: Sequence[Part], bounds: Bounds | None, source: str | None
) -> dict[str, Any]:
    trials = combined.by_trials
    return {
        "intervals_over": source,
        "geometric_mean": float(np.exp(np.log(combined.rates).mean())),
        "is_identified": None if bounds is None else bounds.is_identified,
        "rates": {
            name: {
                "rate": float(combined.rates[number]),
                "interval": None if bounds is None else bounds.rates[number].tolist(),
                "interval_over_trials": None if trials is None else trials.rates[number].tolist(),
                "ratio": float(combined.ratios[number]),
                "ratio_interval": None if bounds is None else bounds.ratios[number].tolist(),
                "deviates": None if bounds is None else bool(bounds.deviates[number]),
                "by_pair": {
                    "-".join(part.tasks): float(combined.by_pair[place, number])
                    for place, part in enumerate(parts)
                },
            }
            for number, name in enumerate(parts[0].groups)
        },
    }


def _pair(part: Part) -> dict[str, Any]:
    trials = finished(part)
    whole = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    best = max(whole, key=lambda trial: trial.value, default=None)
    kind, importance = _importance(part, whole)
    return {
        "finished": len(trials),
        "ended_early": len(trials) - len(whole),
        "failed": sum("error" in trial.user_attrs for trial in trials),
        "best": None
        if best is None
        else {"number": best.number, "value": best.value, "rates": dict(best.params)},
        "importance": importance,
        "importance_kind": kind,
        "history": [
            {
                "number": trial.number,
                "value": trial.value,
                "ended_early": trial.state == TrialState.PRUNED,
                "error": trial.user_attrs.get("error"),
                "rates": dict(trial.params),
            }
            for trial in trials
        ],
    }


def _importance(part: Part, whole: Sequence[Any]) -> tuple[str | None, dict[str, float] | None]:
    """How much of the values' variance the rate of each group explains, and how that is found.

    fANOVA (Hutter et al. 2014) needs scikit-learn; without it PED-ANOVA (Watanabe et al. 2023).
    """
    values = {trial.value for trial in whole}
    if len(part.groups) == 1 or len(whole) < _LEAST_FOR_IMPORTANCE or len(values) == 1:
        return None, None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if find_spec("sklearn") is None:
            kind, evaluator = _PED_ANOVA, PedAnovaImportanceEvaluator()
        else:
            from optuna.importance import FanovaImportanceEvaluator

            kind, evaluator = _FANOVA, FanovaImportanceEvaluator(seed=0)
        found = get_param_importances(
            part.study, evaluator=evaluator, params=list(part.groups), normalize=True
        )
    return kind, {name: float(found[name]) for name in part.groups}


def _compare_best(searches: dict[str, Any]) -> None:
    """Beside each pair of the control: how much better the best trial with groups is."""
    if FLAT not in searches:
        return
    for name, flat in searches[FLAT]["pairs"].items():
        shaped = searches["groups"]["pairs"][name]
        both = shaped["best"] and flat["best"]
        shaped["gain_over_flat"] = shaped["best"]["value"] - flat["best"]["value"] if both else None
