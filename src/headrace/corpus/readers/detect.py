"""Tells the format of a corpus file from its first lines."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from itertools import islice
from typing import Any

from headrace.corpus.readers.labelled import Columns, is_labelled
from headrace.corpus.readers.lines import open_text
from headrace.corpus.readers.multiple_choice import layout_of
from headrace.corpus.readers.story_cloze import is_story_cloze
from headrace.errors import CorpusError, Problem
from headrace.shards import storage

_LINES = 400
_BY_NAME = {
    ".conll": "conll",
    ".bio": "conll",
    ".iob2": "iob2",
    ".jsonl": "jsonl",
    ".json": "jsonl",
    ".ndjson": "jsonl",
    ".tsv": "glue_tsv",
}
_MULTICONER_HEADER = re.compile(r"# id \S+")
_IOB2_COMMENT = re.compile(r"# (sent_id|newdoc|text)\b")
_TAG = re.compile(r"O|[BIESLU]-\S+")


def detect_format(url: str, columns: Columns | None = None) -> str:
    """The name of a format that :func:`headrace.corpus.readers.read` knows.

    The content decides; where it is not clear (a damaged file) the ending of the name does.  With
    ``columns`` it is a file that has columns with names.
    :class:`CorpusError` if neither does, or if the file is not there.
    """
    with open_text(url) as stream:
        try:
            raw = list(islice(stream, _LINES))
        except (gzip.BadGzipFile, EOFError, zlib.error):
            raw = []
    lines = [line.decode("utf-8", "replace").lstrip("\ufeff").rstrip("\r\n") for line in raw]
    lines = [line for line in lines if line.strip()]
    if columns is not None and lines:
        return "glue_jsonl" if lines[0].lstrip().startswith("{") else "glue_tsv"
    name = storage.name_of(url).removesuffix(".gz")
    found = _from_lines(lines) or _BY_NAME.get(name[name.rfind(".") :])
    if found is None:
        what = "the format cannot be told" if lines else "the file is empty: no sentence in it"
        remedy = (
            "Name it: --format multiconer, conll, iob2, jsonl, glue_tsv, ... Plain text is read "
            'as jsonl: {"text": "..."}, one object a line'
        )
        raise CorpusError(Problem(what, f"{url}:1", None, remedy if lines else "Check the path"))
    return found


def _from_lines(lines: list[str]) -> str | None:
    if not lines:
        return None
    if lines[0].lstrip().startswith("{"):
        return _of_objects(lines)
    if is_story_cloze(lines[0]):
        return "story_cloze"
    if "\t" in lines[0] and is_labelled(lines[0].split("\t")):
        return "glue_tsv"
    if any(_MULTICONER_HEADER.match(line) for line in lines):
        return "multiconer"
    if any(_IOB2_COMMENT.match(line) for line in lines):
        return "iob2"
    for line in lines:
        columns = line.split("\t")
        if len(columns) >= 3 and columns[0].isdigit() and _TAG.fullmatch(columns[2]):
            return "iob2"
    if any(
        len(columns) >= 2 and _TAG.fullmatch(columns[-1])
        for columns in (re.split(r"[ \t]+", line) for line in lines)
    ):
        return "conll"
    return None


def _of_objects(lines: list[str]) -> str:
    """The layout that the first line which is an object has, ``jsonl`` if it is none of those."""
    for line in lines:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            return layout_of(record) or ("glue_jsonl" if _is_glue(record) else "jsonl")
    return "jsonl"


def _is_glue(record: dict[str, Any]) -> bool:
    """Whether an object has columns of texts and labels, and is no document with metadata."""
    if not is_labelled(record) or "tokens" in record:
        return False
    is_plain = "text" in record and "pair" not in record
    return not is_plain or isinstance(record.get("label"), str)
