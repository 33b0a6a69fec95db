"""What a card says about a corpus in numbers and names, from its index and ``corpus.json``."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.corpus.card.takedowns import Takedown, read_takedowns
from headrace.corpus.catalogue.catalogue import Catalogue, sources_of
from headrace.corpus.catalogue.schema import INDEX_NAME
from headrace.corpus.catalogue.summary import summarise
from headrace.corpus.languages.tags import UNDETERMINED
from headrace.shards import storage

_PIECE = 1 << 20


@dataclass(frozen=True)
class Facts:
    """All that a card is made of beside its description."""

    name: str
    version: str
    description: str | None
    """Of the recipe."""
    summary: Mapping[str, Any]
    """As in ``report.json``."""
    sources: Sequence[Mapping[str, Any]]
    folders: Mapping[str, str]
    """Language -> folder of its shards."""
    warnings: Sequence[str]
    takedowns: Sequence[Takedown]
    index_sha256: str
    recipe: Mapping[str, Any]
    """As ``corpus.json`` has it; empty where it has none."""

    @property
    def languages(self) -> list[str]:
        """Languages that have documents, most documents first, without those that are unknown."""
        rows = self.summary["by"]["language"]
        return [row["language"] for row in rows if row["language"] != UNDETERMINED]

    @property
    def varieties(self) -> list[str]:
        """BCP-47 tags of the documents, most documents first, without those that are unknown."""
        rows = self.summary["by"]["variety"]
        return [row["variety"] for row in rows if row["variety"] != UNDETERMINED]

    @property
    def licences(self) -> list[str]:
        """SPDX expressions of the documents, most documents first."""
        return [row["licence"] for row in self.summary["by"]["licence"]]


def read_facts(url: str) -> Facts:
    """The facts of a corpus; raises as :class:`Catalogue` does."""
    with Catalogue(url) as catalogue:
        summary = summarise(catalogue)
        corpus = catalogue.corpus
        return Facts(
            name=catalogue.name,
            version=str(corpus.get("version") or ""),
            description=corpus.get("description"),
            summary=summary,
            sources=sources_of(corpus),
            folders={
                language: folder
                for language, folder in catalogue.folders.items()
                if any(row["language"] == language for row in summary["by"]["language"])
            },
            warnings=[str(warning) for warning in corpus.get("warnings") or ()],
            takedowns=read_takedowns(url),
            index_sha256=_sha256(storage.join(url, INDEX_NAME)),
            recipe=corpus.get("recipe") or {},
        )


def _sha256(url: str) -> str:
    digest = hashlib.sha256()
    with storage.open_for_reading(url) as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()
