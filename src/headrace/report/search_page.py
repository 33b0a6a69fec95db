"""The page of a search: history, importance, and the distribution with its intervals."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from headrace.counts import counted
from headrace.report import numbers, search_plots
from headrace.report.page import Tile, render_page, require_page_tools
from headrace.report.tables import Table

TEMPLATE = "search.html.j2"


def render_search(name: str, results: Mapping[str, Any]) -> str:
    """The page as text.

    Args:
        name: of the study, its heading.
        results: ``search.json``.

    Raises:
        MissingExtraError: where jinja2 or matplotlib is not installed.
    """
    require_page_tools()
    from markupsafe import Markup

    searches = results["searches"]
    shaped, flat = searches["groups"], searches.get("flat")
    combined = shaped["combined"]
    importance = {
        pair: facts["importance"] for pair, facts in shaped["pairs"].items() if facts["importance"]
    }
    kinds = {facts["importance_kind"] for facts in shaped["pairs"].values()} - {None}
    return render_page(
        TEMPLATE,
        name=name,
        facts=_facts(results),
        notes=_notes(results),
        tiles=_tiles(results),
        verdict=verdict(combined),
        over=combined["intervals_over"] if combined else None,
        distribution_figure=Markup(
            search_plots.distribution_plot(combined, flat and flat["combined"])
        )
        if combined
        else None,
        has_flat=bool(flat and flat["combined"]),
        distribution_table=_distribution_table(combined) if combined else None,
        histories=[
            (
                pair,
                Markup(
                    search_plots.history_plot(
                        f"history-{number}",
                        pair,
                        facts["history"],
                        flat["pairs"][pair]["history"] if flat else None,
                    )
                ),
            )
            for number, (pair, facts) in enumerate(shaped["pairs"].items())
            if facts["history"]
        ],
        pair_table=_pair_table(shaped, flat),
        importance_figure=Markup(search_plots.importance_plot(importance)) if importance else None,
        importance_kind=" and ".join(sorted(kinds)),
        importance_pairs=list(importance),
        settings=json.dumps(results["study"], indent=2, ensure_ascii=False),
    )


def verdict(combined: Mapping[str, Any] | None) -> str:
    """Whether the search tells the shape from a flat rate, as a sentence."""
    if combined is None:
        return "There is no distribution yet: a pair has no finished trial."
    if combined["is_identified"] is None:
        return (
            "Whether the shape is identified cannot be said yet: it takes two pairs, or, in a "
            "random search, 10 finished trials."
        )
    rates = combined["rates"]
    if len(rates) == 1:
        return "There is one group, so there is no shape."
    away = [name for name, facts in rates.items() if facts["deviates"]]
    named = ", ".join(away)
    if combined["is_identified"]:
        return (
            f"The shape is identified: over the {combined['intervals_over']}, the intervals taken "
            "together leave out one rate for all. "
            f"Groups whose own interval leaves out the geometric mean: {named}."
        )
    chance = (
        f"By itself, the interval of {named} leaves out the geometric mean, as that of one group "
        "in twenty does by chance."
        if away
        else "No interval leaves out the geometric mean."
    )
    return (
        f"The shape is not identified: over the {combined['intervals_over']}, one rate for all is "
        f"within the intervals. {chance}"
    )


def _facts(results: Mapping[str, Any]) -> list[str]:
    study = results["study"]
    words = [study["sampler"].upper() if study["sampler"] != "random" else "random search"]
    if study["pruner"]["type"] != "none":
        words.append(study["pruner"]["type"].replace("_", " "))
    network = results["network"]
    layers = ", ".join(f"{name} of {count} layers" for name, count in network["layers"].items())
    return [*words, f"{network['model_type']}, {layers}", f"b = {results['b']}"]


def _notes(results: Mapping[str, Any]) -> list[str]:
    wanted = results["study"]["trials"]
    left = {
        pair + (" with one rate" if search == "flat" else ""): wanted - facts["finished"]
        for search, found in results["searches"].items()
        for pair, facts in found["pairs"].items()
        if facts["finished"] < wanted
    }
    notes = []
    if left:
        listed = ", ".join(f"{count:,} of {name}" for name, count in left.items())
        notes.append(f"The study is not finished. Trials that are left: {listed}.")
    failed = sum(
        facts["failed"]
        for found in results["searches"].values()
        for facts in found["pairs"].values()
    )
    if failed:
        notes.append(f"{failed:,} trials diverged or failed, and have the value 0.")
    return notes


def _tiles(results: Mapping[str, Any]) -> list[Tile]:
    searches = results["searches"]
    pairs = searches["groups"]["pairs"]
    done = sum(f["finished"] for found in searches.values() for f in found["pairs"].values())
    wanted = results["study"]["trials"] * sum(len(found["pairs"]) for found in searches.values())
    tiles = [
        Tile(numbers.count(done), "finished trials", f"of {numbers.count(wanted)}"),
        Tile(
            numbers.count(len(pairs)),
            "pairs of tasks",
            counted(len(results["study"]["seeds"]), "seed"),
        ),
    ]
    combined = searches["groups"]["combined"]
    if combined is not None:
        tiles.append(
            Tile(f"{combined['geometric_mean']:.2g}", "geometric mean", "of the combined rates")
        )
    flat = searches.get("flat")
    if flat is not None and flat["combined"] is not None:
        (rate,) = flat["combined"]["rates"].values()
        tiles.append(Tile(f"{rate['rate']:.2g}", "one rate for all", "combined in the same way"))
    return tiles


def _distribution_table(combined: Mapping[str, Any]) -> Table:
    pairs = list(next(iter(combined["rates"].values()))["by_pair"])
    rows = []
    for name, facts in combined["rates"].items():
        bounds, ratio = facts["interval"], facts["ratio_interval"]
        rows.append(
            (
                name,
                f"{facts['rate']:.2e}",
                _interval(bounds, ".1e"),
                _interval(facts["interval_over_trials"], ".1e"),
                f"{facts['ratio']:.2f}",
                _interval(ratio, ".2g"),
                {None: numbers.MISSING, True: "yes", False: "no"}[facts["deviates"]],
                *(f"{facts['by_pair'][pair]:.2e}" for pair in pairs),
            )
        )
    columns = (
        "Group", "Rate", "95 % interval", "Over trials", "Ratio to mean", "95 % interval",
        "Leaves out 1", *pairs,
    )  # fmt: skip
    return Table("Combined learning rates", columns, tuple(rows))


def _interval(bounds: list[float] | None, form: str) -> str:
    return numbers.MISSING if bounds is None else f"{bounds[0]:{form}} to {bounds[1]:{form}}"


def _pair_table(shaped: Mapping[str, Any], flat: Mapping[str, Any] | None) -> Table:
    rows = []
    for pair, facts in shaped["pairs"].items():
        control = flat["pairs"][pair] if flat else None
        gain = facts.get("gain_over_flat")
        rows.append(
            (
                pair,
                numbers.count(facts["finished"]),
                numbers.count(facts["ended_early"]),
                _best(facts),
                numbers.MISSING if control is None else numbers.count(control["finished"]),
                numbers.MISSING if control is None else _best(control),
                numbers.MISSING if gain is None else f"{gain:+.4f}".replace("-", numbers.MINUS),
            )
        )
    columns = (
        "Pair", "Trials", "Ended early", "Best p_s + p_o", "Trials, one rate",
        "Best, one rate", "Difference",
    )  # fmt: skip
    return Table("Pairs of tasks", columns, tuple(rows))


def _best(facts: Mapping[str, Any]) -> str:
    return numbers.MISSING if facts["best"] is None else f"{facts['best']['value']:.4f}"
