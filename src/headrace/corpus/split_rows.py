"""The samples of a source as a split sees them: their places, and which texts are the same."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from headrace.corpus.sample_corpus.randomness import digest
from headrace.errors import CorpusError, Problem, UserError
from headrace.selection.metadata_groups import name_of_value
from headrace.selection.vector_cache import texts_of
from headrace.shards.reader import ShardReader
from headrace.shards.sample import Sample

_PIECE = 1024
"""Samples that are read at once."""
_NAMED = 10
"""Samples, and fields, that a problem names."""


def comparable(text: str) -> str:
    """``text`` as it is compared: composed (NFC), case folded, white space as single spaces."""
    folded = unicodedata.normalize("NFC", text).casefold()
    return " ".join(unicodedata.normalize("NFC", folded).split())


@dataclass(frozen=True)
class Rows:
    """The samples of a source that are to be split, in the order of the source."""

    reader: ShardReader
    numbers: NDArray[np.int64]
    """``[rows]``: the number of each one in the source, ascending."""
    positions: NDArray[np.uint64]
    """``[rows]``: where each one lies between 0 and 2^64, by text, seed and level alone."""
    first: NDArray[np.int64]
    """``[rows]``: the first row with the same text, see :func:`comparable`."""
    seed: int

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def keys(self) -> list[str]:
        """The key of each row."""
        everything = [
            key
            for number in range(len(self.reader.manifest.shards))
            for key in self.reader.keys(number)
        ]
        return [everything[number] for number in self.numbers.tolist()]

    def pieces(self, what: str) -> Iterator[list[Sample]]:
        """All rows in their order, some at a time; ``what`` stands before the progress bar."""
        start = 0
        with tqdm(total=len(self), desc=what, unit=" samples", disable=None) as bar:
            for shard, entry in enumerate(self.reader.manifest.shards):
                inside = slice(*np.searchsorted(self.numbers, (start, start + entry.samples)))
                local = self.numbers[inside] - start
                for low in range(0, len(local), _PIECE):
                    piece = local[low : low + _PIECE]
                    yield self.reader.shard(shard).read_samples(piece)
                    bar.update(len(piece))
                start += entry.samples

    def values(self, field: str, option: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        """``[rows]`` numbers of the values of a field of ``json``, and the values, in order.

        A text is its own name, a number or a truth value is named as JSON writes it.

        Raises:
            CorpusError: naming samples without the field, and those with a list or an object in
                it, under the name of ``option``.
        """
        found: dict[str, int] = {}
        numbers = np.empty(len(self), np.int64)
        absent: list[str] = []
        unfit: list[str] = []
        fields: dict[str, None] = {}
        row = 0
        for piece in self.pieces(f"reading {field}"):
            for sample in piece:
                metadata = sample.metadata
                value = metadata.get(field)
                if value is None:
                    absent.append(sample.key)
                    fields |= dict.fromkeys(key for key in metadata if metadata[key] is not None)
                elif (name := name_of_value(value)) is None:
                    unfit.append(sample.key)
                else:
                    numbers[row] = found.setdefault(name, len(found))
                row += 1
        problems = []
        if absent:
            there = ", ".join(list(fields)[:_NAMED])
            what = f"{_counted(absent, len(self))} have no field {field}: {_some(absent)}"
            remedy = f"Name a field that every sample has; there are {there}"
            problems.append(Problem(what, option, field, remedy))
        if unfit:
            what = f"in {_counted(unfit, len(self))} {field} is neither a text nor a number: "
            problems.append(Problem(what + _some(unfit), option, field, "Name another field"))
        if problems:
            raise CorpusError(problems)
        names = sorted(found)
        rank = np.empty(len(names), np.int64)
        rank[[found[name] for name in names]] = np.arange(len(names))
        return rank[numbers], tuple(names)


def read_rows(reader: ShardReader, seed: int, limit: int | None = None, *, level: int = 0) -> Rows:
    """Read the texts of a source and place its samples.

    Args:
        reader: the source.
        seed: another seed, other places.
        limit: take only so many samples, in an order that depends on texts and seed alone and
            not on their places: those of a smaller limit are among those of a larger one.
        level: how many splits by share the source comes from; another level, other places, as
            the samples of a part by share all lie in one range of the places of the level above.

    Raises:
        ShardError: with all shards that are damaged, and all texts that are not UTF-8.
        ConfigError: if a sample has no text.
    """
    total = len(reader)
    marks = np.empty((total, 2), np.uint64)
    seen: dict[bytes, int] = {}
    first = np.empty(total, np.int64)
    problems: list[Problem] = []
    row = 0
    with tqdm(total=total, desc="reading", unit=" samples", disable=None) as bar:
        for number in range(len(reader.manifest.shards)):
            try:
                texts = texts_of(reader, number)
            except UserError as error:
                problems += error.problems
                continue
            for text in texts:
                mark = digest("split", level, seed, comparable(text), size=16)
                marks[row] = int.from_bytes(mark[:8], "big"), int.from_bytes(mark[8:], "big")
                first[row] = seen.setdefault(mark, row)
                row += 1
            bar.update(len(texts))
    if problems:
        raise UserError(problems)
    numbers = np.arange(total)
    if limit is not None and limit < total:
        numbers = np.sort(np.argsort(marks[:, 1], kind="stable")[:limit])
    _, starts, inverse = np.unique(first[numbers], return_index=True, return_inverse=True)
    return Rows(reader, numbers, marks[numbers, 0], starts[inverse].astype(np.int64), seed)


def _counted(some: Sequence[Any], total: int) -> str:
    return f"{len(some):,} of {total:,} samples"


def _some(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - _NAMED:,} more" if len(keys) > _NAMED else ""
    return ", ".join(keys[:_NAMED]) + more
