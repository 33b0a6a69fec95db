"""Texts to label, from tables, JSON lines, plain text and shards; labels do not matter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from headrace.corpus.readers import LABELLED_FORMATS, Columns, Findings
from headrace.corpus.readers.labelled import read_unlabelled
from headrace.corpus.readers.lines import numbered_lines
from headrace.encoding.sequence_classification import Text, malformation
from headrace.errors import CorpusError, Problem
from headrace.shards import storage
from headrace.shards.reader import ShardReader

FORMATS = (*LABELLED_FORMATS, "jsonl", "text", "shards")
"""What can be read."""


@dataclass(frozen=True)
class FoundText:
    """A text, or a pair, as it was found."""

    id: str
    """Identifier in the input; file name and line number where there is none."""
    text: Text
    language: str | None = None


def read_texts(url: str, format: str, columns: Columns | None = None) -> Iterator[FoundText]:
    """Yield the texts of an input in their order.

    Args:
        url: file (plain or gzip) or folder of shards.
        format: one of :data:`FORMATS`; ``text`` has one text a line.
        columns: of tables and JSON lines, where the texts do not have their usual names.

    Raises:
        UserError: with all problems of the input, behind the last text.
    """
    if format == "shards":
        yield from _from_shards(url)
        return
    findings = Findings(url, repair=True)
    if format == "text":
        stem = storage.name_of(url).partition(".")[0]
        for number, line in numbered_lines(url, findings):
            if line.strip():
                yield FoundText(f"{stem}-{number:06d}", Text(line, None))
    else:
        layout = "glue_tsv" if format == "glue_tsv" else "glue_jsonl"
        for number, row in read_unlabelled(url, layout, findings, columns):
            what = malformation(row, labelled=False)
            if what is not None:
                findings.add(number, what)
            else:
                yield _found(row, row["id"], row["text"])
    findings.raise_if_any()


def _from_shards(url: str) -> Iterator[FoundText]:
    problems = []
    with ShardReader(url) as reader:
        for sample in reader:
            facts = {"text": sample.text, **sample.metadata}
            what = malformation(facts, labelled=False)
            if what is not None:
                problems.append(Problem(what, f"{url}: sample {sample.key}"))
            else:
                yield _found(facts, str(facts.get("id", sample.key)), facts["text"])
    if problems:
        raise CorpusError(problems)


def _found(row: Mapping[str, Any], identifier: str, text: str) -> FoundText:
    language = row.get("language")
    return FoundText(
        identifier, Text(text, row.get("pair")), language if isinstance(language, str) else None
    )
