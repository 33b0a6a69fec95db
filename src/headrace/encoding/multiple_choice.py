"""Samples of multiple choice as arrays: a context with each of its choices, and the right one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import numpy as np

from headrace.counts import counted
from headrace.encoding.alignment import check_max_length
from headrace.encoding.pairs import copied_backend, has_token_types, pair_template
from headrace.encoding.report import ChoiceReport
from headrace.encoding.task_encoder import (
    MAXIMUM_NAMES,
    SAMPLES_AT_ONCE,
    EncodedSamples,
    EncodingSpec,
    SampleProblems,
    metadata_of,
    offsets_of,
)
from headrace.errors import Problem

if TYPE_CHECKING:
    from headrace.shards.sample import Sample

MAXIMUM_CHOICES = 32_767
"""Labels are stored as int16."""


class PairEncoder:
    """Encodes a context with a choice by the tokenizer's own template for pairs.

    Token types are 0 where the tokenizer does not name them among a model's inputs, as for its own
    users.
    """

    def __init__(self, tokenizer: Any, max_length: int) -> None:
        self._backend = copied_backend(tokenizer)
        self._has_types = has_token_types(tokenizer)
        self._max_length = max_length

    def encode(self, pairs: list[tuple[str, str]]) -> list[tuple[list[int], list[int], int, int]]:
        """Token ids, token types, tokens cut off the context, and off the choice; one a pair.

        What is beyond the maximum length is taken from the context, at its beginning: what comes
        last is nearest to the choice.  Where no context is left, the choice is cut on the right.
        """
        encoded = self._backend.encode_batch(pairs, add_special_tokens=True)
        return [self._cut(encoding) for encoding in encoded]

    def _cut(self, encoding: Any) -> tuple[list[int], list[int], int, int]:
        ids = encoding.ids
        types = encoding.type_ids if self._has_types else [0] * len(ids)
        surplus = len(ids) - self._max_length
        if surplus <= 0:
            return ids, types, 0, 0
        parts = np.array([-1 if part is None else part for part in encoding.sequence_ids])
        context = np.flatnonzero(parts == 0)[:surplus]
        choice = np.flatnonzero(parts == 1)[::-1][: surplus - len(context)]
        kept = np.delete(np.arange(len(ids)), np.concatenate([context, choice])).tolist()
        return [ids[i] for i in kept], [types[i] for i in kept], len(context), len(choice)


class MultipleChoiceEncoder:
    """Encodes samples whose ``json`` field has ``context``, ``choices`` and ``label``.

    The label is the number of the right choice, from 0 on; ``question`` and ``subset`` may name
    parts of the data.  Problems of all samples seen are gathered in ``problems``; from the first
    one on samples are checked and no longer encoded.
    """

    task = "multiple_choice"

    def __init__(self, tokenizer: Any, max_length: int) -> None:
        """Raise :class:`EncodingError` if `max_length` is out of range."""
        check_max_length(tokenizer, max_length, pair=True)
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._token_type = np.uint16 if len(tokenizer) <= 2**16 else np.uint32
        self._problems = SampleProblems()

    @cached_property
    def _pairs(self) -> PairEncoder:
        # Copying a large tokenizer takes a while and is needed only where something is encoded.
        return PairEncoder(self._tokenizer, self._max_length)

    @cached_property
    def spec(self) -> EncodingSpec:
        """What the arrays depend on besides the text."""
        template = pair_template(self._tokenizer)
        return EncodingSpec.of(self.task, self._tokenizer, self._max_length, template=template)

    @property
    def array_types(self) -> Mapping[str, np.dtype[Any]]:
        """Name and dtype of every array of a shard with n samples and m choices in all.

        ``tokens`` and ``token_types`` lie flat between ``token_offsets`` ``[m + 1]``, one stretch a
        choice; those of a sample's choices between ``sequence_offsets`` ``[n + 1]``.  ``labels``,
        ``lengths`` (choices x tokens of the longest: what a sample costs in a batch of its like),
        ``label_counts`` (1), ``subsets`` and ``questions`` are ``[n]``.
        """
        types = {
            "tokens": self._token_type,
            "token_types": np.uint8,
            "token_offsets": np.int64,
            "sequence_offsets": np.int64,
            "labels": np.int16,
            "lengths": np.int32,
            "label_counts": np.int32,
            "subsets": np.uint8,
            "questions": np.uint8,
        }
        return {name: np.dtype(type_) for name, type_ in types.items()}

    @property
    def problems(self) -> list[Problem]:
        """Malformed samples seen so far: one entry a sample, and a count of the rest."""
        return self._problems.listed()

    def encode(
        self, samples: Iterable[Sample], shard: str, progress: Callable[[int], object]
    ) -> EncodedSamples | None:
        """Encode all samples of the shard of this name; None if there are problems."""
        rows: list[tuple[list[int], list[int], int, int]] = []
        counts: list[int] = []
        labels: list[int] = []
        numbers: dict[str, list[int]] = {"subsets": [], "questions": []}
        names: dict[str, dict[str | None, int]] = {kind: {None: 0} for kind in numbers}
        remaining = iter(samples)
        while chunk := list(islice(remaining, SAMPLES_AT_ONCE)):
            pairs = []
            for sample in chunk:
                content = self._checked(sample, shard)
                if content is None:
                    continue
                pairs += [(content["context"], choice) for choice in content["choices"]]
                counts.append(len(content["choices"]))
                labels.append(content["label"])
                for kind, known in names.items():
                    name = content.get(kind.removesuffix("s"))
                    numbers[kind].append(known.setdefault(name, len(known)))
            if not self._problems:
                rows += self._pairs.encode(pairs)
            progress(len(chunk))
        for kind, known in names.items():
            if len(known) - 1 > MAXIMUM_NAMES:
                what = f"{len(known) - 1} different {kind}, {MAXIMUM_NAMES} are the most"
                self._problems.add(Problem(what, f"shard {shard}"))
        if self._problems:
            return None
        sizes = np.array([len(ids) for ids, *_ in rows], dtype=np.int64)
        sequences = offsets_of(np.array(counts, dtype=np.int64))
        longest = np.maximum.reduceat(sizes, sequences[:-1]) if counts else sizes
        arrays = {
            "tokens": np.fromiter(chain.from_iterable(ids for ids, *_ in rows), np.int64),
            "token_types": np.fromiter(chain.from_iterable(types for _, types, *_ in rows), int),
            "token_offsets": offsets_of(sizes),
            "sequence_offsets": sequences,
            "labels": np.array(labels),
            "lengths": np.array(counts) * longest,
            "label_counts": np.ones(len(counts)),
            "subsets": np.array(numbers["subsets"]),
            "questions": np.array(numbers["questions"]),
        }
        typed = {name: arrays[name].astype(type_) for name, type_ in self.array_types.items()}
        subsets, questions = (
            tuple(name for name in names[kind] if name is not None)
            for kind in ("subsets", "questions")
        )
        facts = {"questions": list(questions), "choices": max(counts, default=0)}
        return EncodedSamples(typed, _report(rows, counts), subsets, facts)

    def _checked(self, sample: Sample, shard: str) -> dict[str, Any] | None:
        """The sample's ``json`` field, or None after noting what is wrong with it."""
        content = metadata_of(sample, shard, self._problems)
        if content is None:
            return None
        what = malformation(content)
        if what is not None:
            remedy = "Build the source from samples with a context, choices and a label"
            place = f"shard {shard} sample {sample.key}"
            self._problems.add(Problem(what, place, remedy=remedy))
            return None
        return content


def _report(rows: list[tuple[list[int], list[int], int, int]], counts: list[int]) -> ChoiceReport:
    sample_of = np.repeat(np.arange(len(counts)), counts)
    context = np.array([cut for *_, cut, _ in rows], dtype=np.int64)
    choice = np.array([cut for *_, cut in rows], dtype=np.int64)
    return ChoiceReport(
        samples=len(counts),
        choices=len(rows),
        tokens=sum(len(ids) for ids, *_ in rows),
        samples_truncated=len(np.unique(sample_of[context + choice > 0])),
        contexts_truncated=int((context > 0).sum()),
        context_tokens_cut=int(context.sum()),
        choices_truncated=int((choice > 0).sum()),
        choice_tokens_cut=int(choice.sum()),
    )


def malformation(content: Mapping[str, Any], *, labelled: bool = True) -> str | None:
    """What is wrong with the content of a sample, or None; without `labelled` its label is not
    looked at."""
    context, choices, label = content.get("context"), content.get("choices"), content.get("label")
    for name in ("context", "choices", *(["label"] if labelled else [])):
        if content.get(name) is None:
            return f"the sample has no {name}"
    if not isinstance(context, str):
        return "context is not a string"
    if not isinstance(choices, list) or not all(isinstance(item, str) for item in choices):
        return "choices is not a list of strings"
    if len(choices) < 2:
        return f"{counted(len(choices), 'choice')}, there have to be 2 or more"
    if len(choices) > MAXIMUM_CHOICES:
        return f"{len(choices)} choices, {MAXIMUM_CHOICES} are the most"
    try:
        "".join([context, *choices]).encode("utf-8")
    except UnicodeEncodeError:
        return "a text is not valid Unicode (a lone surrogate)"
    if labelled and (isinstance(label, bool) or not isinstance(label, int)):
        return "label is not a whole number"
    if labelled and not 0 <= label < len(choices):  # type: ignore[operator]  # an int, see above
        return f"the label is {label}, and there are {len(choices)} choices, numbered from 0"
    for name in ("question", "subset"):
        if content.get(name) is not None and not isinstance(content[name], str):
            return f"{name} is not a string"
    return None
