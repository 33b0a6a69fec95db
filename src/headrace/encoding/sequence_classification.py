"""Samples of sequence classification as arrays: a text or a pair, with its label or its score.

Labels are kept by name, so that a sidecar does not depend on what a run makes of them: whether
sources share a head, and in which order its labels are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from headrace.encoding.alignment import check_max_length
from headrace.encoding.pairs import copied_backend, has_token_types, pair_template
from headrace.encoding.report import TextReport
from headrace.encoding.task_encoder import (
    MAXIMUM_NAMES,
    SAMPLES_AT_ONCE,
    EncodedSamples,
    EncodingSpec,
    SampleProblems,
    metadata_of,
    offsets_of,
)
from headrace.errors import Problem, ShardError

if TYPE_CHECKING:
    from headrace.shards.sample import Sample

NO_LABEL = -1
"""In place of the number of a label where a sample has none."""


class Text(NamedTuple):
    """What is labelled."""

    first: str
    second: str | None


class EncodedText(NamedTuple):
    """A text, or a pair, as a network sees it."""

    ids: list[int]
    types: list[int]
    """Token types; all are 0 where the tokenizer does not name them among a model's inputs."""
    cut: int
    """Tokens that the maximum length left no room for."""


class TextEncoder:
    """Encodes texts and pairs by the tokenizer's own templates.

    What is beyond the maximum length is cut as the tokenizer does it for its own users who ask for
    ``truncation=True``: token by token from the longer text of a pair, on the tokenizer's side.
    """

    def __init__(self, tokenizer: Any, max_length: int) -> None:
        self._whole = copied_backend(tokenizer)
        self._cutting = copied_backend(tokenizer)
        self._cutting.enable_truncation(
            max_length, strategy="longest_first", direction=tokenizer.truncation_side
        )
        self._has_types = has_token_types(tokenizer)
        self._max_length = max_length

    def encode(self, texts: Sequence[Text]) -> list[EncodedText]:
        """The texts in their order."""
        inputs = [
            text.first if text.second is None else (text.first, text.second) for text in texts
        ]
        encodings = self._whole.encode_batch(inputs, add_special_tokens=True)
        sizes = [len(encoding.ids) for encoding in encodings]
        long = [number for number, size in enumerate(sizes) if size > self._max_length]
        shortened = self._cutting.encode_batch([inputs[number] for number in long])
        for number, encoding in zip(long, shortened, strict=True):
            encodings[number] = encoding
        return [
            EncodedText(
                encoding.ids,
                encoding.type_ids if self._has_types else [0] * len(encoding.ids),
                size - len(encoding.ids),
            )
            for encoding, size in zip(encodings, sizes, strict=True)
        ]


class SequenceClassificationEncoder:
    """Encodes samples whose ``json`` field has ``label``, a name, or ``score``, a number, or both.

    The text is its ``text``, or else field ``txt``; ``pair`` may hold a second one, and ``subset``
    name a part of the data.  Problems of all samples seen are gathered in ``problems``; from the
    first one on samples are checked and no longer encoded.
    """

    task = "sequence_classification"

    def __init__(self, tokenizer: Any, max_length: int) -> None:
        """Raise :class:`EncodingError` if `max_length` is out of range."""
        check_max_length(tokenizer, max_length, pair=True)
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._token_type = np.uint16 if len(tokenizer) <= 2**16 else np.uint32
        self._problems = SampleProblems()

    @cached_property
    def _texts(self) -> TextEncoder:
        # Copying a large tokenizer takes a while and is needed only where something is encoded.
        return TextEncoder(self._tokenizer, self._max_length)

    @cached_property
    def spec(self) -> EncodingSpec:
        """What the arrays depend on besides the text."""
        side = self._tokenizer.truncation_side
        template = f"{pair_template(self._tokenizer)}, cut on the {side}"
        return EncodingSpec.of(self.task, self._tokenizer, self._max_length, template=template)

    @property
    def array_types(self) -> Mapping[str, np.dtype[Any]]:
        """Name and dtype of every array of a shard with n samples.

        ``tokens`` and ``token_types`` lie flat between ``token_offsets`` ``[n + 1]``.  ``labels``
        (position in the shard's list of names, or :data:`NO_LABEL`), ``scores`` (or not a number),
        ``label_counts`` (1) and ``subsets`` are ``[n]``.
        """
        types = {
            "tokens": self._token_type,
            "token_types": np.uint8,
            "token_offsets": np.int64,
            "labels": np.int32,
            "scores": np.float64,
            "label_counts": np.int32,
            "subsets": np.uint8,
        }
        return {name: np.dtype(type_) for name, type_ in types.items()}

    @property
    def problems(self) -> list[Problem]:
        """Malformed samples seen so far: one entry a sample, and a count of the rest."""
        return self._problems.listed()

    def encode(
        self, samples: Iterable[Sample], shard: str, progress: Callable[[int], object]
    ) -> EncodedSamples | None:
        """Encode all samples of the shard of this name; None if there are problems.

        The facts hold ``labels``, the names in the order of their numbers, and for messages the
        keys of the first sample that has each label (``label_places``) and of the first one that
        has no label, and no score (``without``).
        """
        rows: list[EncodedText] = []
        pairs = 0
        labels: list[int] = []
        scores: list[float] = []
        subset_numbers: list[int] = []
        subsets: dict[str | None, int] = {None: 0}
        numbers: dict[str, int] = {}
        places: list[str] = []
        without: dict[str, str] = {}
        remaining = iter(samples)
        while chunk := list(islice(remaining, SAMPLES_AT_ONCE)):
            texts = []
            for sample in chunk:
                content = self._checked(sample, shard)
                if content is None:
                    continue
                texts.append(Text(content["text"], content.get("pair")))
                pairs += texts[-1].second is not None
                label, score = content.get("label"), content.get("score")
                for kind, value in (("label", label), ("score", score)):
                    if value is None:
                        without.setdefault(kind, sample.key)
                if label is not None and label not in numbers:
                    numbers[label] = len(numbers)
                    places.append(sample.key)
                labels.append(NO_LABEL if label is None else numbers[label])
                scores.append(math.nan if score is None else float(score))
                subset = content.get("subset")
                subset_numbers.append(subsets.setdefault(subset, len(subsets)))
            if not self._problems:
                rows += self._texts.encode(texts)
            progress(len(chunk))
        if len(subsets) - 1 > MAXIMUM_NAMES:
            what = f"{len(subsets) - 1} different subsets, {MAXIMUM_NAMES} are the most"
            self._problems.add(Problem(what, f"shard {shard}"))
        if self._problems:
            return None
        sizes = np.array([len(row.ids) for row in rows], dtype=np.int64)
        arrays = {
            "tokens": np.fromiter(chain.from_iterable(row.ids for row in rows), np.int64),
            "token_types": np.fromiter(chain.from_iterable(row.types for row in rows), np.int64),
            "token_offsets": offsets_of(sizes),
            "labels": np.array(labels),
            "scores": np.array(scores),
            "label_counts": np.ones(len(rows)),
            "subsets": np.array(subset_numbers),
        }
        typed = {name: arrays[name].astype(type_) for name, type_ in self.array_types.items()}
        report = TextReport(
            samples=len(rows),
            pairs=pairs,
            tokens=int(sizes.sum()),
            samples_truncated=sum(row.cut > 0 for row in rows),
            tokens_cut=sum(row.cut for row in rows),
        )
        names = tuple(name for name in subsets if name is not None)
        facts = {
            "labels": list(numbers),
            "label_places": places,
            "without": without,
        }
        return EncodedSamples(typed, report, names, facts)

    def _checked(self, sample: Sample, shard: str) -> dict[str, Any] | None:
        """The sample's ``json`` field with its text, or None after noting what is wrong with it."""
        content = metadata_of(sample, shard, self._problems)
        if content is None:
            return None
        place = f"shard {shard} sample {sample.key}"
        try:
            content = {"text": sample.text, **content}
        except ShardError as error:
            for p in error.problems:
                self._problems.add(Problem(p.what, f"shard {shard} {p.where}", p.value, p.remedy))
            return None
        what = malformation(content)
        if what is not None:
            remedy = "Build the source from samples with a text and a label or a score"
            self._problems.add(Problem(what, place, remedy=remedy))
            return None
        return content


def malformation(content: Mapping[str, Any], *, labelled: bool = True) -> str | None:
    """What is wrong with the content of a sample, or None; without `labelled` neither its label
    nor its score is looked at."""
    text, pair = content.get("text"), content.get("pair")
    if text is None:
        return "the sample has no text"
    if not isinstance(text, str):
        return "text is not a string"
    if pair is not None and not isinstance(pair, str):
        return "pair is not a string"
    try:
        (text + (pair or "")).encode("utf-8")
    except UnicodeEncodeError:
        return "a text is not valid Unicode (a lone surrogate)"
    if content.get("subset") is not None and not isinstance(content["subset"], str):
        return "subset is not a string"
    return _malformed_label(content) if labelled else None


def _malformed_label(content: Mapping[str, Any]) -> str | None:
    label, score = content.get("label"), content.get("score")
    if label is None and score is None:
        return "the sample has neither a label nor a score"
    if isinstance(label, bool | int | float):
        return "the label is a number, labels are names; a number is called score"
    if label is not None and not (isinstance(label, str) and label.strip()):
        return "label is not a string with words"
    if score is None:
        return None
    if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
        return "score is not a finite number"
    return None
