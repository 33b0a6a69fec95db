"""Multiple-choice questions to answer, from JSON lines and shards; labels do not matter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from headrace.corpus.readers import Findings
from headrace.corpus.readers.jsonl import numbered_objects
from headrace.encoding.multiple_choice import malformation
from headrace.errors import CorpusError, Problem
from headrace.shards import storage
from headrace.shards.reader import ShardReader

_SHAPE = 'Write one object a line: {"context": "...", "choices": ["...", "..."]}'


@dataclass(frozen=True)
class Question:
    """A question as it was found."""

    id: str
    """Identifier in the input; file name and line number where there is none."""
    context: str
    choices: list[str]
    language: str | None = None


def read_questions(url: str, format: str) -> Iterator[Question]:
    """Yield the questions of an input in their order.

    Args:
        url: file of JSON lines (plain or gzip) or folder of shards.
        format: ``shards``, or any other name for JSON lines.

    Raises:
        UserError: with all problems of the input, behind the last question.
    """
    if format == "shards":
        yield from _from_shards(url)
        return
    findings = Findings(url, repair=True)
    stem = storage.name_of(url).partition(".")[0]
    for number, record in numbered_objects(url, findings, _SHAPE):
        what = malformation(record, labelled=False)
        if what is not None:
            findings.add(number, what, None, _SHAPE)
        else:
            yield _question(record, f"{stem}-{number:06d}")
    findings.raise_if_any()


def _from_shards(url: str) -> Iterator[Question]:
    problems = []
    with ShardReader(url) as reader:
        for sample in reader:
            facts = sample.metadata
            what = malformation(facts, labelled=False)
            if what is not None:
                problems.append(Problem(what, f"{url}: sample {sample.key}"))
            else:
                yield _question(facts, sample.key)
    if problems:
        raise CorpusError(problems)


def _question(record: Mapping[str, Any], default_id: str) -> Question:
    identifier, language = record.get("id"), record.get("language")
    return Question(
        default_id if identifier is None else str(identifier),
        record["context"],
        record["choices"],
        language if isinstance(language, str) else None,
    )
