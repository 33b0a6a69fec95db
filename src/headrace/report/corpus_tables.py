"""The tables of a corpus's page, from the numbers of ``report.json``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.report import numbers
from headrace.report.heat_map import Cell, Row
from headrace.report.palette import SCALE_STEPS
from headrace.report.table import Table

Summary = Mapping[str, Any]


@dataclass(frozen=True)
class Matrix:
    """A table of coloured numbers: the darker, the more of the largest."""

    title: str
    corner: str
    """What the rows are."""
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


OTHERS = "others"
"""Stands for the languages of which nothing was kept."""


def languages(summary: Summary) -> list[str]:
    """Languages with documents, most first, and :data:`OTHERS` if rules left others out."""
    kept = [row["language"] for row in summary["by"]["language"]]
    return list(dict.fromkeys([*kept, *(row["language"] for row in _removal(summary))]))


def left_out_of(summary: Summary) -> dict[str, int]:
    """Language -> documents that a rule left out."""
    counts: dict[str, int] = defaultdict(int)
    for row in _removal(summary):
        counts[row["language"]] += row["documents"]
    return counts


def _removal(summary: Summary) -> list[dict[str, Any]]:
    """What rules left out, with all languages of which nothing was kept as one."""
    kept = {row["language"] for row in summary["by"]["language"]}
    rows = [dict(row) for row in summary["removal"] if row["language"] in kept]
    gone = [row for row in summary["removal"] if row["language"] not in kept]
    read = sum({row["language"]: row["of"] for row in gone}.values())
    rules: dict[str, int] = defaultdict(int)
    for row in gone:
        rules[row["rule"]] += row["documents"]
    rows += [
        {"language": OTHERS, "rule": rule, "documents": n, "of": read, "share": n / read}
        for rule, n in sorted(rules.items())
    ]
    return rows


def language_table(summary: Summary) -> Table:
    """Sizes of each language, its share, and how much of it the rules left out."""
    sizes = {row["language"]: row for row in summary["by"]["language"]}
    left_out = left_out_of(summary)
    total = summary["totals"]
    nothing = {"documents": 0, "bytes": 0, "characters": 0, "words": None, "tokens": None}
    rows = []
    for language in languages(summary):
        row = sizes.get(language, nothing)
        rows.append((language, *_sizes(row, summary), _rate(left_out[language], row["documents"])))
    rate = _rate(sum(left_out.values()), total["documents"])
    rows.append(("all", *_sizes(total, summary), rate))
    return Table(
        "Sizes by language",
        ("Language", *_columns(summary), "Left out by rules"),
        tuple(rows),
        totals=1,
    )


def _columns(summary: Summary) -> tuple[str, ...]:
    """Names of what :func:`_sizes` gives; tokens where they were counted."""
    tokens = ("Tokens",) if summary["tokens"] else ()
    return ("Documents", "Characters", "Share", "Bytes", "Words", *tokens)


def _sizes(row: Mapping[str, Any], summary: Summary) -> tuple[str, ...]:
    total = summary["totals"]
    share = row["characters"] / total["characters"] if total["characters"] else None
    tokens = (numbers.count(row["tokens"]),) if summary["tokens"] else ()
    return (
        numbers.count(row["documents"]),
        numbers.count(row["characters"]),
        numbers.share(share),
        numbers.count(row["bytes"]),
        numbers.count(row["words"]),
        *tokens,
    )


def _rate(left_out: int, kept: int) -> str:
    seen = left_out + kept
    return numbers.share(left_out / seen if seen else None)


def group_table(summary: Summary, column: str, title: str) -> Table:
    """Documents, characters and tokens by another column."""
    chosen = [0, 1, 2, *range(5, len(_columns(summary)))]
    return Table(
        title,
        (column.capitalize(), *(_columns(summary)[place] for place in chosen)),
        tuple(
            (row[column], *(_sizes(row, summary)[place] for place in chosen))
            for row in summary["by"][column]
        ),
    )


def cells_table(summary: Summary) -> Table:
    """Language x region x source x licence x register."""
    names = ("language", "region", "source", "licence", "register")
    return Table(
        "Sizes by language, region, source, licence and register",
        (*(name.capitalize() for name in names), *_columns(summary)),
        tuple((*(row[name] for name in names), *_sizes(row, summary)) for row in summary["cells"]),
        names=len(names),
    )


def sources_table(sources: Iterable[Mapping[str, Any]]) -> Table:
    """Who answers for each source, and by what right it is here."""
    names = {
        "id": "Source", "title": "Title", "custodian": "Custodian", "licence": "Licence",
        "consent_basis": "Consent basis", "jurisdiction": "Jurisdiction", "region": "Region",
        "terms_of_service": "Terms of service",
    }  # fmt: skip
    sources = list(sources)
    said = {name: title for name, title in names.items() if any(one.get(name) for one in sources)}
    rows = tuple(
        tuple(str(source.get(name) or numbers.MISSING) for name in said) for source in sources
    )
    return Table("Governance of the sources", tuple(said.values()), rows, names=len(said))


def speakers_table(summary: Summary) -> Table:
    """Shares in the corpus beside shares of speakers."""
    return Table(
        "Languages and their speakers",
        ("Language", "Speakers", "Share of speakers", "Documents", "Characters",
         "Share of characters", "Ratio"),
        tuple(
            (
                row["language"],
                numbers.amount(row["speakers"]),
                numbers.share(row["share_of_speakers"]),
                numbers.count(row["documents"]),
                numbers.count(row["characters"]),
                numbers.share(row["share_of_characters"]),
                numbers.amount(row["ratio"]),
            )
            for row in summary["speakers"]["languages"]
        ),
    )  # fmt: skip


def entropy_table(summary: Summary) -> Table:
    """How evenly the characters are spread."""
    return Table(
        "Entropy of the shares of characters",
        ("Over", "Entropy (bits)", "At most", "Effective number"),
        tuple(
            (
                f"{name}s",
                f"{row['bits']:.3f}",
                f"{row['largest']:.3f}",
                numbers.amount(row["effective"]),
            )
            for name, row in summary["entropy"].items()
        ),
    )


def removal_matrix(summary: Summary) -> Matrix | None:
    """Share of the documents of each language that each rule left out."""
    columns = languages(summary)
    shares = {(row["rule"], row["language"]): row for row in _removal(summary)}
    if not shares:
        return None
    highest = max(row["share"] for row in shares.values())
    total = summary["totals"]["documents"] + summary["totals"]["filtered"]
    counts: dict[str, int] = defaultdict(int)
    for (rule, _), row in shares.items():
        counts[rule] += row["documents"]
    rows = []
    for rule, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        cells = [
            _share_cell(rule, language, shares.get((rule, language)), highest)
            for language in columns
        ]
        hover = f"{rule}, all languages: {count:,} of {total:,} documents"
        share = count / total
        cells.append(Cell(numbers.percent(share, 1), _step(share, highest), hover))
        rows.append(Row(rule, tuple(cells)))
    title = "Documents that each rule left out, in percent of those of the language"
    return Matrix(title, "Rule", (*columns, "all"), tuple(rows))


def filters_matrix(
    rows: Sequence[Mapping[str, Any]], summary: Summary, other: str
) -> Matrix | None:
    """Share of the documents of each language that break the quality limits of another corpus."""
    if not rows:
        return None
    found = {(row["measure"], row["language"]): row for row in rows}
    columns = [row["language"] for row in summary["by"]["language"]]
    highest = max(row["documents"] / row["of"] for row in rows)
    measures = dict.fromkeys(row["measure"] for row in rows if row["measure"] != "any")
    lines = [_limit_row(measure, columns, found, highest) for measure in (*measures, "any")]
    title = f"What the quality limits of {other} would leave out here"
    return Matrix(title, "Limit of", tuple(columns), tuple(lines))


def _limit_row(
    measure: str,
    columns: Sequence[str],
    found: Mapping[tuple[str, str], Mapping[str, Any]],
    highest: float,
) -> Row:
    cells = []
    for language in columns:
        row = found.get((measure, language))
        share = {} if row is None else {**row, "share": row["documents"] / row["of"]}
        cells.append(_share_cell(measure, language, share or None, highest))
    return Row(measure, tuple(cells))


def _share_cell(rule: str, language: str, row: Mapping[str, Any] | None, highest: float) -> Cell:
    if row is None:
        return Cell(numbers.MISSING, None, f"{rule}, {language}: none")
    hover = f"{rule}, {language}: {row['documents']:,} of {row['of']:,} documents"
    return Cell(numbers.percent(row["share"], 1), _step(row["share"], highest), hover)


def private_matrix(summary: Summary) -> Matrix | None:
    """Findings of each type of private information a million characters of each language."""
    characters = {row["language"]: row["characters"] for row in summary["by"]["language"]}
    found = {(row["type"], row["language"]): row for row in summary["private"]}
    if not found:
        return None
    rates = {
        (kind, language): 1e6 * row["findings"] / characters[language]
        for (kind, language), row in found.items()
        if characters.get(language)
    }
    highest = max(rates.values(), default=1.0)
    counts: dict[str, int] = defaultdict(int)
    for (kind, _), row in found.items():
        counts[kind] += row["findings"]
    columns = [row["language"] for row in summary["by"]["language"]]
    rows = []
    for kind, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        cells = []
        for language in columns:
            row, rate = found.get((kind, language)), rates.get((kind, language))
            if row is None or rate is None:
                cells.append(Cell(numbers.MISSING, None, f"{kind}, {language}: none"))
                continue
            hover = f"{kind}, {language}: {row['findings']:,} in {row['documents']:,} documents"
            cells.append(Cell(numbers.amount(rate), _step(rate, highest), hover))
        rate = 1e6 * count / (summary["totals"]["characters"] or 1)
        hover = f"{kind}, all languages: {count:,}"
        cells.append(Cell(numbers.amount(rate), _step(rate, highest), hover))
        rows.append(Row(kind, tuple(cells)))
    title = "Private information that was replaced: findings a million characters of the language"
    return Matrix(title, "Type", (*columns, "all"), tuple(rows))


def register_matrices(summary: Summary) -> list[Matrix]:
    """Of each register tag the shares of its values in the documents of each language."""
    totals = {row["language"]: row["documents"] for row in summary["by"]["language"]}
    matrices = []
    for tag in summary["registers"]:
        if "values" not in tag:
            continue
        counts = {(row["language"], row["value"]): row["documents"] for row in tag["values"]}
        values = tuple(dict.fromkeys(row["value"] for row in tag["values"]))
        rows = []
        for language, total in totals.items():
            cells = []
            for value in values:
                count = counts.get((language, value), 0)
                hover = f"{language}, {value}: {count:,} of {total:,} documents"
                cells.append(Cell(numbers.percent(count / total, 0), _step(count, total), hover))
            rows.append(Row(language, tuple(cells)))
        matrices.append(Matrix(str(tag["tag"]).replace("_", " "), "Language", values, tuple(rows)))
    return matrices


def _step(value: float, highest: float) -> int:
    """The step of the colours; the square root keeps small values apart."""
    return round((value / highest) ** 0.5 * (SCALE_STEPS - 1)) if highest else 0


def quality_table(summary: Summary) -> Table:
    """Quantiles of each measure by language."""
    return Table(
        "Quality measures by language",
        ("Measure", "Language", "Documents", "5 %", "25 %", "Median", "75 %", "95 %"),
        tuple(
            (
                row["measure"],
                row["language"] or "all",
                numbers.count(row["documents"]),
                *map(numbers.amount, row["quantiles"]),
            )
            for row in summary["quality"]
        ),
        names=2,
    )


def duplicates_table(summary: Summary) -> Table:
    """Clusters of copies, and what was left out for being one."""
    found = summary["duplicates"]
    rows = [
        ("Clusters of two and more", numbers.count(found["clusters"])),
        *((f"Of these {kind}", numbers.count(n)) for kind, n in found["kinds"].items()),
        ("Documents in them", numbers.count(found["documents_in_clusters"])),
        ("Largest cluster", numbers.count(found["largest"])),
        *((f"Left out: {rule}", numbers.count(n)) for rule, n in found["left_out"].items()),
        ("Left out, of all that were compared", numbers.share(found["share"])),
    ]
    return Table("Duplicates", ("Quantity", "Documents"), tuple(rows))


def plain_table(
    title: str, columns: Sequence[str], rows: Iterable[Mapping[str, Any]], names: int
) -> Table:
    """Rows of named values, the last of which is a count."""
    return Table(
        title,
        tuple(columns),
        tuple(
            (*map(str, list(row.values())[:names]), *map(numbers.count, list(row.values())[names:]))
            for row in rows
        ),
        names=names,
    )


def comparison_table(summary: Summary, other: Summary) -> Table:
    """Languages of two corpora side by side."""
    here, there = (
        {row["language"]: row for row in one["by"]["language"]} for one in (summary, other)
    )
    outs = left_out_of(summary), left_out_of(other)
    rows = []
    for language in dict.fromkeys([*languages(summary), *languages(other)]):
        cells = [language]
        for sizes, out, one in ((here, outs[0], summary), (there, outs[1], other)):
            row = sizes.get(language, {"documents": 0, "characters": 0})
            total = one["totals"]["characters"]
            cells += [
                numbers.count(row["documents"]),
                numbers.share(row["characters"] / total if total else None),
                _rate(out.get(language, 0), row["documents"]),
            ]
        rows.append(tuple(cells))
    names = ("documents", "share of characters", "left out by rules")
    columns = [f"{one['name']}: {name}" for one in (summary, other) for name in names]
    return Table(f"Beside {other['name']}", ("Language", *columns), tuple(rows))
