"""The step of a build that takes private information out of documents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, Final

from headrace.corpus.documents import Document, Filtered, Reject
from headrace.corpus.privacy.deidentify import Mode, Result, deidentify
from headrace.corpus.privacy.key import Key
from headrace.corpus.privacy.settings import PrivacySettings

RULE: Final = "private information"


class Deidentify:
    """The step: a document without private information in its text, title, URL and metadata.

    Whatever a document has that is dropped by its mode is :class:`Filtered`; a text that cannot be
    searched to its end is a :class:`Reject`.
    """

    def __init__(self, settings: PrivacySettings, key: Key | None) -> None:
        self._settings = settings
        self._key = key
        # A field that cannot do without what it holds must not drop the whole document.
        self._field_modes: dict[str, Mode] = {
            type_: "mask" for type_, mode in settings.modes.items() if mode == "drop"
        }

    def __call__(self, document: Document) -> Document | Filtered | Reject:
        """Raises nothing, whatever the text is."""
        result = self._deidentified(document.text, document.tag)
        if result.text is None:
            if result.reason is not None and result.reason.startswith(f"{RULE}:"):
                detail = result.reason.removeprefix(f"{RULE}:").strip()
                return Filtered(replace(document, private_counts=result.counts), RULE, detail)
            return Reject(document.key, RULE, result.reason or "", document.offset)
        return replace(
            document,
            text=result.text,
            private=tuple(asdict(span) for span in result.spans),
            private_counts=dict(result.counts),
            subject_keys=result.subject_keys,
        )

    def gaps(self, language: str) -> list[str]:
        """What could not be looked for in a language: packs that are missing."""
        return [str(gap) for gap in self._deidentified("", language).warnings]

    def field(self, text: str, language: str) -> str:
        """A title, URL or other field of a document without private information."""
        settings = self._settings
        mode: Mode = "mask" if settings.mode == "drop" else settings.mode
        result = deidentify(
            text,
            language,
            mode,
            key=self._key,
            modes={**settings.modes, **self._field_modes},
            names=False,
            packs=settings.packs,
        )
        return f"<{RULE}>" if result.text is None else result.text

    def value(self, value: Any, language: str) -> Any:
        """A JSON value with :meth:`field` of every text in it."""
        if isinstance(value, str):
            return self.field(value, language)
        if isinstance(value, Mapping):
            return {
                self.field(name, language): self.value(item, language)
                for name, item in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [self.value(item, language) for item in value]
        return value

    def _deidentified(self, text: str, language: str) -> Result:
        settings = self._settings
        return deidentify(
            text,
            language,
            settings.mode,
            key=self._key,
            modes=settings.modes,
            names=settings.names,
            packs=settings.packs,
        )
