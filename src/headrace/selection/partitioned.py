"""GreeDi: the greedy on parts of the rows, then on what the parts chose, in several rounds.

Rows are shared out by a hash into parts whose number does not depend on that of the ranks, and the
ranks share out the parts: the answer is the same on any number of them.  Each part is solved with
the objective on all rows, of which it may only choose its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from headrace.selection.lazy_greedy import Ground
from headrace.selection.limits import Room
from headrace.selection.ranks import Ranks

DEFAULT_PARTS = 16

Solve = Callable[[Room], tuple[float, NDArray[np.int64]]]
"""Fills a room with rows of a part: what they add to the objective, and their positions."""


class Solver(Protocol):
    """The greedy for one objective."""

    def load(self, rows: NDArray[np.int64], mine: bool) -> Solve | None:
        """Make ready to choose from rows at some positions, on the rank whose work it is.

        All ranks call it together.
        """


@dataclass(frozen=True)
class _Found:
    value: float
    rows: NDArray[np.int64]


def partitioned_greedy(
    solver: Solver, ground: Ground, room: Room, parts: int, ranks: Ranks
) -> NDArray[np.int64]:
    """``[picked]``: positions of rows, in the order of the greedy that picked them.

    A part chooses as many rows as are asked for, but no more than half of its own.  While the
    parts together chose more than one of them had, and more than twice what is asked for, these
    are shared out again.  The last greedy chooses from what is left; of its rows and those of each
    part the best are taken, as GreeDi does (Mirzasoleiman et al.).

    Args:
        solver: the greedy on some rows.
        ground: what to choose from, over the rows of all ranks.
        room: how much to choose.
        parts: in how many parts the rows are cut at first.
        ranks: who shares the work.
    """
    candidates = np.flatnonzero(~ground.closed)
    size = max(1, -(-len(candidates) // parts))
    best = _Found(-np.inf, candidates[:0])
    turn = 0
    while len(candidates) > max(size, 2 * (room.rows or 0)):
        parts = -(-len(candidates) // size)
        found = _solve_parts(solver, candidates, ground, room, parts, turn, ranks)
        fitting = [part for part in found if _fills(room, part.rows, ground.groups)]
        best = max([best, *fitting], key=lambda part: part.value)
        union = np.sort(np.concatenate([part.rows for part in found]))
        if len(union) == len(candidates) or not _suffice(room, union, ground.groups):
            break
        candidates = union
        turn += 1
    (last,) = _solve_parts(solver, candidates, ground, room, 1, turn, ranks)
    return last.rows if last.value >= best.value else best.rows


def _solve_parts(
    solver: Solver,
    candidates: NDArray[np.int64],
    ground: Ground,
    room: Room,
    parts: int,
    turn: int,
    ranks: Ranks,
) -> list[_Found]:
    """What each part chose, on every rank."""
    part_of = _hashed(ground.ties[candidates], turn) % np.uint64(parts)
    mine: list[tuple[int, _Found]] = []
    for first in range(0, parts, ranks.size):  # each rank has one part at a time
        work: tuple[int, Room, Solve] | None = None
        for part in range(first, min(first + ranks.size, parts)):
            rows = candidates[part_of == part]
            solve = solver.load(rows, part - first == ranks.rank)
            if solve is not None:
                work = part, _room_of(room, ground.groups[rows], halved=parts > 1), solve
        if work is not None:
            part, part_room, solve = work
            mine.append((part, _Found(*solve(part_room))))
    numbers = ranks.gather(np.array([part for part, _ in mine], np.int64))
    values = ranks.gather(np.array([found.value for _, found in mine], np.float64))
    sizes = ranks.gather(np.array([len(found.rows) for _, found in mine], np.int64))
    none = np.zeros(0, np.int64)
    rows = ranks.gather(np.concatenate([none, *(found.rows for _, found in mine)]))
    ends = np.cumsum(sizes)
    return [
        _Found(float(values[place]), rows[ends[place] - sizes[place] : ends[place]])
        for place in np.argsort(numbers)
    ]


def _room_of(room: Room, groups: NDArray[np.int32], *, halved: bool) -> Room:
    """What a part, whose rows are of these groups, fills of a room: at most half of its rows."""
    if room.rows is None:
        return room
    sizes = np.bincount(groups, minlength=len(room.minimum)).astype(np.int64)
    maximum = np.minimum(room.maximum, sizes)
    minimum = np.minimum(room.minimum, maximum)
    count = min(room.rows, int(maximum.sum()))
    if halved:
        count = min(count, max(-(-len(groups) // 2), int(minimum.sum())))
    return Room(count, None, minimum, maximum)


def _fills(room: Room, rows: NDArray[np.int64], groups: NDArray[np.int32]) -> bool:
    """Whether rows are all that is asked for."""
    if room.rows is None:
        return True
    counts = np.bincount(groups[rows], minlength=len(room.minimum))
    return len(rows) == room.rows and bool((counts >= room.minimum).all())


def _suffice(room: Room, rows: NDArray[np.int64], groups: NDArray[np.int32]) -> bool:
    """Whether a room can be filled with what the parts chose, each with its minimums."""
    if room.rows is None:
        return True
    counts = np.bincount(groups[rows], minlength=len(room.minimum))
    return int(np.minimum(counts, room.maximum).sum()) >= room.rows


def _hashed(ties: NDArray[np.int64], turn: int) -> NDArray[np.uint64]:
    """Evenly spread numbers (SplitMix64), others in each turn."""
    step = (turn + 1) * 0x9E3779B97F4A7C15 % (1 << 64)
    mixed = ties.astype(np.uint64) + np.uint64(step)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))
