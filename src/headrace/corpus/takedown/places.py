"""The sources of shards that a takedown is about: those of a corpus, or a single one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from headrace.corpus.catalogue.schema import CORPUS_NAME
from headrace.errors import CorpusError, Problem
from headrace.shards import storage
from headrace.shards.manifest import MANIFEST_NAME


@dataclass(frozen=True)
class Place:
    """A folder that documents are removed from."""

    url: str
    folders: Mapping[str, str]
    """Language -> URL of its source of shards; a single source has the language ``""``."""
    corpus: Mapping[str, Any] | None = field(repr=False)
    """``corpus.json``; None: it is a single source."""


def open_place(url: str) -> Place:
    """The corpus, or the source of shards, in a folder.

    Raises :class:`CorpusError` if it is neither.
    """
    if storage.exists(storage.join(url, CORPUS_NAME)):
        from headrace.corpus.catalogue.catalogue import folders_of, read_corpus_file

        corpus = read_corpus_file(url)
        folders = {
            language: storage.join(url, folder)
            for language, folder in folders_of(corpus, url).items()
        }
        return Place(url, folders, corpus)
    if storage.exists(storage.join(url, MANIFEST_NAME)):
        return Place(url, {"": url}, None)
    raise CorpusError(
        Problem(
            "no corpus and no source of shards",
            url,
            remedy="Name a folder that headrace build has finished",
        )
    )
