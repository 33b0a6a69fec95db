"""What a reader of the corpus must know: what could not be looked for, and what was not read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from headrace.corpus.privacy.scan import scanner_for
from headrace.corpus.recipe.settings import Recipe


def warnings_of(
    recipe: Recipe,
    varieties: Iterable[str],
    without_original: Mapping[str, int],
    done: Sequence[Mapping[str, Any]],
) -> list[str]:
    """Sentences for the summary, the corpus's record and its card.

    Args:
        recipe: of the corpus.
        varieties: BCP-47 tags of the languages that it has.
        without_original: documents of which no original is kept, by source.
        done: the ledger's lines of all parts.
    """
    found = []
    privacy = recipe.privacy
    if privacy is None:
        found.append("private information was not looked for")
    else:
        for variety in varieties:
            scanner = scanner_for(variety, privacy.names, privacy.packs)
            found += [f"private information, {gap}" for gap in scanner.warnings]
        if privacy.key is None:
            found.append("without a key, documents about a person cannot be found again")
    changed = sum(row["changed"] for row in done)
    if changed:
        found.append(f"{changed} files or parts of files changed while they were read")
    for source in recipe.sources:
        if source.keep_original:
            found.append(
                f"the original bytes of {source.id} are kept, with the private information in them"
            )
            if number := without_original.get(source.id, 0):
                found.append(f"{number} documents of {source.id} have no bytes of their own")
        if source.licence == "unknown":
            found.append(f"the licence of {source.id} is unknown")
    return found
