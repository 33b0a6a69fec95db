"""The errors of a model that tags words, in sources: counted, with the texts that they are in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from headrace.shards.reader import ShardReader
from headrace.tasks.ner_errors import KnownEntities, NerErrors
from headrace.tasks.token_classification import TokenClassification


def known_entities(urls: Iterable[str]) -> KnownEntities:
    """Return the entities of training sources."""

    def sentences() -> Iterable[tuple[Sequence[str], Sequence[str]]]:
        for url in urls:
            for sample in ShardReader(url):
                metadata = sample.metadata
                yield metadata["tokens"], metadata["tags"]

    return KnownEntities(sentences())


def analyse_errors(
    tasks: Mapping[str, TokenClassification],
    urls: Mapping[str, str],
    tags: Mapping[str, Sequence[Sequence[str]]],
    *,
    known: Mapping[str, KnownEntities],
    examples: int = 0,
) -> dict[str, Any]:
    """Return the errors of each language and, of several, of all together.

    Args:
        tasks: by language.
        urls: sources by language.
        tags: predicted tags by language, of each sample of its source in order.
        known: training entities by language, of those that have some.
        examples: texts of so many errors of each kind are part of the result; 0: of none.

    The result has ``languages`` and ``all`` with what :meth:`NerErrors.result` gives, ``families``
    (type -> coarse family) and, where asked for, ``examples`` by language.
    """
    first = next(iter(tasks.values())).label_set
    together = NerErrors(first)
    by_language: dict[str, NerErrors] = {}
    for language, url in urls.items():
        errors = NerErrors(tasks[language].label_set, known=known.get(language), examples=examples)
        by_language[language] = errors
        for sample, predicted in zip(ShardReader(url), tags[language], strict=True):
            metadata = sample.metadata
            errors.update(
                metadata["tokens"],
                metadata["tags"],
                predicted,
                subset=metadata.get("subset"),
                identifier=str(metadata.get("id", sample.key)),
            )
        together.merge(errors)
    return {
        "families": dict(first.coarse),
        "languages": {language: errors.result() for language, errors in by_language.items()},
        "all": together.result() if len(by_language) > 1 else None,
        **(
            {
                "examples": {
                    language: [example.as_dict() for example in errors.examples]
                    for language, errors in by_language.items()
                }
            }
            if examples
            else {}
        ),
    }
