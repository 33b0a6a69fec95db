"""The generated parts of a card: Markdown from the facts, between marks that a check finds.

What a rebuild or a takedown changes stands in a block; all else comes from the description.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from headrace.corpus.card.facts import Facts
from headrace.corpus.card.takedowns import Takedown
from headrace.counts import counted
from headrace.report import corpus_tables, numbers
from headrace.report.table import Table, markdown_cell

_BLOCK = re.compile(r"<!-- counted: ([a-z ]+) -->\n(.*?)<!-- end of \1 -->", re.DOTALL)


def blocks_of(text: str) -> dict[str, str]:
    """Name -> content of the blocks of a file."""
    return dict(_BLOCK.findall(text))


def block(facts: Facts, name: str) -> str:
    """One of :data:`BLOCKS` with its marks."""
    content = BLOCKS[name](facts).rstrip("\n") + "\n"
    return f"<!-- counted: {name} -->\n{content}<!-- end of {name} -->"


def _sizes(facts: Facts) -> str:
    totals = facts.summary["totals"]
    words = "" if totals["words"] is None else f"{totals['words']:,} words, "
    entropy = facts.summary["entropy"]["language"]
    version = markdown_cell(facts.version) or "unknown"
    return (
        f"Version {version}: {counted(totals['documents'], 'document')}, "
        f"{totals['characters']:,} characters, {words}{totals['bytes']:,} bytes of text, in "
        f"{counted(len(facts.languages), 'language')} (as even as "
        f"{numbers.amount(entropy['effective'])} of equal size). Of {totals['read']:,} records "
        f"that were read, rules left out {totals['filtered']:,}, {totals['quarantined']:,} are in "
        f"quarantine, {totals['removed']:,} removed later."
    )


def _languages(facts: Facts) -> str:
    return corpus_tables.language_table(facts.summary).markdown()


def _warnings(facts: Facts) -> str:
    warnings = [*facts.warnings, *_licence_warnings(facts)]
    undetected = facts.summary["identification"]["undetected"]
    if undetected:
        warnings.append(f"the language of {counted(undetected, 'document')} is not known")
    if not warnings:
        return "None."
    return "".join(
        f"- {markdown_cell(warning[:1].upper() + warning[1:].rstrip('.'))}.\n"
        for warning in warnings
    )


def _licence_warnings(facts: Facts) -> Iterable[str]:
    for row in facts.summary["by"]["licence"]:
        if "unknown" in row["licence"].lower():
            yield f"the licence of {counted(row['documents'], 'document')} is not known"


def _governance(facts: Facts) -> str:
    return corpus_tables.sources_table(facts.sources).markdown()


def _by(column: str, title: str) -> Callable[[Facts], str]:
    return lambda facts: corpus_tables.group_table(facts.summary, column, title).markdown()


def _table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]], nothing: str) -> str:
    return Table("", columns, tuple(rows)).markdown() if rows else nothing


def _rules(facts: Facts) -> str:
    counts: dict[str, int] = {}
    for row in facts.summary["removal"]:
        counts[row["rule"]] = counts.get(row["rule"], 0) + row["documents"]
    seen = facts.summary["totals"]["documents"] + facts.summary["totals"]["filtered"]
    rows = [
        (rule, f"{count:,}", numbers.share(count / seen))
        for rule, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]
    return _table(("Rule", "Documents", "Share"), rows, "No rule left anything out.")


def _private(facts: Facts) -> str:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in facts.summary["private"]:
        found.setdefault(row["type"], []).append(row)
    rows = [
        (
            kind,
            f"{sum(row['findings'] for row in some):,}",
            f"{sum(row['documents'] for row in some):,}",
        )
        for kind, some in sorted(found.items())
    ]
    return _table(("Type", "Replaced", "Documents"), rows, "None was found, or none looked for.")


def _duplicates(facts: Facts) -> str:
    return corpus_tables.duplicates_table(facts.summary).markdown()


def _changes(facts: Facts) -> str:
    if not facts.takedowns:
        return "No document has been removed since the corpus was built."
    return "".join(f"- {markdown_cell(_change(entry))}.\n" for entry in facts.takedowns)


def _change(entry: Takedown) -> str:
    copies = f", {entry.near_duplicates:,} of them near-duplicates" if entry.near_duplicates else ""
    found = f", found by {' and '.join(entry.found_by)}" if entry.found_by else ""
    documents = counted(entry.documents, "document")
    return f"{entry.time}: {documents} removed{copies}{found}: {entry.state}"


BLOCKS: Mapping[str, Callable[[Facts], str]] = {
    "sizes": _sizes,
    "languages": _languages,
    "varieties": _by("variety", "Sizes by variety"),
    "warnings": _warnings,
    "governance": _governance,
    "sources": _by("source", "Sizes by source"),
    "regions": _by("region", "Sizes by region"),
    "licences": _by("licence", "Sizes by licence"),
    "rules": _rules,
    "private information": _private,
    "duplicates": _duplicates,
    "takedowns": _changes,
}
"""Name -> what is in it."""
