"""What is done to one record: the steps of a recipe, in their order, to its row in the table."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from headrace.corpus.building.outcomes import filtered_row, kept_row, rejected_row
from headrace.corpus.documents import (
    Document,
    Filtered,
    Record,
    Reject,
    content_hash,
    document_id,
)
from headrace.corpus.duplicates.signatures import Signer
from headrace.corpus.languages.step import IdentifyLanguage
from headrace.corpus.licences.step import LicenceStep
from headrace.corpus.media.refusal import RefusalError
from headrace.corpus.normalise import Normalise
from headrace.corpus.privacy.key import load_key
from headrace.corpus.privacy.step import Deidentify
from headrace.corpus.quality.step import MeasureQuality
from headrace.corpus.recipe.files import InputFile, language_of_name
from headrace.corpus.recipe.settings import FROM_FILE_NAME, Recipe, Source
from headrace.shards.sample import make_sample

Step = Callable[[Document], Document | Filtered | Reject]


class Examiner:
    """Examines the records of a recipe's sources; heavy libraries are imported as it is made.

    Raises:
        UserError: if a step cannot be made: a package is missing, a pack or the key cannot be used.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._privacy: Deidentify | None = None
        if recipe.privacy is not None:
            key = load_key(recipe.privacy.key) if recipe.privacy.key is not None else None
            self._privacy = Deidentify(recipe.privacy, key)
        duplicates = recipe.duplicates
        near = duplicates.near if duplicates is not None else None
        self._signer = Signer(near) if near is not None else None
        self._steps: list[tuple[str, Step]] = self._made()

    def _made(self) -> list[tuple[str, Step]]:
        recipe = self._recipe
        sources = {source.id: source.licence for source in recipe.sources}
        steps: list[tuple[str, Step]] = [
            ("normalise", Normalise(recipe.normalise)),
            ("language", IdentifyLanguage(recipe.languages)),
            ("licence", LicenceStep(recipe.licences, sources)),
        ]
        if self._privacy is not None:
            steps.append(("privacy", self._privacy))
        if recipe.quality is not None:
            steps.append(("quality", MeasureQuality(recipe.quality)))
        return steps

    def row(
        self,
        record: Record | Reject,
        file: InputFile,
        original: Callable[[Record], bytes | None] | None = None,
    ) -> dict[str, Any]:
        """The row of what a reader found; whatever a step raises makes the record a rejected one.

        Args:
            record: what was found.
            file: in which.
            original: reads the bytes of a document that is kept, or says None where it has none;
                without it they are not kept.

        Raises:
            MemoryError: if the record needs more memory than it may have.
        """
        source = self._recipe.sources[file.source]
        if isinstance(record, Reject):
            return rejected_row(self._clean_reject(record), source.id, file.url)
        step = "document"
        try:
            document = _document(record, source, file)
            for step, take in self._steps:
                result = take(document)
                if isinstance(result, Reject):
                    return rejected_row(self._clean_reject(result), source.id, file.url)
                if isinstance(result, Filtered):
                    step = "private fields"
                    left_out = replace(result, document=self._clean(result.document))
                    return filtered_row(left_out, source.governance())
                document = result
            step = "private fields"
            document = self._clean(document)
            step = "signature"
            columns = self._signer.columns(document) if self._signer is not None else {}
            step = "sample"
            sample = make_sample(document.id, document.text, _metadata(document))
            step = "original"
            data = original(record) if original is not None else None
            return kept_row(document, source.governance(), sample.fields, data, columns)
        except MemoryError:
            raise
        except RefusalError as error:
            reject = Reject(record.key, error.reason, error.detail or step, record.offset)
        except Exception as error:
            # The message may quote the document: its kind and place must do.
            reject = Reject(record.key, "crashed", f"{step}: {_place(error)}", record.offset)
        return rejected_row(self._clean_reject(reject), source.id, file.url)

    def _clean(self, document: Document) -> Document:
        """The document without private information outside of its text."""
        privacy = self._privacy
        if privacy is None:
            return document
        language = document.tag
        return replace(
            document,
            key=self._clean_key(document.key),
            title=None if document.title is None else privacy.field(document.title, language),
            url=None if document.url is None else privacy.field(document.url, language),
            metadata={
                name: privacy.value(value, language) for name, value in document.metadata.items()
            },
        )

    def _clean_reject(self, reject: Reject) -> Reject:
        return replace(reject, key=self._clean_key(reject.key))

    def _clean_key(self, key: str) -> str:
        """A key names a file, or a record by what its file says: an address may be part of it."""
        if self._privacy is None or "@" not in key:
            return key
        return self._privacy.field(key, "und")


def _document(record: Record, source: Source, file: InputFile) -> Document:
    declared = record.language or source.language
    if declared == FROM_FILE_NAME:
        declared = language_of_name(file.key)
    return Document(
        id=document_id(source.id, record.key),
        source=source.id,
        key=record.key,
        text=record.text,
        content_hash=content_hash(record.text),
        url=record.url,
        title=record.title,
        collected_at=record.collected_at or source.collected_at,
        format=record.format,
        encoding=record.encoding,
        file=file.url,
        offset=record.offset,
        length=record.length,
        declared_language=declared,
        licence=record.licence or source.licence,
        licence_evidence="document" if record.licence else "source",
        metadata=record.metadata,
    )


def _metadata(document: Document) -> Mapping[str, Any]:
    """Field ``json`` of its sample: what is known, without what is empty."""
    found = {
        "source": document.source,
        "key": document.key,
        "url": document.url,
        "title": document.title,
        "collected_at": document.collected_at,
        "language": document.language,
        "variety": None if document.variety == document.language else document.variety,
        "script": document.script,
        "languages": dict(document.languages),
        "licence": document.licence,
        "format": document.format,
        "private": [dict(span) for span in document.private],
        "metadata": dict(document.metadata),
    }
    return {name: value for name, value in found.items() if value not in (None, {}, [])}


def _place(error: Exception) -> str:
    """Kind and place of an exception, without its message."""
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1] if frames else None
    place = f" at {Path(last.filename).name}:{last.lineno}" if last is not None else ""
    return f"{type(error).__name__}{place}"
