"""What a selection starts from: sources and an encoder, or vectors that are there already."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from headrace.counts import counted
from headrace.errors import Problem, SelectionError
from headrace.selection.doc2vec import Doc2VecSettings, embed_sources, source_fingerprints
from headrace.selection.embed import embed_source, source_fingerprint
from headrace.selection.encoder import Encoder
from headrace.selection.parquet_vectors import ParquetVectors, is_parquet, open_parquet
from headrace.selection.results import Candidates
from headrace.selection.vectors import Stack, open_vectors, read_ids
from headrace.shards.reader import ShardReader

_NAMED = re.compile(r"([A-Za-z0-9_.-]+)=(.+)")
NO_GROUP = "all"
"""The group of rows whose ids have no ``/``."""


@dataclass(frozen=True)
class Inputs:
    """Vectors, and whose they are."""

    vectors: Stack
    candidates: Candidates


@dataclass(frozen=True)
class Sources:
    """Sources by name, each of whose samples gets the id ``NAME/KEY``."""

    readers: Mapping[str, ShardReader]
    encoder: Encoder | Doc2VecSettings
    """What makes the vectors."""

    @cached_property
    def fingerprint(self) -> str:
        """32 hexadecimal digits over names, samples and encoder."""
        if isinstance(self.encoder, Doc2VecSettings):
            parts = list(source_fingerprints(self.readers, self.encoder).items())
        else:
            parts = [
                (name, source_fingerprint(reader, self.encoder))
                for name, reader in self.readers.items()
            ]
        return xxhash.xxh3_128_hexdigest(json.dumps(parts).encode())

    @property
    def manifests(self) -> dict[str, str]:
        """The fingerprint of each source's manifest, by name."""
        return {name: reader.manifest.identity for name, reader in self.readers.items()}

    def embed(self, cache_dir: Path | str, *, show: bool = True) -> Inputs:
        """Embed what is not embedded yet.

        See :func:`headrace.selection.embed.embed_source` and
        :func:`headrace.selection.doc2vec.embed_sources`.  ``show`` is whether there are progress
        bars.
        """
        names = tuple(self.readers)
        if isinstance(self.encoder, Doc2VecSettings):
            trained = embed_sources(self.readers, self.encoder, cache_dir, show=show)
            embedded = [trained[name] for name in names]
        else:
            embedded = [
                embed_source(reader, self.encoder, cache_dir, name=name, show=show)
                for name, reader in self.readers.items()
            ]
        ids = [
            np.array([f"{name}/{key}".encode() for key in reader.shard(number).keys])
            for name, reader in self.readers.items()
            for number in range(len(reader.manifest.shards))
        ]
        sizes = [len(source.lengths) for source in embedded]
        return Inputs(
            Stack([source.vectors for source in embedded], names),
            Candidates(
                np.concatenate(ids),
                np.repeat(np.arange(len(names), dtype=np.int32), sizes),
                names,
                np.concatenate([source.lengths for source in embedded]).astype(np.int64),
            ),
        )


def named_sources(words: Sequence[str], problems: list[Problem]) -> dict[str, str]:
    """URLs by name of words like ``URL`` or ``NAME=URL``; names of the former are the URLs."""
    named: dict[str, str] = {}
    for word in words:
        match = _NAMED.fullmatch(word)
        name, url = (match[1], match[2]) if match else (word, word)
        if name in named:
            problems.append(Problem("two sources have one name", word, name, "Give others"))
        named[name] = url
    return named


def by_language(
    readers: Mapping[str, ShardReader], problems: list[Problem]
) -> dict[str, ShardReader]:
    """Readers by name, where those that have no name but their URL are called by language."""
    names = [
        str(reader.manifest.metadata.get("language") or name) if name == reader.url else name
        for name, reader in readers.items()
    ]
    problems += [
        Problem("two sources have one name", "sources", name, "Give names: NAME=SOURCE")
        for name, count in Counter(names).items()
        if count > 1
    ]
    return dict(zip(names, readers.values(), strict=True))


def from_files(
    vectors: str, ids: str | None, costs: str | None, cache_dir: Path | str
) -> tuple[Inputs, str]:
    """Ready-made vectors with their ids, and a fingerprint over the bytes of the files.

    Without ids they are row numbers.  The group of a row is what stands before the first ``/`` of
    its id, unless a Parquet file says otherwise.

    Args:
        vectors: a ``.npy`` file, or Parquet files as
            :func:`headrace.selection.parquet_vectors.open_parquet` takes them.
        ids: a file with an id on each line.
        costs: a ``.npy`` file with an integer for each row.
        cache_dir: local folder for the vectors of Parquet files.

    Raises:
        SelectionError: with all that is wrong with the files.
        EncodingError: if the cache cannot be written.
    """
    problems: list[Problem] = []
    found: ParquetVectors | None = None
    table = cost = None
    names: NDArray[np.bytes_] | None = None
    try:
        if is_parquet(vectors):
            found = open_parquet(vectors, cache_dir, "vectors")
        table = open_vectors(vectors, "vectors") if found is None else found.vectors
    except SelectionError as error:
        problems += error.problems
    try:
        if ids is not None:
            names = read_ids(ids, "ids")
    except SelectionError as error:
        problems += error.problems
    try:
        if costs is not None:
            cost = open_vectors(costs, "costs")
            if cost.ndim != 1 or cost.dtype.kind not in "iu":
                kind = f"{cost.dtype} {list(cost.shape)}"
                problems.append(Problem("not a list of integers", "costs", kind))
    except SelectionError as error:
        problems += error.problems
    if found is not None:
        for name, given, own in (("ids", ids, found.ids), ("costs", costs, found.costs)):
            if given is not None and own is not None:
                problems.append(Problem("the Parquet files have a column of them", name, given))
        names = found.ids if names is None else names
        cost = found.costs if cost is None else cost
    if table is not None and names is not None and len(names) != len(table):
        problems.append(
            Problem(
                f"not one for each of the {counted(len(table), 'row')} of --vectors",
                "ids",
                counted(len(names), "id"),
            )
        )
    if table is not None and (table.ndim != 2 or table.dtype.kind != "f" or not table.size):
        kind = f"{table.dtype} {list(table.shape)}"
        remedy = "Give [rows, dimensions] fp16, fp32 or fp64"
        problems.append(Problem("not a table of floating-point vectors", "vectors", kind, remedy))
    if problems or table is None:
        raise SelectionError(problems)
    if names is None:
        names = np.arange(len(table)).astype(np.bytes_)
    digest = xxhash.xxh3_128((found.fingerprint if found else "").encode())
    for array in (None if found else table, names, cost):
        if array is not None:
            digest.update(f"{array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    if found is not None and found.groups is not None:
        group_names, numbers = np.unique(found.groups, return_inverse=True)
        groups, named = numbers.astype(np.int32), tuple(group_names.tolist())
    else:
        groups, named = _groups(names)
    candidates = Candidates(names, groups, named, None if cost is None else cost.astype(int))
    return Inputs(Stack([table], [vectors]), candidates), digest.hexdigest()


def _groups(ids: NDArray[np.bytes_]) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    numbers: dict[bytes, int] = {}
    groups = np.empty(len(ids), np.int32)
    for row, identifier in enumerate(ids):
        group, slash, _ = identifier.partition(b"/")
        groups[row] = numbers.setdefault(group if slash else NO_GROUP.encode(), len(numbers))
    return groups, tuple(group.decode() for group in numbers)


def rows_of(ids: NDArray[np.bytes_], wanted: NDArray[np.bytes_], where: str) -> NDArray[np.int64]:
    """The rows that have these ids, ascending.

    Raises:
        SelectionError: naming ids that no row has.
    """
    order = np.argsort(ids, kind="stable")
    places = np.searchsorted(ids, wanted, sorter=order)
    rows = order[np.minimum(places, len(ids) - 1)]
    absent = wanted[ids[rows] != wanted]
    if len(absent):
        named = ", ".join(identifier.decode() for identifier in absent[:10])
        more = f" and {len(absent) - 10:,} more" if len(absent) > 10 else ""
        raise SelectionError(
            Problem("no row has this id", where, named + more, "Ids are SOURCE/KEY")
        )
    return np.unique(rows)


def as_options(problem: Problem) -> Problem:
    """A problem of one quota under the name of its option: ``minimum.en`` is ``--minimum en``."""
    if problem.where == "sources":
        return replace(problem, where="SOURCE")
    kind, dot, name = problem.where.partition(".")
    if dot and kind in ("minimum", "maximum"):
        return replace(problem, where=f"--{kind} {name}")
    return problem
