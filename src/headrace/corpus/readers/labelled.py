"""Texts, or pairs of texts, with a label or a score: GLUE's TSV files, and JSON lines.

A sample has in field ``json`` the ``text``, the ``pair`` where there is a second text, and
``label``, a name, or ``score``, a number; every other column is kept.  Field ``txt`` has the text,
with the second one in a line of its own.

The TSV files are as GLUE (Wang et al. 2019) distributes them: the first line names the columns,
and quotes mean nothing.  Columns are known by the names that GLUE, JGLUE and their like give them,
or named by the caller.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from headrace.config.messages import did_you_mean
from headrace.corpus.readers.findings import Findings
from headrace.corpus.readers.jsonl import identifier_of, numbered_objects
from headrace.corpus.readers.lines import numbered_lines
from headrace.shards import storage
from headrace.shards.sample import Sample, make_sample

LABELLED_FORMATS = ("glue_tsv", "glue_jsonl")

_TEXTS: tuple[tuple[str, str | None], ...] = (
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("premise", "hypothesis"),
    ("#1 String", "#2 String"),
    ("text", "pair"),
    ("text", None),
    ("sentence", None),
    ("tweet", None),
)
"""Columns of the first and the second text; the first of these that are there."""
_LABELS = ("label", "gold_label", "category", "intent", "is_duplicate", "Quality")
_SCORES = ("score",)
_IDS = ("id", "guid", "pairID", "sentence_pair_id")
_ROW_NUMBERS = ("index", "idx")
"""Columns that count the rows of one file: ids only with its name."""
_SHAPE = '{"text": "...", "pair": "...", "label": "..."}'
_RESERVED = ("id", "language", "text", "pair", "label", "score", "subset", "tokens", "tags")
"""Members of a sample that a column with no part of its own is not kept as."""
_WHOLE_NUMBER = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True)
class Columns:
    """What the caller says about the columns; what is None is told by the usual names."""

    text: str | None = None
    pair: str | None = None
    """Given with ``text``, or there is none."""
    label: str | None = None
    score: str | None = None
    label_names: tuple[str, ...] = ()
    """Names of the labels that the file has as numbers from 0 on."""

    @property
    def named(self) -> dict[str, str]:
        """The columns that are given, by what they are."""
        given = {"text": self.text, "pair": self.pair, "label": self.label, "score": self.score}
        return {role: name for role, name in given.items() if name is not None}

    @property
    def is_empty(self) -> bool:
        """Whether nothing is given."""
        return self == Columns()


@dataclass(frozen=True)
class _Roles:
    """Which columns are what."""

    text: str
    pair: str | None
    label: str | None
    score: str | None
    identifier: str | None
    row_number: str | None

    @property
    def taken(self) -> frozenset[str | None]:
        return frozenset(vars(self).values())


def is_labelled(names: Iterable[str]) -> bool:
    """Whether columns of these names are those of a file with labels or scores."""
    there = set(names)
    return _texts(there) is not None and not there.isdisjoint((*_LABELS, *_SCORES))


def read_labelled(
    url: str,
    format: str,
    language: str,
    subset: str | None,
    findings: Findings,
    columns: Columns | None = None,
) -> Iterator[Sample]:
    """Yield one sample a row; problems go to ``findings``."""
    columns = columns or Columns()
    stem = storage.name_of(url).partition(".")[0]
    for number, row, roles in _rows_with_roles(url, format, columns, findings, labelled=True):
        before = findings.total
        members = _members(row, roles, columns, number, findings)
        identifier = _identifier(row, roles, stem, number, findings)
        if identifier is None or findings.total > before:
            continue
        metadata = {"id": identifier, "language": language, **members}
        if subset is not None:
            metadata["subset"] = subset
        metadata |= _others(row, roles)
        text = "\n".join(members[name] for name in ("text", "pair") if name in members)
        try:
            content = json.dumps(metadata, sort_keys=True).encode()
            key = findings.key_for(identifier, number, content)
            yield make_sample(key, text, metadata, f"{url}:{number}")
        except ValueError:
            findings.add(number, "not Unicode text: half of a surrogate pair, or NaN")


def read_unlabelled(
    url: str, format: str, findings: Findings, columns: Columns | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield line number, and ``id``, ``text`` and maybe ``pair`` of each row; labels do not matter.

    Problems go to ``findings``.
    """
    stem = storage.name_of(url).partition(".")[0]
    columns = columns or Columns()
    for number, row, roles in _rows_with_roles(url, format, columns, findings, labelled=False):
        before = findings.total
        members = _texts_of(row, roles, number, findings)
        identifier = _identifier(row, roles, stem, number, findings)
        if findings.total == before:
            yield number, {"id": identifier, **members}


def _rows_with_roles(
    url: str, format: str, columns: Columns, findings: Findings, *, labelled: bool
) -> Iterator[tuple[int, dict[str, Any], _Roles]]:
    """Rows with their line numbers and what their columns are.

    That is told from the header of a table, and from each line of JSON by itself.
    """
    if format == "glue_jsonl":
        for number, row in numbered_objects(url, findings, f"Write {_SHAPE}"):
            roles = _roles(row, columns, number, findings, labelled=labelled)
            if roles is not None:
                yield number, row, roles
        return
    roles = None
    for number, row in _rows(url, findings):
        if roles is None:
            roles = _roles(row, columns, 1, findings, labelled=labelled)
            if roles is None:
                return
        yield number, row, roles


def _identifier(
    row: Mapping[str, Any], roles: _Roles, stem: str, number: int, findings: Findings
) -> str | None:
    given = row.get(roles.identifier) if roles.identifier else None
    if roles.row_number and row.get(roles.row_number) not in (None, ""):
        given = f"{stem}-{row[roles.row_number]}"
    return identifier_of(given, stem, number, findings)


def _rows(url: str, findings: Findings) -> Iterator[tuple[int, dict[str, str]]]:
    """The lines of a TSV file as column -> cell; lines without a character are passed over."""
    header: list[str] | None = None
    for number, line in numbered_lines(url, findings):
        if not line:
            continue
        cells = line.split("\t")
        if header is None:
            header = [cell.strip() for cell in cells]
            twice = sorted({name for name in header if header.count(name) > 1})
            if twice:
                findings.add(number, "a column stands twice", ", ".join(twice), "Rename one")
                return
        elif len(cells) != len(header):
            value = f"{len(cells)}, not {len(header)}"
            remedy = "Each line has the columns of the first; a text holds no tab, quotes are text"
            findings.add(number, "wrong number of columns", value, remedy)
        else:
            yield number, dict(zip(header, cells, strict=True))


def _texts(there: set[str]) -> tuple[str, str | None] | None:
    """The columns of the first and the second text."""
    for first, second in _TEXTS:
        if first in there and (second is None or second in there):
            return first, second
    return None


def _roles(
    row: Mapping[str, Any],
    columns: Columns,
    number: int,
    findings: Findings,
    *,
    labelled: bool,
) -> _Roles | None:
    """Which columns are what; None, and findings, if a text, or label and score, are not found."""
    there = ", ".join(row)[:200]
    before = findings.total
    for role, name in columns.named.items():
        if name not in row:
            what = f"no column {name}, which was named as that of the {role}"
            findings.add(number, what, there, did_you_mean(name, row))
    texts: tuple[str, str | None] | None
    texts = (columns.text, columns.pair) if columns.text is not None else _texts(set(row))
    if texts is None:
        remedy = "Name it with --text-column, a second text with --pair-column"
        findings.add(number, "no column is known to be a text by its name", there, remedy)
    label, score = columns.label, columns.score
    if label is None and score is None:
        label = next((name for name in _LABELS if name in row), None)
        score = next((name for name in _SCORES if name in row), None)
    if labelled and label is None and score is None:
        what = "no column is known to be a label or a score by its name"
        remedy = "Name it with --label-column or --score-column; test files often have none"
        findings.add(number, what, there, remedy)
    if findings.total > before or texts is None:
        return None
    first, second = texts
    identifier, row_number = (
        next((name for name in names if name in row), None) for names in (_IDS, _ROW_NUMBERS)
    )
    return _Roles(first, second, label, score, identifier, None if identifier else row_number)


def _texts_of(
    row: Mapping[str, Any], roles: _Roles, number: int, findings: Findings
) -> dict[str, Any]:
    """``text`` and, where there are two, ``pair``."""
    members = {}
    for role, name in (("text", roles.text), ("pair", roles.pair)):
        if name is None:
            continue
        members[role] = text = row.get(name)
        if not isinstance(text, str) or not text.strip():
            remedy = "Fill it in, or remove the line"
            findings.add(number, f"{name} is not a text with words", None, remedy)
    return members


def _members(
    row: Mapping[str, Any], roles: _Roles, columns: Columns, number: int, findings: Findings
) -> dict[str, Any]:
    """``text``, ``pair``, ``label`` and ``score`` of a row, as far as there are columns for them.

    What is wrong with them goes to ``findings``.
    """
    members = _texts_of(row, roles, number, findings)
    if roles.label is not None:
        members["label"] = _label(row.get(roles.label), roles.label, columns, number, findings)
    if roles.score is not None:
        members["score"] = _score(row.get(roles.score), roles.score, number, findings)
    return members


def _label(value: Any, name: str, columns: Columns, number: int, findings: Findings) -> str:
    text = str(value).strip() if type(value) in (str, int, float) else None
    names = columns.label_names
    if value is None or text == "":
        findings.add(number, f"{name} is empty", None, "Fill it in, or remove the line")
    elif text is None:
        findings.add(number, f"{name} is not a text", repr(value)[:80], f"Write {_SHAPE}")
    elif names:
        if _WHOLE_NUMBER.fullmatch(text) and int(text) < len(names):
            return names[int(text)]
        remedy = f"There are names for 0 to {len(names) - 1}"
        findings.add(number, f"{name} is no number that has a name", repr(value)[:80], remedy)
    elif isinstance(value, str) and (_WHOLE_NUMBER.fullmatch(text) or _number(text) is None):
        return text
    else:
        remedy = f"Give --score-column {name} if it is a score"
        if _WHOLE_NUMBER.fullmatch(text):
            remedy += ", or --label-names with a name for each number"
        what = f"{name} is a number where a label is expected"
        findings.add(number, what, repr(value)[:80], remedy)
    return ""


def _score(value: Any, name: str, number: int, findings: Findings) -> float:
    score = _number(value)
    if score is None:
        remedy = f"Write a finite number, or give --label-column {name} if it is a label"
        findings.add(number, f"{name} is not a number", repr(value)[:80], remedy)
        return 0.0
    return score


def _number(value: Any) -> float | None:
    """A finite number, as such or written in decimal digits."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) and "_" not in str(value) else None


def _others(row: Mapping[str, Any], roles: _Roles) -> dict[str, Any]:
    """The columns that have no part of their own."""
    return {
        f"original_{name}" if name in _RESERVED else name: value
        for name, value in row.items()
        if name not in roles.taken
    }
