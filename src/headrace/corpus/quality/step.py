"""The step that measures documents, tags their register, and leaves some out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from headrace.corpus.documents import Document, Filtered
from headrace.corpus.languages.scripts import main_script
from headrace.corpus.languages.tags import canonical, primary, variety_of
from headrace.corpus.quality.measures import MEASURES, measure
from headrace.corpus.quality.register import register
from headrace.corpus.quality.settings import PRESETS, Limit, QualitySettings

_SAMPLE = 10_000
"""Characters from which the script is told where the document does not say it."""


class MeasureQuality:
    """Adds ``quality`` and ``register``.

    Rules: ``quality:`` with the name of the measure; of several the first in the order of
    :data:`~headrace.corpus.quality.measures.MEASURES`.  A limit of a measure that does not apply to
    a document (stop words of a language without a list) does not leave it out.
    """

    def __init__(self, settings: QualitySettings) -> None:
        self._general: dict[str, Limit | None] = dict(PRESETS[settings.preset])
        self._general.update(dict(settings.limits.items()))
        self._by_language: dict[str, Mapping[str, Limit | None]] = {
            variety_of(canonical(tag) or tag): dict(limits.items())
            for tag, limits in settings.by_language.items()
        }
        self._merged: dict[str, list[tuple[str, Limit]]] = {}

    def __call__(self, document: Document) -> Document | Filtered:
        """The same result for the same document in every process."""
        script = document.script or main_script(document.text[:_SAMPLE])
        found = measure(document.text, document.language, script)
        document = replace(document, quality=found, register=register(found, script))
        for name, limit in self.limits(document.tag):
            value = found.get(name)
            if value is not None and not limit.holds(value):
                return Filtered(document, f"quality:{name}", f"{value:g}, wanted {limit}")
        return document

    def limits(self, language: str) -> list[tuple[str, Limit]]:
        """Those that hold for a language: of its tag, else of its language, else general."""
        if language not in self._merged:
            own = self._by_language.get(language, self._by_language.get(primary(language), {}))
            merged: dict[str, Limit | None] = {**self._general, **own}
            limits = [(name, merged.get(name)) for name in MEASURES]
            self._merged[language] = [(name, limit) for name, limit in limits if limit is not None]
        return self._merged[language]
