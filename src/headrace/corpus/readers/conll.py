"""Sentences in columns: MultiCoNER, CoNLL 2003 and the IOB2 files of Universal NER.

MultiCoNER: a header ``# id ID<TAB>domain=NAME``, then ``TOKEN _ _ TAG``, a blank line between
sentences (Malmasi et al. 2022, Fetahu et al. 2023); more ``name=value`` pairs in the header, such
as ``subset=noisy``, become fields of the sample.  CoNLL 2003: token first, tag last, any columns
between, ``-DOCSTART-`` lines (Tjong Kim Sang and De Meulder 2003).  Universal NER: tab separated,
``INDEX TOKEN TAG ...``, ``#`` comments with ``sent_id`` (Mayhew et al. 2024).

Tags are strict IOB2: ``O``, ``B-TYPE``, and ``I-TYPE`` only behind ``B-TYPE`` or ``I-TYPE``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from headrace.corpus.readers.findings import REPAIRED_TAG, Findings
from headrace.corpus.readers.lines import numbered_lines
from headrace.shards import storage
from headrace.shards.sample import Sample, make_sample

_TAG = re.compile(r"O|[BI]-\S+")
_OTHER_SCHEME = re.compile(r"[ESLUM]-\S+")
_MULTICONER_HEADER = re.compile(r"# id[ \t]+(\S+)((?:[ \t]+[A-Za-z_]+=\S+)*)[ \t]*")
_RESERVED = frozenset({"id", "language", "tokens", "tags"})
"""Fields of a sample that a header cannot set."""
_SENTENCE_ID = re.compile(r"#\s*sent_id\s*=\s*(\S+)\s*")


@dataclass(frozen=True)
class Layout:
    """Where token and tag are in a line."""

    token: int
    tag: int
    columns: int | None
    """Number of columns; None if the first token line of a file sets it."""
    fewest: int
    shape: str
    """How a line should look, for messages."""


LAYOUTS = {
    "multiconer": Layout(0, 3, 4, 4, "TOKEN _ _ TAG"),
    "conll": Layout(0, -1, None, 2, "TOKEN ... TAG"),
    "iob2": Layout(1, 2, None, 3, "INDEX<TAB>TOKEN<TAB>TAG"),
}


@dataclass
class _Sentence:
    line: int
    identifier: str | None = None
    fields: dict[str, str] = field(default_factory=dict)
    """``name=value`` pairs of the header, such as ``domain`` and ``subset``."""
    tokens: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    broken: bool = False
    """The line before could not be read: what follows from it is not reported again."""


def read_conll(
    url: str, format: str, language: str, subset: str | None, findings: Findings
) -> Iterator[Sample]:
    """Yield one sample a sentence; problems go to ``findings``."""
    stem = storage.name_of(url).partition(".")[0]
    for number, sentence in enumerate(_sentences(url, format, findings), 1):
        identifier = sentence.identifier or f"{stem}-{number:06d}"
        metadata: dict[str, Any] = {
            "id": identifier,
            "language": language,
            "tokens": sentence.tokens,
            "tags": sentence.tags,
        }
        metadata.update(sentence.fields)
        if subset is not None:
            metadata["subset"] = subset
        content = "\n".join([*sentence.tokens, *sentence.tags]).encode()
        key = findings.key_for(identifier, sentence.line, content)
        yield make_sample(key, " ".join(sentence.tokens), metadata, f"{url}:{sentence.line}")


def _sentences(url: str, format: str, findings: Findings) -> Iterator[_Sentence]:
    layout = LAYOUTS[format]
    width = layout.columns
    sentence: _Sentence | None = None
    for number, line in numbered_lines(url, findings):
        if not line.strip(" \t"):
            if sentence is not None and _complete(sentence, format, findings):
                yield sentence
            sentence = None
            continue
        if format == "conll" and line.startswith("-DOCSTART-"):
            continue
        header = _header(line, number, format, findings)
        if header is not None:
            if sentence is not None and sentence.tokens:
                findings.add(
                    number, "no blank line before the header of a sentence", None, "Add one"
                )
                if _complete(sentence, format, findings):
                    yield sentence
                sentence = None
            sentence = sentence or header
            sentence.identifier = header.identifier or sentence.identifier
            sentence.fields.update(header.fields)
            continue
        sentence = sentence or _Sentence(number)
        columns = _columns(line, format)
        if len(columns) < layout.fewest or (width is not None and len(columns) != width):
            findings.add(
                number,
                "wrong number of columns",
                f"{len(columns)}, not {width or f'{layout.fewest} or more'}",
                f"Each line is {layout.shape}",
            )
            sentence.broken = True
            continue
        width = len(columns)
        _add_token(sentence, columns[layout.token], columns[layout.tag], number, findings)
    if sentence is not None and _complete(sentence, format, findings):
        yield sentence


def parse_multiconer_header(line: str) -> tuple[str, dict[str, str]] | None:
    """The identifier and the ``name=value`` pairs of a header line; None for any other line."""
    match = _MULTICONER_HEADER.fullmatch(line)
    if match is None:
        return None
    return match[1], dict(pair.split("=", 1) for pair in match[2].split())


def _header(line: str, number: int, format: str, findings: Findings) -> _Sentence | None:
    """The header that a line is, or None if it is a token line."""
    if format == "multiconer" and line.startswith("# id"):
        header = parse_multiconer_header(line)
        if header is not None:
            identifier, fields = header
            kept = {name: value for name, value in fields.items() if name not in _RESERVED}
            return _Sentence(number, identifier, kept)
        if len(_columns(line, format)) == 4:
            return None
        findings.add(number, "not a sentence header", None, "Write # id ID<TAB>domain=NAME")
        return _Sentence(number, f"line-{number}")
    if format == "iob2" and line.startswith("#"):
        match = _SENTENCE_ID.fullmatch(line)
        return _Sentence(number, match[1] if match else None)
    return None


def _columns(line: str, format: str) -> list[str]:
    if format == "multiconer":
        return line.split(" ")
    if format == "iob2" or "\t" in line:
        return line.split("\t")
    return [column for column in line.split(" ") if column]


def _add_token(sentence: _Sentence, token: str, tag: str, number: int, findings: Findings) -> None:
    """Append a token and its checked tag; a wrong one is recorded and appended as it is."""
    if not token.strip(" "):
        findings.add(number, "an empty token", None, "Remove the line, or name the token")
    before = None if sentence.broken else (sentence.tags or ["O"])[-1]
    sentence.broken = False
    sentence.tokens.append(token)
    sentence.tags.append(_checked(tag, before, number, findings))


def check_tags(tags: list[str], lines: list[int], findings: Findings) -> list[str]:
    """The tags of one sentence, repaired if that is asked for; ``lines`` holds their lines."""
    checked: list[str] = []
    for tag, line in zip(tags, lines, strict=True):
        checked.append(_checked(tag, checked[-1] if checked else "O", line, findings))
    return checked


def _checked(tag: str, before: str | None, number: int, findings: Findings) -> str:
    """The tag, or its repair; ``before`` is the tag before it, None if that is not known."""
    if before is not None and not _TAG.fullmatch(before):
        before = None
    if not _TAG.fullmatch(tag):
        remedy = "Use O, B-TYPE and I-TYPE"
        if _OTHER_SCHEME.fullmatch(tag):
            remedy = "Convert BIOES or BILOU tags to IOB2"
        findings.add(number, "not an IOB2 tag", repr(tag)[:80], remedy)
    elif before is not None and tag[0] == "I" and before[2:] != tag[2:]:
        if findings.repair:
            findings.repairs[REPAIRED_TAG] += 1
            return f"B-{tag[2:]}"
        findings.add(
            number,
            f"an I- tag that does not continue an entity (the tag before it is {before})",
            tag,
            f"Start the entity with B-{tag[2:]}, or give --repair",
        )
    else:
        findings.check_label(tag, number)
    return tag


def _complete(sentence: _Sentence, format: str, findings: Findings) -> bool:
    """Whether the sentence can become a sample."""
    if not sentence.tokens:
        # The comments of a document stand alone; a MultiCoNER header does not.
        if format == "multiconer":
            findings.add(
                sentence.line, "a sentence without tokens", sentence.identifier, "Add them"
            )
        return False
    if format == "multiconer" and sentence.identifier is None and not sentence.broken:
        findings.add(
            sentence.line,
            "a sentence without a header",
            None,
            "Add # id ID<TAB>domain=NAME, or give --format conll",
        )
        return False
    return True
