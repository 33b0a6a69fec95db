"""What a task has to provide so that its samples can be encoded beside the shards.

A sidecar is a set of named flat arrays.  Which arrays, and how samples become them, is the
business of one encoder object for each task; files, hashes and locks are not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import xxhash
from numpy.typing import NDArray

from headrace.counts import counted
from headrace.encoding.report import EncodingReport
from headrace.encoding.tokenizer import tokenizer_fingerprint
from headrace.errors import Problem, ShardError

if TYPE_CHECKING:
    from headrace.shards.sample import Sample

FORMAT_VERSION = 1
SAMPLES_AT_ONCE = 1024
"""Samples that are given to the tokenizer in one call, which spreads them over the cores."""
MAXIMUM_NAMES = 255
"""Different subsets of a shard: their numbers are stored as uint8."""
MOST_PROBLEMS = 20
"""Malformed samples of a source that are named; the rest are counted."""

Arrays: TypeAlias = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class EncodingSpec:
    """Everything besides the text that decides what the arrays hold."""

    task: str
    tokenizer: str
    """Name or path of the tokenizer, for people; its fingerprint is what counts."""
    tokenizer_fingerprint: str
    max_length: int
    """Tokens that the network sees as one sequence at most, special tokens included."""
    labels: str | None = None
    """Name of the label set, for people."""
    labels_fingerprint: str | None = None
    template: str | None = None
    """What else of the tokenizer the task uses, such as the token types of pairs."""

    @classmethod
    def of(cls, task: str, tokenizer: Any, max_length: int, **others: str) -> EncodingSpec:
        """The spec of a task with this tokenizer."""
        name = str(getattr(tokenizer, "name_or_path", ""))
        return cls(task, name, tokenizer_fingerprint(tokenizer), max_length, **others)

    @cached_property
    def fingerprint(self) -> str:
        """32 hexadecimal digits; equal if and only if the arrays of the same text are equal."""
        parts = [
            FORMAT_VERSION,
            self.task,
            self.tokenizer_fingerprint,
            self.max_length,
            self.labels_fingerprint,
            *([self.template] if self.template is not None else []),
        ]
        return xxhash.xxh3_128_hexdigest(json.dumps(parts).encode())


@dataclass(frozen=True)
class EncodedSamples:
    """The samples of one shard as flat arrays."""

    arrays: Arrays
    report: EncodingReport
    subsets: tuple[str, ...]
    """Names of the subsets that occur; array ``subsets`` holds the position here plus 1, or 0."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What the task has to know of the shard besides, JSON-able."""


class TaskEncoder(Protocol):
    """Turns the samples of a shard into arrays."""

    @property
    def spec(self) -> EncodingSpec:
        """What the arrays depend on besides the text."""
        ...

    @property
    def array_types(self) -> Mapping[str, np.dtype[Any]]:
        """Name and dtype of every array.

        ``tokens`` lie flat between ``token_offsets``; ``subsets`` and ``label_counts`` have one
        entry a sample.  A task with several sequences a sample has ``sequence_offsets``, which say
        where in ``token_offsets`` a sample begins, and ``lengths``, what it costs in a batch.
        """
        ...

    @property
    def problems(self) -> list[Problem]:
        """What is wrong with the samples seen so far."""
        ...

    def encode(
        self, samples: Iterable[Sample], shard: str, progress: Callable[[int], object]
    ) -> EncodedSamples | None:
        """Encode all samples of the shard of this name; None if there are problems.

        `progress` is called with the number of samples done since the last call.
        """
        ...


class SampleProblems:
    """What is wrong with the samples of a source: the first ones by name, the rest by number."""

    def __init__(self) -> None:
        self._first: list[Problem] = []
        self._rest = 0

    def __bool__(self) -> bool:
        return bool(self._first)

    def add(self, problem: Problem) -> None:
        """Note one more."""
        if len(self._first) < MOST_PROBLEMS:
            self._first.append(problem)
        else:
            self._rest += 1

    def listed(self) -> list[Problem]:
        """At most ``MOST_PROBLEMS``, and then one that counts the rest."""
        more = [Problem(counted(self._rest, "more problem"), "all shards")] if self._rest else []
        return self._first + more


def metadata_of(sample: Sample, shard: str, problems: SampleProblems) -> dict[str, Any] | None:
    """The ``json`` field of a sample, or None after noting what is wrong with it."""
    try:
        return sample.metadata
    except ShardError as error:
        for p in error.problems:
            problems.add(Problem(p.what, f"shard {shard} {p.where}", p.value, p.remedy))
        return None


def offsets_of(lengths: NDArray[Any]) -> NDArray[np.int64]:
    """Where rows of these lengths begin, and where the last one ends: ``[rows + 1]``."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets
