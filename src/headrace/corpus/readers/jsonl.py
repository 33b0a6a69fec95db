"""JSON lines: ``{"text": ...}`` for plain text, ``{"tokens": [...], "tags": [...]}`` for NER."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from headrace.corpus.readers.conll import check_tags
from headrace.corpus.readers.findings import Findings
from headrace.corpus.readers.lines import numbered_lines
from headrace.counts import counted
from headrace.shards import storage
from headrace.shards.sample import Sample, make_sample

_SHAPE = 'Write one object a line: {"text": "..."} or {"tokens": [...], "tags": [...]}'


def read_jsonl(
    url: str, format: str, language: str, subset: str | None, findings: Findings
) -> Iterator[Sample]:
    """Yield one sample a line; blank lines are passed over; problems go to ``findings``.

    ``id`` (a string or a number) becomes the key, or else name and line number do; every other
    member of the object is kept in field ``json``.  ``language`` is that of the caller.
    """
    stem = storage.name_of(url).partition(".")[0]
    for number, record in numbered_objects(url, findings, _SHAPE):
        identifier = identifier_of(record.pop("id", None), stem, number, findings)
        if identifier is None:
            continue
        text = _text(record, number, findings)
        if text is None:
            continue
        metadata: dict[str, Any] = {"id": identifier, "language": language}
        if "tokens" in record:
            metadata |= {"tokens": record.pop("tokens"), "tags": record.pop("tags")}
        if subset is not None:
            record["subset"] = subset
        metadata |= {name: value for name, value in record.items() if name not in metadata}
        try:
            content = json.dumps(metadata, sort_keys=True).encode()
            key = findings.key_for(identifier, number, content)
            sample = make_sample(key, text, metadata, f"{url}:{number}")
        except ValueError:
            findings.add(number, "not Unicode text: half of a surrogate pair, or NaN", None, _SHAPE)
            continue
        yield sample


def numbered_objects(
    url: str, findings: Findings, shape: str
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield ``(line number from 1, object)``; blank lines are passed over.

    Lines that hold no object go to ``findings``, with the ``shape`` that a line should have.
    """
    for number, line in numbered_lines(url, findings):
        if line.strip():
            record = _parsed(line, number, findings, shape)
            if record is not None:
                yield number, record


def _parsed(line: str, number: int, findings: Findings, shape: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        findings.add(number, f"not JSON: {error.msg}", f"column {error.colno}", shape)
        return None
    except (ValueError, RecursionError):
        findings.add(number, "not JSON that can be read: nested too deep or too long", None, shape)
        return None
    if not isinstance(record, dict):
        findings.add(number, "not a JSON object", type(record).__name__, shape)
        return None
    return record


def identifier_of(given: Any, stem: str, number: int, findings: Findings) -> str | None:
    """The id of a line as text, made of file name and line where there is none."""
    if given is not None and (isinstance(given, bool) or not isinstance(given, (str, int))):
        findings.add(number, "id is not a string or a whole number", type(given).__name__)
        return None
    return f"{stem}-{number:06d}" if given is None or given == "" else str(given)


def _text(record: dict[str, Any], number: int, findings: Findings) -> str | None:
    """The text of the sample: the tokens joined by spaces, or else ``text``, taken out."""
    if "tokens" not in record:
        text = record.pop("text", None)
        if not isinstance(text, str) or not text.strip():
            what = "no text" if text is None or text == "" else "text is not a string with words"
            findings.add(number, what, None, _SHAPE)
            return None
        return text
    tokens, tags = record["tokens"], record.get("tags")
    if not _strings(tokens) or not tokens:
        findings.add(number, "tokens is not a list of strings that are not empty", None, _SHAPE)
        return None
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        findings.add(number, "tags is not a list of strings", None, _SHAPE)
        return None
    if len(tokens) != len(tags):
        value = f"{counted(len(tokens), 'token')}, {counted(len(tags), 'tag')}"
        findings.add(number, "tokens and tags have different lengths", value, _SHAPE)
        return None
    record["tags"] = check_tags(tags, [number] * len(tags), findings)
    return " ".join(tokens)


def _strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) and item.strip() for item in value)
