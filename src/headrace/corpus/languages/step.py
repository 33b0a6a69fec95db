"""The step that tells the language of documents."""

from __future__ import annotations

from dataclasses import replace

from headrace.corpus.documents import Document, Filtered
from headrace.corpus.languages.detectors import detector
from headrace.corpus.languages.identify import identify
from headrace.corpus.languages.settings import LanguageSettings
from headrace.corpus.languages.tags import UNDETERMINED, canonical, primary


class IdentifyLanguage:
    """Adds language, variety, score, method, script, and shares of a mixed text.

    ``declared_language`` of the document is what its source says.  A declared language that is no
    language tag, or names no language, is moved to ``metadata["declared_language"]``.

    Rules: ``language`` (not one of ``keep``), ``language:undetermined``, ``language:disagreement``.

    Raises:
        CorpusError: for candidates that the method does not know, or a model that is none.
        MissingExtraError: without the packages of the extra ``corpus``, or ``fasttext``.
    """

    def __init__(self, settings: LanguageSettings) -> None:
        self._settings = settings
        self._keep = _primary_languages(settings.keep)
        detector(settings.method, settings.candidates, settings.model)

    def __call__(self, document: Document) -> Document | Filtered:
        """The same result for the same document in every process."""
        settings = self._settings
        said = document.declared_language
        found = identify(document.text, said, settings)
        metadata = document.metadata
        if said and found.declared is None:
            metadata = {**metadata, "declared_language": said[:100]}
        document = replace(
            document,
            language=found.language,
            variety=found.variety,
            language_score=found.score,
            language_method=found.method,
            detected_language=found.detected,
            declared_language=found.declared,
            languages=found.languages,
            script=found.script,
            metadata=metadata,
        )
        if found.language == UNDETERMINED and settings.drop_undetermined:
            return Filtered(document, "language:undetermined", f"score {found.score:.2f}")
        if found.disagrees and settings.drop_disagreeing:
            detail = f"declared {found.declared}, detected {found.detected}"
            return Filtered(document, "language:disagreement", detail)
        if (
            self._keep is not None
            and found.language != UNDETERMINED
            and found.language not in self._keep
        ):
            return Filtered(document, "language", found.variety)
        return document


def _primary_languages(tags: tuple[str, ...] | None) -> frozenset[str] | None:
    return None if tags is None else frozenset(primary(canonical(tag) or tag) for tag in tags)
