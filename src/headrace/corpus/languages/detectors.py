"""The libraries that tell languages apart, behind one face.

lingua (Apache-2.0, 75 languages, a wheel of 96 MB) in its low-accuracy mode, which looks at three
letters at a time; py3langid (BSD, 138 languages, 5 MB): both have their models in their package.
fastText (MIT) with a model that the recipe names.  All give the same result for the same text in
every process.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from headrace.corpus.languages.candidates import chosen
from headrace.corpus.languages.fasttext_model import FastText
from headrace.corpus.languages.tags import canonical
from headrace.errors import MissingExtraError

if TYPE_CHECKING:
    from lingua import Language

Method = Literal["py3langid", "lingua", "fasttext"]

_NOT_A_LANGUAGE = "zxx"
_TAKEN_FOR = {"wuu": "zh"}
"""py3langid takes one of twelve Chinese sentences for Wu, which is hardly written: it counts as
Chinese unless it is among the candidates."""


_LEAST = 1e-5
"""A less likely language is none of the answer."""


class Detector(Protocol):
    """Tells how likely each language is."""

    @property
    def languages(self) -> frozenset[str]:
        """Canonical tags of those it knows, or may answer with."""

    def ranking(self, text: str) -> Sequence[tuple[str, float]]:
        """Languages with their probabilities, the likeliest first; it may be empty."""


@lru_cache(maxsize=8)
def detector(
    method: Method, candidates: tuple[str, ...] | None = None, model: str | None = None
) -> Detector:
    """A detector, loaded once a process.

    Args:
        method: the library.
        candidates: language tags; answers are these languages only.  None: all it knows.
        model: file of the model, for fastText.

    Raises:
        CorpusError: for candidates that the library does not know, or fewer than two; for a file
            that is no model.
        MissingExtraError: without the library.
    """
    if method == "fasttext":
        assert model is not None, "the settings have one"
        return FastText(model, candidates)
    return _Lingua(candidates) if method == "lingua" else _Langid(candidates)


class _Lingua:
    def __init__(self, candidates: tuple[str, ...] | None) -> None:
        try:
            from lingua import Language, LanguageDetectorBuilder
        except ModuleNotFoundError:
            raise _missing("lingua-language-detector") from None
        known = {_tag(language): language for language in Language.all()}
        tags = chosen(list(known), candidates, "lingua")
        self._tags = {known[tag]: tag for tag in tags}
        builder = LanguageDetectorBuilder.from_languages(*self._tags)
        self._detector = builder.with_low_accuracy_mode().build()

    @property
    def languages(self) -> frozenset[str]:
        return frozenset(self._tags.values())

    def ranking(self, text: str) -> list[tuple[str, float]]:
        values = self._detector.compute_language_confidence_values(text)
        return [(self._tags[one.language], one.value) for one in values if one.value]


class _Langid:
    def __init__(self, candidates: tuple[str, ...] | None) -> None:
        try:
            from py3langid.langid import MODEL_FILE, LanguageIdentifier
        except ModuleNotFoundError:
            raise _missing("py3langid") from None
        self._identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
        labels = [label for label in self._identifier.labels if label != _NOT_A_LANGUAGE]
        known = {canonical(label) or label: label for label in labels}
        tags = chosen(list(known), candidates, "py3langid")
        self._tags = {known[tag]: tag for tag in tags}
        if candidates is None:
            self._tags |= _TAKEN_FOR
        else:
            self._identifier.set_languages(list(self._tags))
        # its numbers of two bytes are converted at each look; 28 MB more, less than half the time
        self._identifier.nb_ptc = self._identifier.nb_ptc.astype(np.float32)
        self._columns = [self._tags.get(label) for label in self._identifier.nb_classes]

    @property
    def languages(self) -> frozenset[str]:
        return frozenset(self._tags.values())

    def ranking(self, text: str) -> list[tuple[str, float]]:
        # what ``rank`` sorts, before it makes a list of all 138
        scores = self._identifier._decide(text)
        probabilities: dict[str, float] = {}
        for column in np.flatnonzero(scores >= _LEAST).tolist():
            tag = self._columns[column]
            if tag is not None:
                probabilities[tag] = probabilities.get(tag, 0.0) + float(scores[column])
        return sorted(probabilities.items(), key=lambda one: -one[1])


def _tag(language: Language) -> str:
    code = language.iso_code_639_1.name.lower()
    return canonical(code) or code


def _missing(package: str) -> MissingExtraError:
    return MissingExtraError(package, "corpus", "telling languages apart")
