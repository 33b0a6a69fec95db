"""The page of an error analysis: kinds of errors, confused types, lengths, seen entities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.report import numbers, palette
from headrace.report.heat_map import FAMILY_TITLES, Cell, Row, readable_type
from headrace.report.page import Tile, render_page, require_page_tools
from headrace.report.palette import scale_step
from headrace.report.tables import Table

TEMPLATE = "errors.html.j2"
KINDS: Mapping[str, str] = {
    "correct": "Correct",
    "type": "Wrong type",
    "boundary": "Wrong words",
    "type_and_boundary": "Both wrong",
    "missed": "Missed",
    "spurious": "Spurious",
}
SCHEMES: Mapping[str, str] = {
    "strict": "Strict",
    "exact": "Exact words",
    "partial": "Partial",
    "type": "Type",
}
SEEN: Mapping[str, str] = {
    "seen": "seen with its type",
    "seen_as_other_type": "seen with other types alone",
    "unseen": "not seen",
}
_CONFUSIONS = 20
"""Most frequent confusions that are listed."""


@dataclass(frozen=True)
class Family:
    """Gold types of a coarse family, a row each."""

    title: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Matrix:
    """What gold entities of each type were taken for; the first cell of a row is of missed ones."""

    title: str
    columns: tuple[str, ...]
    families: tuple[Family, ...]
    spurious: Row


def render_errors(name: str, document: Mapping[str, Any]) -> str:
    """The page as text.

    Args:
        name: of the model, its heading.
        document: what :func:`headrace.training.error_analysis.analyse_errors` gives.

    Raises:
        MissingExtraError: where jinja2 or matplotlib is not installed.
    """
    require_page_tools()
    languages: Mapping[str, Any] = document["languages"]
    whole = document["all"] or next(iter(languages.values()))
    families = document["families"]
    together = [("all languages", document["all"])] if document["all"] else []
    parts = [*languages.items(), *together]
    return render_page(
        TEMPLATE,
        name=name,
        languages=list(languages),
        notes=[],
        tiles=_tiles(whole),
        schemes=_schemes(languages, document["all"]),
        kinds=_kinds(languages, document["all"]),
        subsets=_subsets(parts),
        matrices=[matrix(title, part, families) for title, part in (*together, *languages.items())],
        scale=range(palette.SCALE_STEPS),
        confusions=_confusions(whole, families),
        types=_types(whole),
        lengths=_parts("Errors by length", "Words", parts, "by_length", {}),
        seen=_parts("Errors by what training had", "Entity", parts, "by_seen", SEEN),
        examples=_examples(document.get("examples", {})),
    )


def _tiles(whole: Mapping[str, Any]) -> list[Tile]:
    kinds = whole["kinds"]
    gold = sum(kinds.values()) - kinds["spurious"]
    strict, loose = whole["schemes"]["strict"], whole["schemes"]["type"]
    wrong = whole["wrong_types"]
    confused = wrong["within_family"] + wrong["across_families"]
    return [
        Tile(numbers.percent(strict["f1"]), "F1, all entities", "words and type right"),
        Tile(numbers.percent(loose["f1"]), "F1 of types", "some of the words are enough"),
        Tile(
            numbers.count(kinds["missed"]),
            "missed",
            f"{_share(kinds['missed'], gold)} of {numbers.count(gold)} entities",
        ),
        Tile(
            numbers.count(confused),
            "wrong types",
            f"{_share(wrong['within_family'], confused)} within their family",
        ),
    ]


def _share(part: float, whole: float) -> str:
    return numbers.share(part / whole if whole else None)


def _schemes(languages: Mapping[str, Any], whole: Any) -> Table:
    rows = [*languages.items(), *([("All", whole)] if whole else [])]
    return Table(
        "F1 by scheme",
        ("Language", "Sentences", "with errors", *SCHEMES.values()),
        tuple(
            (
                language,
                numbers.count(part["sentences"]),
                _share(part["sentences_with_errors"], part["sentences"]),
                *(numbers.percent(part["schemes"][scheme]["f1"]) for scheme in SCHEMES),
            )
            for language, part in rows
        ),
        totals=int(bool(whole)),
    )


def _kinds(languages: Mapping[str, Any], whole: Any) -> Table:
    rows = [*languages.items(), *([("All", whole)] if whole else [])]
    return Table(
        "Kinds of errors",
        ("Language", *KINDS.values()),
        tuple((language, *_shares_of_gold(part["kinds"])) for language, part in rows),
        totals=int(bool(whole)),
    )


def _shares_of_gold(kinds: Mapping[str, int]) -> list[str]:
    gold = sum(kinds[kind] for kind in KINDS) - kinds["spurious"]
    return [_share(kinds[kind], gold) for kind in KINDS]


def _subsets(parts: Sequence[tuple[str, Any]]) -> Table | None:
    rows = tuple(
        (
            language,
            name,
            numbers.count(subset["sentences"]),
            numbers.percent(subset["schemes"]["strict"]["f1"]),
            *_shares_of_gold(subset["kinds"]),
        )
        for language, part in parts
        for name, subset in part["subsets"].items()
    )
    if not rows:
        return None
    columns = ("Language", "Subset", "Sentences", "F1", *KINDS.values())
    return Table("Errors by subset", columns, rows, names=2)


def matrix(title: str, part: Mapping[str, Any], families: Mapping[str, str]) -> Matrix:
    """The confusions of one language: gold types in rows, what stands for them in columns."""
    types = [type_ for type_ in families if type_ in part["by_type"]]
    grouped: dict[str, list[Row]] = {}
    for gold in types:
        row = part["by_type"][gold]
        cells = [
            _cell(gold, given, part["confusion"].get(gold, {}).get(given, [0, 0]), row["gold"])
            for given in types
        ]
        missed = f"{gold}: {numbers.count(row['missed'])} of {numbers.count(row['gold'])} missed"
        cells.insert(0, _coloured(row["missed"], row["gold"], missed))
        grouped.setdefault(families[gold], []).append(Row(readable_type(gold), tuple(cells)))
    spurious = []
    for given in types:
        row = part["by_type"][given]
        hover = (
            f"{numbers.count(row['spurious'])} of {numbers.count(row['predicted'])} "
            f"predicted as {given} are no entity"
        )
        spurious.append(_coloured(row["spurious"], row["predicted"], hover))
    return Matrix(
        title,
        tuple(map(readable_type, types)),
        tuple(
            Family(FAMILY_TITLES.get(family, family), tuple(rows))
            for family, rows in grouped.items()
        ),
        Row("Spurious", (Cell("", None, ""), *spurious)),
    )


def _cell(gold: str, given: str, counts: Sequence[int], total: int) -> Cell:
    same, other = counts
    hover = (
        f"{gold} taken for {given}: {numbers.count(same)} with the same words, "
        f"{numbers.count(other)} with other words, of {numbers.count(total)}"
    )
    return _coloured(same + other, total, hover)


def _coloured(count: int, total: int, hover: str) -> Cell:
    if not count:
        return Cell("", None, hover)
    return Cell(numbers.count(count), scale_step(count / total, 0.0, 1.0), hover)


def _confusions(part: Mapping[str, Any], families: Mapping[str, str]) -> Table:
    found = [
        (same + other, gold, given, same)
        for gold, row in part["confusion"].items()
        for given, (same, other) in row.items()
        if gold != given
    ]
    found.sort(key=lambda one: (-one[0], one[1], one[2]))
    return Table(
        "Most frequent confusions",
        ("Type", "Taken for", "Entities", "of the type", "Same words", "Family"),
        tuple(
            (
                readable_type(gold),
                readable_type(given),
                numbers.count(count),
                _share(count, part["by_type"][gold]["gold"]),
                numbers.count(same),
                "the same" if families[gold] == families[given] else "another",
            )
            for count, gold, given, same in found[:_CONFUSIONS]
        ),
        names=2,
    )


def _types(part: Mapping[str, Any]) -> Table:
    return Table(
        "Errors by type",
        ("Type", "Entities", "Precision", "Recall", "F1", *KINDS.values()),
        tuple((readable_type(type_), *_row(row)) for type_, row in part["by_type"].items()),
    )


def _row(row: Mapping[str, float]) -> list[str]:
    return [
        numbers.count(row["gold"]),
        *(numbers.percent(row[name]) for name in ("precision", "recall", "f1")),
        *(_share(row[kind], row["gold"]) for kind in KINDS),
    ]


def _parts(
    title: str,
    column: str,
    parts: Sequence[tuple[str, Any]],
    key: str,
    names: Mapping[str, str],
) -> Table | None:
    rows = tuple(
        (language, names.get(name, name), *_row(row))
        for language, part in parts
        for name, row in part.get(key, {}).items()
    )
    if not rows:
        return None
    columns = ("Language", column, "Entities", "Precision", "Recall", "F1", *KINDS.values())
    return Table(title, columns, rows, names=2)


def _examples(examples: Mapping[str, Sequence[Mapping[str, Any]]]) -> Table | None:
    def entity(value: Mapping[str, Any] | None) -> str:
        return numbers.MISSING if value is None else f"{value['text']} ({value['type']})"

    rows = tuple(
        (
            language,
            KINDS[example["kind"]],
            entity(example["gold"]),
            entity(example["predicted"]),
            example["text"],
        )
        for language, own in examples.items()
        for example in sorted(own, key=lambda one: list(KINDS).index(one["kind"]))
    )
    if not rows:
        return None
    columns = ("Language", "Error", "In the data", "Predicted", "Sentence")
    return Table("Examples", columns, rows, names=5)
