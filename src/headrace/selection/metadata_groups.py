"""Groups of samples by a field of their metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from headrace.errors import Problem, SelectionError, ShardError, UserError
from headrace.shards.reader import ShardReader
from headrace.shards.sample import Sample

NO_VALUE = "(none)"
"""The group of samples that do not have the field."""
MAX_GROUPS = 1000
_PIECE = 1024
"""Samples that are read at once."""
_NAMED = 10
"""Samples that a problem names."""
_FIELDS = 30
"""Fields that a problem names."""


def groups_by(
    readers: Mapping[str, ShardReader], field: str, *, show: bool = True
) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """The group of each sample of all sources, in their order, and the names of the groups.

    A group has the samples whose ``json`` has one value in a field: a text, a number or a truth
    value.  Its name is the value as JSON writes it, without the quotes.  Names are in order.

    Args:
        readers: the sources by name.
        field: a field of ``json``.
        show: whether there is a progress bar (on a terminal).

    Raises:
        SelectionError: if no sample has the field, it has other values, or more than
            ``MAX_GROUPS`` different ones.
        ShardError: with all shards that are damaged and samples whose ``json`` is none.
    """
    numbers: dict[str, int] = {}
    total = sum(entry.samples for r in readers.values() for entry in r.manifest.shards)
    groups = np.empty(total, np.int32)
    problems: list[Problem] = []
    unfit: list[str] = []
    done = 0
    with tqdm(
        total=total, desc=f"reading {field}", unit=" samples", disable=None if show else True
    ) as bar:
        for name, reader in readers.items():
            for shard, entry in enumerate(reader.manifest.shards):
                try:
                    opened = reader.shard(shard)
                    for start in range(0, entry.samples, _PIECE):
                        stop = min(start + _PIECE, entry.samples)
                        samples = opened.read_samples(np.arange(start, stop))
                        for place, sample in enumerate(samples, done + start):
                            try:
                                value = _value(sample, field)
                            except ShardError as error:
                                problems += error.problems
                                continue
                            if value is None:
                                unfit.append(f"{name}/{sample.key}")
                                continue
                            groups[place] = numbers.setdefault(value, len(numbers))
                        if len(numbers) > MAX_GROUPS:
                            raise SelectionError(_too_many(field))
                        bar.update(stop - start)
                except ShardError as error:
                    problems += error.problems
                done += entry.samples
    if unfit:
        problems.append(_no_group(field, unfit))
    elif set(numbers) == {NO_VALUE} and not problems:
        problems.append(_no_sample(field, readers))
    if problems:
        raise UserError(problems)
    names = sorted(numbers)
    rank = np.empty(len(names), np.int32)
    rank[[numbers[name] for name in names]] = np.arange(len(names))
    return rank[groups], tuple(names)


def _value(sample: Sample, field: str) -> str | None:
    """The name of the group of a sample; None if the value names no group."""
    value: Any = sample.metadata.get(field) if "json" in sample.fields else None
    return NO_VALUE if value is None else name_of_value(value)


def name_of_value(value: object) -> str | None:
    """A text as it is, a number or a truth value as JSON writes it; None for all else."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value) if isinstance(value, bool | int | float) else None


def _no_sample(field: str, readers: Mapping[str, ShardReader]) -> Problem:
    known: set[str] = set()
    for reader in readers.values():
        for sample in reader.shard(0).read_samples(np.arange(min(_PIECE, len(reader.shard(0))))):
            if "json" in sample.fields:
                known |= {name for name, value in sample.metadata.items() if value is not None}
    names = ", ".join(sorted(known)[:_FIELDS]) or "none"
    return Problem("no sample has the field", "group_by", field, f"Fields of samples: {names}")


def _too_many(field: str) -> Problem:
    return Problem(
        f"more than {MAX_GROUPS:,} different values are no groups",
        "group_by",
        field,
        "Group by a field with fewer values",
    )


def _no_group(field: str, samples: list[str]) -> Problem:
    named = ", ".join(samples[:_NAMED])
    more = f" and {len(samples) - _NAMED:,} more" if len(samples) > _NAMED else ""
    return Problem(
        f"the value of {field} is neither a text nor a number",
        "group_by",
        named + more,
        "Group by another field",
    )
