"""The step of a build that settles under what licence each document is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from headrace.corpus.documents import Document, Filtered
from headrace.corpus.licences.recognise import recognise
from headrace.corpus.licences.settings import LicenceSettings, Use
from headrace.corpus.licences.spdx import UNKNOWN, both, groups, holds
from headrace.errors import Problem

RULE = "licence"


class LicenceStep:
    """``Document -> Document | Filtered``, by the licences of the document and of its source.

    Before the step, ``document.licence`` is what the record itself names, in any words, if
    ``document.licence_evidence`` is ``document``; of other documents the source's licence is taken.
    Behind it, it is an SPDX expression, with what it was found by as its evidence.

    Both bind: where document and source name different licences, the document is under ``A AND
    B``, and every one of them must be admitted.  A source whose licence is unknown adds nothing to
    a licence that its document names; a statement of a document that is not recognised makes its
    licence unknown.

    Args:
        settings: which licences are admitted.
        sources: id -> licence of each source as it is declared: an expression, a name or an
            address; ``unknown``.

    Raises:
        MissingExtraError: without the packages of the extra ``corpus``.
    """

    def __init__(self, settings: LicenceSettings, sources: Mapping[str, str]) -> None:
        self._settings = settings
        self._licences = {name: _of_source(licence) for name, licence in sources.items()}
        self._decided: dict[str, bool] = {}

    def __call__(self, document: Document) -> Document | Filtered:
        """Settle the licence of one document, and say whether the recipe admits it.

        Raises:
            KeyError: for a document of a source that was not given.
        """
        licence, evidence = self._settled(document)
        document = replace(document, licence=licence, licence_evidence=evidence)
        if licence not in self._decided:
            self._decided[licence] = holds(licence, self._accepts)
        return document if self._decided[licence] else Filtered(document, RULE, licence)

    def _settled(self, document: Document) -> tuple[str, str]:
        source, source_evidence = self._licences[document.source]
        if document.licence_evidence != "document":
            return source, source_evidence
        own = recognise(document.licence)
        if own is None:
            return UNKNOWN, f"document: not recognised; {source_evidence}"
        evidence = f"document: {own.evidence}"
        if own.expression == UNKNOWN:
            return UNKNOWN, f"{evidence}; {source_evidence}"
        if source in (UNKNOWN, own.expression):
            return own.expression, evidence
        return both(own.expression, source), f"conflict: {evidence}; {source_evidence}"

    def _accepts(self, name: str) -> bool:
        if name == UNKNOWN:
            return self._settings.unknown == "keep"
        names = {name, *groups(name)}
        if names & set(self._settings.deny):
            return False
        return not self._settings.allow or bool(names & set(self._settings.allow))


def source_problems(licence: str, where: str) -> list[Problem]:
    """What is wrong with the licence that a recipe gives a source.

    Args:
        licence: as declared.
        where: it stands in the recipe.
    """
    if recognise(licence) is not None:
        return []
    remedy = (
        "Give an SPDX expression, the address or name of a licence, LicenseRef-NAME for terms of "
        "its own, or unknown"
    )
    return [Problem("no licence that is known", where, licence[:80], remedy)]


def terms_problems(forbids: Sequence[Use], uses: Sequence[Use], where: str) -> list[Problem]:
    """What the terms of service of a source forbid, and the corpus is for: whatever the licence.

    Args:
        forbids: uses that the terms forbid.
        uses: of the corpus.
        where: the former stand in the recipe.
    """
    remedy = "Take the source out of the recipe, or the use out of licences.uses"
    return [
        Problem("the terms of the source forbid what the corpus is for", where, use, remedy)
        for use in uses
        if use in forbids
    ]


def _of_source(licence: str) -> tuple[str, str]:
    found = recognise(licence)
    if found is None:
        return UNKNOWN, "source: not recognised"
    return found.expression, f"source: {found.evidence}"
