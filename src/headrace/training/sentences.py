"""Sentences to tag, from files and shards, with or without tags: tags that are there do not matter.

The corpus readers (:mod:`headrace.corpus.readers`) make training data and insist on tags; test data
has none, or a placeholder in their column.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from headrace.corpus.readers import LABELLED_FORMATS, Findings, detect_format
from headrace.corpus.readers.conll import LAYOUTS, parse_multiconer_header
from headrace.corpus.readers.jsonl import numbered_objects
from headrace.corpus.readers.lines import numbered_lines
from headrace.errors import CorpusError, Problem
from headrace.shards import storage
from headrace.shards.manifest import MANIFEST_NAME
from headrace.shards.reader import ShardReader

FORMATS = (*LAYOUTS, "jsonl", *LABELLED_FORMATS, "text", "shards")
"""What can be read, beside ``auto``."""

_SENTENCE_ID = re.compile(r"#\s*sent_id\s*=\s*(\S+)\s*")
_SHAPE = 'Write one object a line: {"tokens": ["..."]} or {"text": "..."}'


@dataclass(frozen=True)
class Sentence:
    """A sentence as it was found."""

    id: str
    """Identifier in the input; file name and line number where there is none."""
    tokens: list[str]
    language: str | None = None
    domain: str | None = None


def input_format(url: str) -> str:
    """Return the format of an input: a folder of shards, or a file told by name and content.

    Raises:
        CorpusError: if there is nothing at the URL, or the file is empty.
    """
    if storage.exists(storage.join(url, MANIFEST_NAME)):
        return "shards"
    if storage.is_local(url) and storage.local_path(url).is_dir():
        remedy = "Give a file, or a folder of shards that is built to the end"
        raise CorpusError(Problem("this folder has no manifest", url, remedy=remedy))
    if not storage.exists(url):
        raise CorpusError(Problem("no such file or folder", url, remedy="Check the path"))
    if url.removesuffix(".gz").endswith(".txt"):
        return "text"
    try:
        return detect_format(url)
    except CorpusError:
        if any(line.strip() for _, line in numbered_lines(url, Findings(url))):
            return "text"
        raise


def read_sentences(url: str, format: str) -> Iterator[Sentence]:
    """Yield the sentences of an input in their order.

    Args:
        url: file (plain or gzip) or folder of shards.
        format: one of :data:`FORMATS`. In column formats only the token's column is read; ``text``
            has one sentence a line, words separated by white space.

    Raises:
        UserError: with all problems of the input, behind the last sentence.
    """
    if format == "shards":
        yield from _from_shards(url)
        return
    findings = Findings(url, repair=True)
    stem = storage.name_of(url).partition(".")[0]
    if format in ("jsonl", "glue_jsonl"):
        yield from _from_json_lines(url, stem, findings)
    elif format == "text":
        for number, line in numbered_lines(url, findings):
            if line.strip():
                yield Sentence(f"{stem}-{number:06d}", line.split())
    else:
        yield from _from_columns(url, format, stem, findings)
    findings.raise_if_any()


def _from_shards(url: str) -> Iterator[Sentence]:
    with ShardReader(url) as reader:
        for sample in reader:
            facts = sample.metadata
            tokens = facts["tokens"] if "tokens" in facts else sample.text.split()
            identifier = str(facts.get("id", sample.key))
            yield Sentence(identifier, tokens, facts.get("language"), facts.get("domain"))


def _from_columns(url: str, format: str, stem: str, findings: Findings) -> Iterator[Sentence]:
    column = LAYOUTS[format].token
    count = 0
    identifier: str | None = None
    domain: str | None = None
    tokens: list[str] = []

    def sentence() -> Sentence:
        return Sentence(identifier or f"{stem}-{count:06d}", tokens, domain=domain)

    for number, line in numbered_lines(url, findings):
        header = _header(line, format)
        if header is None and line.strip(" \t"):
            if format == "conll" and line.startswith("-DOCSTART-"):
                continue
            columns = line.split("\t" if "\t" in line else " ")
            if len(columns) <= column or not columns[column].strip():
                remedy = f"Each line is {LAYOUTS[format].shape}; the tag may be missing"
                findings.add(number, "no token in the line", repr(line)[:80], remedy)
                continue
            tokens.append(columns[column])
            continue
        if tokens:
            count += 1
            yield sentence()
            identifier, domain, tokens = None, None, []
        if header is not None:
            identifier, domain = header[0] or identifier, header[1] or domain
    if tokens:
        count += 1
        yield sentence()


def _header(line: str, format: str) -> tuple[str | None, str | None] | None:
    """Identifier and domain of a header line; None for any other line."""
    if format == "multiconer":
        header = parse_multiconer_header(line)
        return (header[0], header[1].get("domain")) if header else None
    if format == "iob2" and line.startswith("#"):
        match = _SENTENCE_ID.fullmatch(line)
        return (match[1] if match else None, None)
    return None


def _from_json_lines(url: str, stem: str, findings: Findings) -> Iterator[Sentence]:
    for number, record in numbered_objects(url, findings, _SHAPE):
        tokens = _tokens(record)
        if tokens is None:
            findings.add(number, "neither a list of tokens nor a text", None, _SHAPE)
            continue
        identifier = record.get("id", f"{stem}-{number:06d}")
        language, domain = record.get("language"), record.get("domain")
        yield Sentence(str(identifier), tokens, language, domain)


def _tokens(record: dict[str, Any]) -> list[str] | None:
    """The words of a JSON record; None if it has none."""
    tokens = record.get("tokens")
    if tokens is None and isinstance(record.get("text"), str):
        tokens = record["text"].split()
    if not isinstance(tokens, list) or not tokens:
        return None
    return tokens if all(isinstance(token, str) and token for token in tokens) else None
