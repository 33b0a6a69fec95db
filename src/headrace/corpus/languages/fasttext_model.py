"""Models of fastText that tell languages: lid.176, OpenLID, GlotLID, or one of your own.

What a model knows is read from its file without the package: the header says what it is, and its
dictionary has the labels behind the words.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path

from headrace.corpus.languages.candidates import chosen
from headrace.corpus.languages.tags import NO_LANGUAGE, canonical, primary
from headrace.errors import CorpusError, MissingExtraError, Problem

_MAGIC = 793712314
_HEADER = struct.Struct("<2i12id")
"""Magic number, version, twelve settings, the sampling threshold."""
_MODEL, _SUPERVISED = 9, 3
"""Place of the kind of the model in the header; the kind that has labels."""
_DICTIONARY = struct.Struct("<3i2q")
"""Entries, words, labels; tokens, size of the index of a pruned one."""
_BEHIND_NAME = 9
"""Bytes of an entry behind its name: how often it occurred, and whether it is a word or a label."""
_PREFIX = "__label__"
_ANSWERS = 20
"""Likeliest labels of a text that are looked at."""
_WHERE = "languages.model"


class FastText:
    """A detector of languages by a model of fastText.

    Labels are language tags in any spelling, with or without a script: ``__label__de``,
    ``__label__deu_Latn``.  Labels of one language are added up, and labels that are no language
    are no answers.

    Raises:
        CorpusError: for a file that is no such model, or for candidates that it does not know,
            or fewer than two.
        MissingExtraError: without the package.
    """

    def __init__(self, model: str, candidates: tuple[str, ...] | None) -> None:
        try:
            from fasttext import load_model
        except ModuleNotFoundError:
            purpose = "telling languages by a model of fastText"
            raise MissingExtraError("fasttext-predict", "fasttext", purpose) from None
        known = languages_of(Path(model))
        wanted = frozenset(chosen(sorted(set(known.values())), candidates, "the model"))
        self._tags = {label: tag for label, tag in known.items() if tag in wanted}
        self._answers = _ANSWERS if candidates is None else -1
        self._model = load_model(model)

    @property
    def languages(self) -> frozenset[str]:
        """Those of its labels, or of the candidates."""
        return frozenset(self._tags.values())

    def ranking(self, text: str) -> list[tuple[str, float]]:
        """Languages with their probabilities, the likeliest first."""
        labels, values = self._model.predict(text.replace("\n", " "), k=self._answers)
        found: dict[str, float] = {}
        for label, value in zip(labels, values, strict=True):
            tag = self._tags.get(label)
            if tag is not None:
                found[tag] = found.get(tag, 0.0) + value
        ranking = [(tag, min(value, 1.0)) for tag, value in found.items()]
        return sorted(ranking, key=lambda one: -one[1])


def languages_of(path: Path) -> dict[str, str]:
    """The language of each label of a model; labels that are none are left out.

    Raises:
        CorpusError: if the file is not there, is no fastText model with labels, or has no label
            that is a language.
    """
    try:
        labels = list(_labels(path))
    except OSError as error:
        remedy = "Name a file such as lid.176.bin, or the model.bin of GlotLID"
        raise CorpusError(
            Problem(error.strerror or "not read", _WHERE, str(path), remedy)
        ) from error
    except (struct.error, UnicodeDecodeError, ValueError) as error:
        remedy = "Name a supervised model that fastText has written"
        problem = Problem("no fastText model that has labels", _WHERE, str(path), remedy)
        raise CorpusError(problem) from error
    names = {label.removeprefix(_PREFIX) for label in labels}
    # Wikipedia's code, and so that of lid.176, of a language that is not Albanian
    alemannic = {"als"} if "sq" in names else set()
    found = {}
    for name in names:
        tag = "gsw" if name in alemannic else canonical(name)
        if tag is not None and primary(tag) not in NO_LANGUAGE:
            found[_PREFIX + name] = primary(tag)
    if not found:
        remedy = f"Its labels must be language tags, such as {_PREFIX}de or {_PREFIX}deu_Latn"
        raise CorpusError(
            Problem("no label of the model is a language", _WHERE, ", ".join(labels[:5]), remedy)
        )
    return found


def _labels(path: Path) -> Iterator[str]:
    """The labels of a model, in their order; ``ValueError`` if it has none, or is no model."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        header = _HEADER.unpack_from(data)
        if header[0] != _MAGIC or header[_MODEL] != _SUPERVISED:
            raise ValueError("another kind of file, or of model")
        entries, words, *_ = _DICTIONARY.unpack_from(data, _HEADER.size)
        if not 0 <= words < entries:
            raise ValueError("no labels")
        place = _HEADER.size + _DICTIONARY.size
        for number in range(entries):
            end = data.find(b"\0", place)
            if end < 0:
                raise ValueError("it ends in the dictionary")
            if number >= words:
                yield data[place:end].decode("utf-8")
            place = end + 1 + _BEHIND_NAME
