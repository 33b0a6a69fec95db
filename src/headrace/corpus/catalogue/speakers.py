"""Shares of languages in a corpus against their shares of speakers, from a table of the user."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from typing import Any

from headrace.corpus.language import language_problems
from headrace.errors import CorpusError, Problem
from headrace.shards import storage

Speakers = Mapping[str, float]
"""Language tag -> speakers; any unit, only shares count."""
COLUMNS = ("language", "speakers")


def read_speakers(url: str) -> Speakers:
    """A CSV file with the columns ``language`` (BCP 47) and ``speakers``; others are ignored.

    Raises :class:`CorpusError` with all that is wrong with it.
    """
    try:
        text = storage.read_bytes(url).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problem = Problem(f"not UTF-8 at byte {error.start}", url, None, "Save it as UTF-8")
        raise CorpusError(problem) from error
    rows = csv.DictReader(text.splitlines())
    missing = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
    if missing:
        remedy = "Write a CSV file whose first line is: language,speakers"
        raise CorpusError(Problem("columns are missing", url, ", ".join(missing), remedy))
    speakers: dict[str, float] = {}
    problems: list[Problem] = []
    for row in rows:
        where = f"{url}:{rows.line_num}"
        language, number = (row["language"] or "").strip(), (row["speakers"] or "").strip()
        problems += language_problems(language, where)
        if language in speakers:
            remedy = "Give each language one line"
            problems.append(Problem("the language is there twice", where, language, remedy))
        try:
            speakers[language] = float(number)
            wrong = not (math.isfinite(speakers[language]) and speakers[language] >= 0)
        except ValueError:
            wrong = True
        if wrong:
            problems.append(Problem("not a number of speakers", where, number, "Write 200000000"))
    if not problems and not sum(speakers.values()) > 0:
        problems.append(Problem("nobody speaks any of the languages", url, None, "Add speakers"))
    if problems:
        raise CorpusError(problems)
    return speakers


def representation(varieties: Sequence[Mapping[str, Any]], speakers: Speakers) -> dict[str, Any]:
    """Shares in the corpus beside shares of the speakers, over the languages of the table.

    A variety in the corpus that the table lacks counts for its parent (``pt-BR`` for ``pt``); if
    that is not there either it is in ``not_in_table``.  ``ratio`` is the share of characters over
    that of speakers: 1 where a language has its due.

    Args:
        varieties: documents and characters by ``variety``, as in ``report.json``.
        speakers: of each language.
    """
    known = {language.lower(): language for language in speakers}
    counted = {language: {"documents": 0, "characters": 0} for language in speakers}
    unknown = []
    for row in varieties:
        tag = row["variety"].lower()
        while tag not in known and "-" in tag:
            tag = tag.rpartition("-")[0]
        if tag not in known:
            unknown.append(row["variety"])
            continue
        for name in ("documents", "characters"):
            counted[known[tag]][name] += row[name]
    everybody = sum(speakers.values())
    totals = {
        name: sum(row[name] for row in counted.values()) for name in ("documents", "characters")
    }
    rows = []
    for language, number in sorted(speakers.items(), key=lambda item: (-item[1], item[0])):
        due = number / everybody
        shares = {
            f"share_of_{name}": counted[language][name] / total if total else 0.0
            for name, total in totals.items()
        }
        ratio = shares["share_of_characters"] / due if due else None
        rows.append(
            {
                "language": language,
                "speakers": number,
                "share_of_speakers": due,
                **counted[language],
                **shares,
                "ratio": ratio,
            }
        )
    return {"languages": rows, "not_in_table": unknown}
