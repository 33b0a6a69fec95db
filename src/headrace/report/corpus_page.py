"""The page of a corpus: what it holds, for whom, what was left out, and how good it is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.corpus.languages.tags import UNDETERMINED
from headrace.counts import counted
from headrace.report import corpus_plots, corpus_tables, numbers
from headrace.report.corpus_tables import Matrix, Summary
from headrace.report.page import Tile, render_page, require_page_tools
from headrace.report.quality_terms import QUALITY_TERMS
from headrace.report.table import Table

TEMPLATE = "corpus.html.j2"
_GROUPS = {
    "variety": "Sizes by variety", "region": "Sizes by region", "source": "Sizes by source",
    "licence": "Sizes by licence", "register": "Sizes by register", "script": "Sizes by script",
    "format": "Sizes by format",
}  # fmt: skip
_DISAGREEMENTS = 20
"""Pairs of a declared and another detected language that the page lists."""


@dataclass(frozen=True)
class Comparison:
    """Another corpus beside this one."""

    name: str
    languages: Table
    filters: Matrix | None
    """What the other's quality filters would leave out here."""


def render_corpus(
    summary: Summary,
    corpus: Mapping[str, Any],
    sources: Sequence[Mapping[str, Any]],
    comparisons: Sequence[Comparison] = (),
) -> str:
    """The page as text.

    Args:
        summary: the numbers of ``report.json``.
        corpus: ``corpus.json``.
        sources: of the corpus, with their governance.
        comparisons: with other corpora.

    Raises:
        MissingExtraError: where jinja2 or matplotlib is not installed.
    """
    require_page_tools()
    from markupsafe import Markup

    sizes = {row["language"]: row["documents"] for row in summary["by"]["language"]}
    left_out = corpus_tables.left_out_of(summary)
    names = corpus_tables.languages(summary)
    bars = [(name, sizes.get(name, 0), left_out.get(name, 0)) for name in names]
    speakers = summary.get("speakers")
    quality, constant = _quality(summary)
    return render_page(
        TEMPLATE,
        name=summary["name"],
        facts=_facts(summary, corpus),
        notes=_notes(summary, corpus),
        tiles=_tiles(summary),
        language_figure=Markup(corpus_plots.language_plot(bars)) if bars else None,
        language_note=_cut(len(bars)),
        token_note=_tokens(summary),
        language_table=corpus_tables.language_table(summary),
        groups=[
            corpus_tables.group_table(summary, column, title) for column, title in _GROUPS.items()
        ],
        registers=corpus_tables.register_matrices(summary),
        cells=corpus_tables.cells_table(summary),
        entropy=corpus_tables.entropy_table(summary),
        speakers=corpus_tables.speakers_table(summary) if speakers else None,
        speakers_figure=Markup(corpus_plots.speakers_plot(speakers["languages"]))
        if speakers
        else None,
        not_in_table=", ".join(speakers["not_in_table"]) if speakers else "",
        removal=corpus_tables.removal_matrix(summary),
        private=corpus_tables.private_matrix(summary),
        duplicates=corpus_tables.duplicates_table(summary),
        identification=summary["identification"],
        methods=_methods(summary),
        undetected=corpus_tables.plain_table(
            "Documents in no known language, by source",
            ("Source", "Documents"),
            summary["identification"]["undetected_by_source"],
            1,
        ),
        disagreements=corpus_tables.plain_table(
            "Documents whose declared language is not the detected one",
            ("Declared", "Detected", "Documents"),
            summary["identification"]["disagreements"][:_DISAGREEMENTS],
            2,
        ),
        quality=[(measure, Markup(drawing)) for measure, drawing in quality],
        constant=", ".join(constant),
        terms={name.replace("_", " "): text for name, text in QUALITY_TERMS.items()},
        others=corpus_tables.OTHERS in corpus_tables.languages(summary),
        quality_table=corpus_tables.quality_table(summary),
        quarantine=corpus_tables.plain_table(
            "Records in quarantine",
            ("Source", "Reason", "Records"),
            summary["quarantine"],
            2,
        ),
        sources=corpus_tables.sources_table(sources),
        comparisons=comparisons,
        originals=", ".join(str(one["id"]) for one in sources if one.get("keep_original")),
        recipe=_recipe(corpus),
        count=numbers.count,
        counted=counted,
        share=numbers.share,
    )


def _facts(summary: Summary, corpus: Mapping[str, Any]) -> list[str]:
    facts = [
        f"version {summary['version']}" if summary["version"] else "",
        counted(_known_languages(summary), "language"),
        counted(len(summary["by"]["source"]), "source"),
        f"build {corpus['build']}" if corpus.get("build") else "",
    ]
    return [fact for fact in facts if fact]


def _notes(summary: Summary, corpus: Mapping[str, Any]) -> list[str]:
    notes = [str(warning) for warning in corpus.get("warnings") or ()]
    unknown = sum(
        row["documents"] for row in summary["by"]["licence"] if "unknown" in row["licence"].lower()
    )
    if unknown:
        share = numbers.share(unknown / summary["totals"]["documents"])
        notes.append(f"The licence of {counted(unknown, 'document')} ({share}) is not known")
    removed = summary["totals"]["removed"]
    if removed:
        notes.append(f"{counted(removed, 'record')} removed later, which do not count here")
    return [note[0].upper() + note[1:].rstrip(".") + "." for note in notes]


def _tiles(summary: Summary) -> list[Tile]:
    totals, found = summary["totals"], summary["identification"]
    entropy = summary["entropy"]["language"]
    findings = sum(row["findings"] for row in summary["private"])
    kinds = counted(len({row["type"] for row in summary["private"]}), "type")
    size = f"{_large(totals['bytes'])} bytes"
    if totals["words"] is not None:
        size += f", {_large(totals['words'])} words"
    if totals["tokens"] is not None:
        size = f"{_large(totals['tokens'])} tokens, {size}"
    tiles = [
        Tile(numbers.count(totals["documents"]), "documents", f"of {totals['read']:,} read"),
        Tile(_large(totals["characters"]), "characters", size),
    ]
    spread = f"as even as {numbers.amount(entropy['effective'])} of equal size"
    return [
        *tiles,
        Tile(numbers.count(_known_languages(summary)), "languages", spread),
        Tile(
            numbers.share(totals["filtered"] / totals["read"] if totals["read"] else None),
            "left out by rules",
            f"{counted(totals['filtered'], 'document')}",
        ),
        Tile(
            numbers.share(summary["duplicates"]["share"]),
            "duplicates",
            counted(summary["duplicates"]["clusters"], "cluster"),
        ),
        Tile(numbers.count(findings), "private items replaced", f"of {kinds}"),
        Tile(
            numbers.share(found["undetected_share"]),
            "in no known language",
            counted(found["undetected"], "document"),
        ),
        Tile(numbers.count(totals["quarantined"]), "in quarantine", "records that were no use"),
    ]


def _tokens(summary: Summary) -> str:
    """How the tokens were counted."""
    found = summary["tokens"]
    if found is None:
        return "Tokens were not counted, for want of a tokenizer: words and characters stand in."
    name = f"Tokens are those of {found['tokenizer']} ({found['fingerprint'][:8]}), without special"
    if found["counted"] == found["documents"]:
        return f"{name} tokens, of all documents."
    documents = counted(found["documents"], "document")
    return (
        f"{name} tokens, counted in {found['counted']:,} of {documents}: "
        f"up to {found['sample']:,} of each language and source. The others are taken to have as "
        "many in a byte as these."
    )


def _known_languages(summary: Summary) -> int:
    return sum(row["language"] != UNDETERMINED for row in summary["by"]["language"])


def _large(value: int) -> str:
    """A number to three digits with its unit: ``31.4 M``."""
    for power, unit in ((12, "T"), (9, "G"), (6, "M")):
        if value >= 10**power:
            return f"{numbers.amount(value / 10**power)} {unit}"
    return numbers.count(value)


def _cut(languages: int) -> str:
    largest = corpus_plots.LARGEST_LANGUAGES
    return f"The figure has the {largest} largest languages." if languages > largest else ""


def _methods(summary: Summary) -> str:
    methods = summary["identification"]["methods"]
    return ", ".join(f"{name} {count:,}" for name, count in methods.items())


def _quality(summary: Summary) -> tuple[list[tuple[str, str]], list[str]]:
    """Each measure and its figure, and the measures that are the same for nearly all documents.

    Languages are in the order of the other tables.
    """
    order = {name: place for place, name in enumerate(corpus_tables.languages(summary))}
    measures: dict[str, list[Mapping[str, Any]]] = {}
    for row in summary["quality"]:
        if row["language"] is not None:
            measures.setdefault(row["measure"], []).append(row)
    figures, constant = [], []
    for number, (measure, rows) in enumerate(measures.items()):
        words = measure.replace("_", " ")
        if len({value for row in rows for value in row["quantiles"]}) == 1:
            constant.append(f"{words} ({numbers.amount(rows[0]['quantiles'][0])})")
            continue
        rows = sorted(rows, key=lambda row: order.get(row["language"], 0))
        figures.append((words, corpus_plots.quality_plot(words, rows, number)))
    return figures, constant


def _recipe(corpus: Mapping[str, Any]) -> str | None:
    recipe = corpus.get("recipe")
    return None if recipe is None else json.dumps(recipe, indent=2, ensure_ascii=False)
