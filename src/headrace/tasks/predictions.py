"""Predictions as files: tags as CoNLL, as MultiCoNER distributes its data, and JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from headrace.errors import CorpusError, Problem
from headrace.shards import storage
from headrace.tasks.spans import strict_spans, tags_of_spans


@dataclass(frozen=True)
class Prediction:
    """One sentence with its predicted tags."""

    id: str
    """The identifier that the corpus gave the sentence."""
    language: str
    """BCP-47."""
    tokens: Sequence[str]
    tags: Sequence[str]
    """One IOB2 tag a token."""
    domain: str | None = None
    """The ``domain`` of the corpus; the language where it has none."""
    probabilities: Sequence[float | None] | None = None
    """That of each tag, where they were asked for; None for a word that no model sees."""


def write_conll(url: str, predictions: Iterable[Prediction]) -> int:
    """Write predictions as CoNLL text (UTF-8) and return how many there are.

    Each sentence is a line ``# id ID<TAB>domain=DOMAIN``, a line ``TOKEN _ _ TAG`` for each word,
    and a blank line.  Tags are written well-formed: those of the spans that the strict rule of
    :mod:`headrace.tasks.spans` finds, so that every reader and scorer sees the same entities.  The
    file appears at ``url`` only when it is complete.

    Raises ``CorpusError`` with every problem if an identifier, domain or token holds what the
    format uses to separate them: line ends and tabs, and in tokens any blank.
    """
    problems: list[Problem] = []
    written = 0
    with storage.open_atomically(url) as file:
        for prediction in predictions:
            written += 1
            problems += _conll_problems(prediction, f"{url}: sentence {written}")
            domain = prediction.domain or prediction.language
            lines = [f"# id {prediction.id}\tdomain={domain}"]
            tags = tags_of_spans(strict_spans(prediction.tags), len(prediction.tags))
            lines += [
                f"{token} _ _ {tag}" for token, tag in zip(prediction.tokens, tags, strict=True)
            ]
            file.write(("\n".join(lines) + "\n\n").encode())
        if problems:
            raise CorpusError(problems)
    return written


def write_json_lines(url: str, predictions: Iterable[Prediction]) -> int:
    """Write predictions as JSON lines (UTF-8) and return how many there are.

    Each line is the object that :func:`prediction_record` gives.  The file appears at ``url``
    only when it is complete.
    """
    return write_records(url, map(prediction_record, predictions))


def write_records(url: str, records: Iterable[Mapping[str, Any]]) -> int:
    """Write objects as JSON lines (UTF-8) and return how many there are.

    The file appears at ``url`` only when it is complete.
    """
    written = 0
    with storage.open_atomically(url) as file:
        for record in records:
            written += 1
            file.write(f"{json.dumps(record, ensure_ascii=False)}\n".encode())
    return written


def prediction_record(prediction: Prediction) -> dict[str, Any]:
    """A prediction as a JSON object: id, language, tokens, tags and entities.

    An entity has a ``type``, ``start`` and ``end`` (exclusive) counted in tokens from 0, and its
    ``text``, the tokens joined by spaces.  Entities follow the strict rule of
    :mod:`headrace.tasks.spans`, as the scores do; ``tags`` are those that the model gave.  Where
    there are ``probabilities`` of the tags, that of an entity is the product of those of its words.
    """
    shares = prediction.probabilities
    return {
        "id": prediction.id,
        "language": prediction.language,
        "tokens": list(prediction.tokens),
        "tags": list(prediction.tags),
        **({} if shares is None else {"probabilities": list(shares)}),
        "entities": [
            {
                "type": span.type,
                "start": span.start,
                "end": span.end,
                "text": " ".join(prediction.tokens[span.start : span.end]),
                **(
                    {}
                    if shares is None
                    else {"probability": prod(one or 0.0 for one in shares[span.start : span.end])}
                ),
            }
            for span in strict_spans(prediction.tags)
        ],
    }


def _conll_problems(prediction: Prediction, where: str) -> list[Problem]:
    """What of a sentence the CoNLL format cannot hold."""
    remedy = "Write JSON lines, which hold any text"
    problems = []
    header = prediction.id + (prediction.domain or prediction.language)
    if "\t" in header or len(header.splitlines()) > 1:
        problems.append(Problem("a tab or line end in the id or domain", where, remedy=remedy))
    for token in prediction.tokens:
        if not token or any(character.isspace() for character in token):
            problems.append(Problem("an empty token or a blank in one", where, remedy=remedy))
            break
    return problems
