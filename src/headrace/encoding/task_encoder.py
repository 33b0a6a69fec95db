"""What a task has to provide so that its samples can be encoded beside the shards.

A sidecar is a set of named flat arrays.  Which arrays, and how samples become them, is the
business of one encoder object for each task; files, hashes and locks are not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from headrace.encoding.report import EncodingReport
from headrace.errors import Problem

if TYPE_CHECKING:
    from headrace.shards.sample import Sample

Arrays: TypeAlias = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class EncodedSamples:
    """The samples of one shard as flat arrays."""

    arrays: Arrays
    report: EncodingReport
    subsets: tuple[str, ...]
    """Names of the subsets that occur; array ``subsets`` holds the position here plus 1, or 0."""


class TaskEncoder(Protocol):
    """Turns the samples of a shard into arrays."""

    @property
    def task(self) -> str:
        """Name of the task, as in the run config."""
        ...

    @property
    def array_types(self) -> Mapping[str, np.dtype[Any]]:
        """Name and dtype of every array; one of them is ``token_offsets``."""
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
