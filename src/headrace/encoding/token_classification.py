"""Samples of token classification as arrays: tokens, labels, word positions, gold tags."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headrace.counts import counted
from headrace.encoding.alignment import AlignedBatch, WordAligner, check_max_length, join_batches
from headrace.encoding.report import SentenceReport
from headrace.encoding.task_encoder import (
    MAXIMUM_NAMES,
    SAMPLES_AT_ONCE,
    EncodedSamples,
    EncodingSpec,
    SampleProblems,
    metadata_of,
)
from headrace.errors import Problem

if TYPE_CHECKING:
    from headrace.shards.sample import Sample
    from headrace.tasks.labels import LabelSet

IGNORED = -100
"""Label of tokens that take no part in the loss (``ignore_index`` of PyTorch's cross entropy)."""


class TokenClassificationEncoder:
    """Encodes samples whose ``json`` field has ``tokens`` and ``tags`` (and maybe ``subset``).

    The first piece of a word carries the id of its tag, every other token :data:`IGNORED`.
    Problems of all samples seen are gathered in ``problems``; from the first one on samples are
    checked and no longer encoded.
    """

    task = "token_classification"

    def __init__(self, tokenizer: Any, label_set: LabelSet, max_length: int) -> None:
        """Raise :class:`EncodingError` if `max_length` is out of range."""
        check_max_length(tokenizer, max_length)
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._labels = label_set
        self._token_type = np.uint16 if len(tokenizer) <= 2**16 else np.uint32
        self._begins = np.array([tag.startswith("B-") for tag in label_set.tags])
        types = {name: number for number, name in enumerate(label_set.types)}
        self._types = np.array([types.get(tag[2:], -1) for tag in label_set.tags])
        self._unknown: dict[str, tuple[str, int]] = {}
        self._malformed = SampleProblems()

    @cached_property
    def _aligner(self) -> WordAligner:
        # Copying a large tokenizer takes a while and is needed only where something is encoded.
        return WordAligner(self._tokenizer, self._max_length)

    @cached_property
    def spec(self) -> EncodingSpec:
        """What the arrays depend on besides the text."""
        return EncodingSpec.of(
            self.task,
            self._tokenizer,
            self._max_length,
            labels=self._labels.name,
            labels_fingerprint=self._labels.fingerprint,
        )

    @property
    def _has_problems(self) -> bool:
        return bool(self._unknown or self._malformed)

    @property
    def array_types(self) -> Mapping[str, np.dtype[Any]]:
        """Name and dtype of every array of a shard with n samples.

        ``tokens`` and ``labels`` lie flat between ``token_offsets`` ``[n + 1]``; ``word_positions``
        and ``word_tags`` between ``word_offsets`` ``[n + 1]``; ``subsets`` and ``label_counts``
        are ``[n]``.
        """
        types = {
            "tokens": self._token_type,
            "labels": np.int16,
            "token_offsets": np.int64,
            "word_positions": np.int16,
            "word_tags": np.int16,
            "word_offsets": np.int64,
            "subsets": np.uint8,
            "label_counts": np.int32,
        }
        return {name: np.dtype(type_) for name, type_ in types.items()}

    def encode(
        self, samples: Iterable[Sample], shard: str, progress: Callable[[int], object]
    ) -> EncodedSamples | None:
        """Encode all samples of the shard of this name; None if there are problems."""
        batches: list[AlignedBatch] = []
        tags: list[int] = []
        subset_numbers: list[int] = []
        numbers: dict[str | None, int] = {None: 0}
        remaining = iter(samples)
        while chunk := list(islice(remaining, SAMPLES_AT_ONCE)):
            words: list[list[str]] = []
            for sample in chunk:
                content = self._checked(sample, shard)
                if content is not None:
                    words.append(content["tokens"])
                    tags += [self._labels.tag_ids[tag] for tag in content["tags"]]
                    subset = content.get("subset")
                    subset_numbers.append(numbers.setdefault(subset, len(numbers)))
            if not self._has_problems:
                batches.append(self._aligner.align(words))
            progress(len(chunk))
        if len(numbers) - 1 > MAXIMUM_NAMES:
            what = f"{len(numbers) - 1} different subsets, {MAXIMUM_NAMES} are the most"
            self._malformed.add(Problem(what, f"shard {shard}"))
        if self._has_problems:
            return None
        batch = join_batches(batches)
        gold = np.array(tags, dtype=np.int16)
        first = batch.first_pieces()
        labels = np.full(len(batch.tokens), IGNORED, dtype=np.int16)
        labels[first[first >= 0]] = gold[first >= 0]
        seen = np.concatenate([[0], np.cumsum(batch.word_positions >= 0)])
        arrays: dict[str, NDArray[Any]] = {
            "tokens": batch.tokens,
            "labels": labels,
            "token_offsets": batch.token_offsets,
            "word_positions": batch.word_positions,
            "word_tags": gold,
            "word_offsets": batch.word_offsets,
            "subsets": np.array(subset_numbers),
            "label_counts": np.diff(seen[batch.word_offsets]),
        }
        typed = {name: arrays[name].astype(type_) for name, type_ in self.array_types.items()}
        subsets = tuple(name for name in numbers if name is not None)
        return EncodedSamples(typed, self._report(batch, gold), subsets)

    @property
    def problems(self) -> list[Problem]:
        """What is wrong with the samples seen so far: malformed ones, and one entry a tag."""
        found = self._malformed.listed()
        for tag, (place, count) in self._unknown.items():
            where = place if count == 1 else f"{place} (and {count - 1} more words)"
            found.append(self._labels.unknown_tag(tag, where))
        return found

    def _checked(self, sample: Sample, shard: str) -> dict[str, Any] | None:
        """The sample's ``json`` field, or None after noting what is wrong with it."""
        content = metadata_of(sample, shard, self._malformed)
        if content is None:
            return None
        what = _malformation(content)
        if what is not None:
            remedy = "Build the source from text that is annotated word by word"
            self._malformed.add(Problem(what, f"shard {shard} sample {sample.key}", None, remedy))
            return None
        is_known = True
        for tag in content["tags"]:
            if tag not in self._labels.tag_ids:
                place = f"shard {shard} sample {sample.key}"
                first, count = self._unknown.get(tag, (place, 0))
                self._unknown[tag] = (first, count + 1)
                is_known = False
        return content if is_known else None

    def _report(self, batch: AlignedBatch, gold: NDArray[np.int16]) -> SentenceReport:
        is_seen = batch.word_positions >= 0
        words, kept = entity_words(gold, batch.word_offsets, is_seen, self._begins, self._types)
        return SentenceReport(
            sentences=len(batch.token_offsets) - 1,
            words=len(gold),
            tokens=len(batch.tokens),
            sentences_truncated=int(batch.sentence_truncated.sum()),
            words_truncated=int(batch.word_truncated.sum()),
            words_without_pieces=int((~is_seen & ~batch.word_truncated).sum()),
            entities=len(words),
            entities_cut=int(((kept > 0) & (kept < words)).sum()),
            entities_lost=int((kept == 0).sum()),
        )


def entity_words(
    tags: NDArray[np.int16],
    word_offsets: NDArray[np.int64],
    is_kept: NDArray[np.bool_],
    begins: NDArray[np.bool_],
    types: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Words of each entity, and how many of them are kept; both ``[entities]``.

    An entity begins at a ``B-`` tag, and at an ``I-`` tag that does not continue one of its type.
    ``begins`` and ``types`` say of each tag id whether it is a ``B-`` tag, and its type (-1: "O").
    """
    type_ = types[tags]
    previous = np.concatenate([[-1], type_[:-1]]) if len(tags) else type_
    is_start_of_sentence = np.zeros(len(tags) + 1, dtype=bool)
    is_start_of_sentence[word_offsets] = True
    starts = (type_ >= 0) & (begins[tags] | (previous != type_) | is_start_of_sentence[:-1])
    entity = (np.cumsum(starts) - 1)[type_ >= 0]
    count = int(starts.sum())
    words = np.bincount(entity, minlength=count)
    kept = np.bincount(entity, weights=is_kept[type_ >= 0], minlength=count)
    return words, kept.astype(np.int64)


def _malformation(content: dict[str, Any]) -> str | None:
    tokens, tags, subset = content.get("tokens"), content.get("tags"), content.get("subset")
    for name, value in (("tokens", tokens), ("tags", tags)):
        if value is None:
            return f"the sample has no {name}"
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            return f"{name} is not a list of strings"
    if tokens is not None and tags is not None and len(tokens) != len(tags):
        return f"{counted(len(tokens), 'token')} and {counted(len(tags), 'tag')}"
    try:
        "".join(content["tokens"]).encode("utf-8")
    except UnicodeEncodeError:
        return "a token is not valid Unicode (a lone surrogate)"
    if subset is not None and not isinstance(subset, str):
        return "subset is not a string"
    return None
