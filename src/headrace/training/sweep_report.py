"""What came out of a sweep: ``sweep.json`` and ``sweep.md``, made of the run folders alone."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headrace.counts import counted
from headrace.report import numbers
from headrace.report.run_folder import RunFolder, read_run_folder
from headrace.report.summary import Spread, language_results, mean, spread
from headrace.report.tables import Table
from headrace.report.terms import Terms, terms_of
from headrace.shards import storage
from headrace.training.sweep import LOG_FILE, Item, Sweep
from headrace.training.sweep_selection import (
    FinishedRun,
    select,
    selection_sentences,
    selection_table,
)

JSON_FILE = "sweep.json"
MARKDOWN_FILE = "sweep.md"


def write_sweep_report(sweep: Sweep) -> dict[str, Any]:
    """Write both files into the folder of the sweep, each whole or not at all.

    Returns the content of ``sweep.json``.  Several tasks of a job array may do this at once.
    """
    results = collect_sweep(sweep)
    for name, text in (
        (JSON_FILE, json.dumps(results, indent=1, ensure_ascii=False) + "\n"),
        (MARKDOWN_FILE, sweep_markdown(results)),
    ):
        storage.write_atomically(str(sweep.output / name), text.encode())
    return results


def collect_sweep(sweep: Sweep) -> dict[str, Any]:
    """Return the state and the scores of a sweep as a JSON-able object.

    ``methods`` has one entry a combination of settings: mean and sample standard deviation
    (n - 1) over its finished seeds of every language's final scores and validation loss.  ``best``
    names the method of the lowest mean validation loss: in ``overall`` of the branches of the last
    stage together, in ``branches`` of every branch.  Only methods take part all of whose seeds
    are finished.  ``selection`` is what :func:`headrace.training.sweep_selection.select` gives.
    """
    runs = {item.number: read_run_folder(item.folder) for item in sweep.items if item.is_finished}
    methods = {}
    for method in dict.fromkeys(item.method for item in sweep.items):
        members = [item for item in sweep.items if item.method == method]
        methods[method] = _method(members, [runs[i.number] for i in members if i.number in runs])
    return {
        "config": str(sweep.config_path),
        "task": sweep.items[0].config.headrace.task.type,
        "scores": next((dict(run.described_scores) for run in runs.values()), {}),
        "ranks": sweep.ranks,
        "runs": [_run(sweep, item) for item in sweep.items],
        "methods": methods,
        "best": _best(methods),
        "selection": select(
            [
                _for_selection(item, runs[item.number], sweep.ranks)
                for item in sweep.items
                if item.number in runs
            ],
            [name for name, entry in methods.items() if _is_complete(entry)],
            less_is_better=any(
                run.terms.main in run.terms.lower_is_better for run in runs.values()
            ),
        ),
    }


def _run(sweep: Sweep, item: Item) -> dict[str, Any]:
    log = item.folder / LOG_FILE
    return {
        "number": item.number,
        "name": item.name,
        "method": item.method,
        "settings": dict(item.settings),
        "seed": item.config.headrace.seed,
        "status": item.status,
        "exit_code": item.exit_code,
        "log": str(log.relative_to(sweep.output)) if log.exists() else None,
    }


def _method(members: Sequence[Item], finished: Sequence[RunFolder]) -> dict[str, Any]:
    """Scores of one combination over its finished seeds."""
    values: dict[str, dict[str, list[float]]] = {}
    for run in finished:
        for result in language_results(run):
            of_language = values.setdefault(result.language, {})
            scores = {name: result.scores.values.get(name) for name in run.terms.scores}
            for name, value in {**scores, "validation_loss": result.loss}.items():
                if value is not None:
                    of_language.setdefault(name, []).append(value)
    losses: dict[str, list[float]] = {}
    for run in finished:
        for branch in run.branches:
            if branch.validation_loss is not None:
                title = f"{branch.stage}/{branch.name}"
                losses.setdefault(title, []).append(branch.validation_loss)
    overall = [loss for run in finished if (loss := _last_loss(run)) is not None]
    return {
        "settings": dict(members[0].settings),
        "seeds": len(members),
        "seeds_finished": len(finished),
        "validation_loss": _as_json(spread(overall)),
        "loss_by_branch": {title: _as_json(spread(own)) for title, own in losses.items()},
        "languages": {
            language: {name: _as_json(spread(own)) for name, own in scores.items()}
            for language, scores in values.items()
        },
    }


def _last_loss(run: RunFolder) -> float | None:
    """Mean validation loss over the branches of the last stage, if all have one."""
    losses = [branch.validation_loss for branch in run.stages[-1].branches]
    known = [loss for loss in losses if loss is not None]
    return statistics.fmean(known) if known and len(known) == len(losses) else None


def _for_selection(item: Item, run: RunFolder, ranks: int) -> FinishedRun:
    results = language_results(run)
    seconds = item.seconds
    return FinishedRun(
        item.name,
        item.method,
        item.config.headrace.seed,
        _last_loss(run),
        mean(run.terms.main_of(result.scores.values) for result in results),
        None if seconds is None else ranks * seconds / 3600,
    )


def _is_complete(entry: dict[str, Any]) -> bool:
    return bool(entry["seeds_finished"] == entry["seeds"])


def _as_json(value: Spread | None) -> dict[str, Any] | None:
    if value is None:
        return None
    return {"mean": value.mean, "deviation": value.deviation, "runs": value.runs}


def _best(methods: dict[str, dict[str, Any]]) -> dict[str, Any]:
    whole = {name: entry for name, entry in methods.items() if _is_complete(entry)}
    branches = dict.fromkeys(title for entry in whole.values() for title in entry["loss_by_branch"])
    return {
        "overall": _lowest({name: entry["validation_loss"] for name, entry in whole.items()}),
        "branches": {
            title: _lowest(
                {name: entry["loss_by_branch"].get(title) for name, entry in whole.items()}
            )
            for title in branches
        },
    }


def _lowest(losses: dict[str, dict[str, Any] | None]) -> dict[str, Any] | None:
    known = {name: loss["mean"] for name, loss in losses.items() if loss is not None}
    if not known:
        return None
    name = min(known, key=lambda method: known[method])
    return {"method": name, "validation_loss": known[name]}


def sweep_markdown(results: dict[str, Any]) -> str:
    """Return the text of ``sweep.md``."""
    runs = results["runs"]
    finished = sum(run["status"] == "finished" for run in runs)
    parts = [f"# Sweep of {Path(results['config']).name}\n"]
    are = "is" if 1 in (finished, len(runs)) else "are"
    parts.append(f"{finished} of {counted(len(runs), 'run')} {are} finished.\n")
    parts += [
        f"- `{run['name']}` {run['status']}, exit code {run['exit_code']}: see `{run['log']}`\n"
        for run in runs
        if run["status"] == "failed"
    ]
    overall = results["best"]["overall"]
    if overall is not None:
        parts.append(
            f"Lowest validation loss of the last stage, the mean over its branches: "
            f"`{overall['method']}` ({numbers.loss(overall['validation_loss'])}).\n"
        )
    if results["selection"] is not None:
        parts.append(" ".join(selection_sentences(results["selection"])) + "\n")
    tables = sweep_tables(results)
    parts += [f"## {table.title}\n\n{table.markdown()}" for table in tables if table.rows]
    parts.append(
        f"{_terms(results).in_percent}, losses in nats per {_terms(results).loss_unit}; final "
        "scores, mean ± sample standard deviation over the seeds that are finished.\n"
    )
    return "\n".join(parts)


def sweep_tables(results: dict[str, Any]) -> list[Table]:
    """Return the tables of a sweep: methods, selection, scores by language, and by branch."""
    methods = results["methods"]
    terms = _terms(results)
    titles = terms.scores
    best = results["best"]["overall"]
    overview = tuple(
        (
            f"{name} (best)" if best and best["method"] == name else name,
            f"{entry['seeds_finished']} of {entry['seeds']}",
            _loss(entry["validation_loss"]),
        )
        for name, entry in methods.items()
    )
    scores = tuple(
        (
            language,
            name,
            *(_score(terms, score, own[language].get(score)) for score in titles),
            _loss(own[language].get("validation_loss")),
            str(_runs(own[language])),
        )
        for language in dict.fromkeys(
            language for entry in methods.values() for language in entry["languages"]
        )
        for name, entry in methods.items()
        if language in (own := entry["languages"])
    )
    choices = tuple(
        (title, choice["method"], numbers.loss(choice["validation_loss"]))
        for title, choice in results["best"]["branches"].items()
        if choice is not None
    )
    terms = _terms(results)
    selection = results["selection"]
    return [
        Table("Methods", ("Method", "Seeds", "Validation loss"), overview),
        *(
            [selection_table(selection, terms.main_title, is_number=terms.main in terms.numbers)]
            if selection
            else []
        ),
        Table(
            "Scores by language",
            ("Language", "Method", *titles.values(), "Validation loss", "Seeds"),
            scores,
            names=2,
        ),
        Table("Best method by branch", ("Branch", "Method", "Validation loss"), choices, names=2),
    ]


def _terms(results: dict[str, Any]) -> Terms:
    """The terms of the sweep's task, of the kinds of scores that its runs have."""
    own = (own for entry in results["methods"].values() for own in entry["languages"].values())
    there = {name for scores in own for name in scores}
    return terms_of(results["task"], there, results["scores"])


def _runs(scores: dict[str, Any]) -> int:
    return max((entry["runs"] for entry in scores.values()), default=0)


def _score(terms: Terms, name: str, value: dict[str, Any] | None) -> str:
    return numbers.plus_minus(Spread(**value) if value else None, is_number=name in terms.numbers)


def _loss(value: dict[str, Any] | None) -> str:
    if value is None:
        return numbers.MISSING
    text = numbers.loss(value["mean"])
    return text if value["deviation"] is None else f"{text} ± {numbers.loss(value['deviation'])}"
