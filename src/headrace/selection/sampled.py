"""The first pass over a stream: what there is, and a sample that no order of the rows changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.errors import Problem
from headrace.selection.limits import Facts
from headrace.selection.ranks import Ranks
from headrace.selection.row_stream import FixedSums, RowStream
from headrace.selection.rows import Rows

_REMEMBERED = 1000
"""Rows without a direction that are remembered."""
_NORMS = (1e-15, 1e15)
"""The norms that :class:`Rows` accepts."""
_Drawn = tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]
"""Hash, tie, group and unit row."""


@dataclass(frozen=True)
class Survey:
    """What a pass over all rows says."""

    everything: NDArray[np.float64]
    """``[d]``: sum of all unit rows."""
    required: NDArray[np.float64]
    """``[d]``: sum of those that must be in."""
    facts: Facts
    problems: list[Problem]
    """Rows of this rank without a direction."""
    offset: int
    """Rows of the ranks before this one."""
    unit: NDArray[np.float32]
    """``[m, d]``: drawn unit rows of all ranks, the same on each of them."""
    ties: NDArray[np.int64]
    """``[m]``: of the drawn rows."""
    groups: NDArray[np.int32]
    """``[m]``: of the drawn rows."""


def uniform(ties: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """``[rows]`` in [0, 1): a hash of tie and seed (the finaliser of SplitMix64)."""
    with np.errstate(over="ignore"):
        x = ties.astype(np.uint64) + np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % 2**64)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
        x ^= x >> np.uint64(31)
    return np.minimum(x.astype(np.float64) * 2.0**-64, 1 - 2.0**-53)


def survey(
    stream: RowStream,
    sample_rows: int,
    *,
    required: NDArray[np.int64],
    group_names: tuple[str, ...],
    seed: int,
    names: Callable[[int], str],
    ranks: Ranks,
) -> Survey:
    """Read all rows once.

    Args:
        stream: the rows of this rank.
        sample_rows: rows to draw: those with the smallest hashes.
        required: rows of this rank that must be in, ascending; they are not drawn.
        group_names: a name for each group.
        seed: of the hash.
        names: what to call row ``i`` of this rank in messages.
        ranks: who else holds rows.
    """
    sums: FixedSums | None = None
    sizes = np.zeros((2, len(group_names)), np.int64)
    kept: list[_Drawn] = []
    bad_rows: list[NDArray[np.float64]] = []
    bad_positions: list[int] = []
    row, limit, held = 0, 1.0, 0
    for batch in stream():
        rows = Rows(batch.vectors, ties=batch.ties, groups=batch.groups)
        positions = np.arange(row, row + len(rows))
        row += len(rows)
        must = np.isin(positions, required, assume_unique=True)
        for line, groups in enumerate((batch.groups, batch.groups[must])):
            sizes[line] += np.bincount(groups, minlength=len(group_names))
        if rows.problems(names):
            wrong = _directionless(rows)[: max(0, _REMEMBERED - len(bad_positions))]
            bad_rows.append(np.asarray(batch.vectors[wrong], np.float64))
            bad_positions += positions[wrong].tolist()
            continue
        sums = sums or FixedSums(2, rows.dimensions)
        unit = rows.unit(np.arange(len(rows)))
        sums.add(np.stack([np.ones(len(rows)), must.astype(float)]), unit)
        drawn = uniform(batch.ties, seed)
        some = np.flatnonzero((drawn <= limit) & ~must)
        kept.append((drawn[some], batch.ties[some], batch.groups[some], unit[some].astype("f4")))
        held += len(some)
        if held > 2 * sample_rows:
            kept = [_smallest(kept, sample_rows)]
            held, limit = sample_rows, float(kept[0][0].max())
    problems = []
    if bad_rows:
        bad = Rows(np.concatenate(bad_rows))
        problems = bad.problems(lambda place: names(bad_positions[place]))
    width = int(ranks.max(np.array([0 if sums is None else sums.dimensions]))[0])
    totals = (sums or FixedSums(2, width)).total(ranks)
    counts = np.zeros(ranks.size, np.int64)
    counts[ranks.rank] = row
    offset = int(ranks.sum(counts)[: ranks.rank].sum())
    empty = (np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros((0, width), "f4"))
    own = _smallest([*kept, empty], sample_rows)
    gather = ranks.gather
    together = (gather(own[0]), gather(own[1]), gather(own[2]), gather(own[3]))
    _, ties, drawn_groups, unit32 = _smallest([together], sample_rows)
    sizes = ranks.sum(sizes)
    return Survey(
        totals[0],
        totals[1],
        Facts(group_names, sizes[0], sizes[1]),
        problems,
        offset,
        unit32,
        ties,
        drawn_groups,
    )


def _directionless(rows: Rows) -> NDArray[np.int64]:
    """Rows that have a problem."""
    inverse = rows.inverse_norms
    return np.flatnonzero(~((inverse >= _NORMS[0]) & (inverse <= _NORMS[1])))


def _smallest(parts: list[_Drawn], count: int) -> _Drawn:
    """The rows with the smallest hashes, by hash and tie."""
    hashes, ties, groups, unit = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    order = np.lexsort((ties, hashes))[:count]
    return hashes[order], ties[order], groups[order], unit[order]
