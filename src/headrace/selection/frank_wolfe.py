"""Frank-Wolfe with corrected weights: a handful of passes in place of one step for each row.

The objective, extended to fractions of rows, is concave, so each pass gives an upper bound on
the best permitted set, whatever solves it: see ``docs/selection_mathematics.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.selection.checkpoint import Stage
from headrace.selection.greedy import greedy
from headrace.selection.limits import Room, sum_by_group
from headrace.selection.objective import GraphCut
from headrace.selection.permitted import Permitted
from headrace.selection.rows import Rows
from headrace.selection.simplex import best_mix
from headrace.selection.swaps import improved

TOLERANCE = 1e-5
"""Passes end when the mix is this close to its bound, in parts of its value."""
MAX_PASSES = 60
_READS_OF_ROUNDING = 128
"""The greedy that rounds trusts its pool of candidates so far that it reads them all this often."""


@dataclass(frozen=True)
class Solution:
    """What a solver found."""

    rows: NDArray[np.int64]
    """Chosen rows of this rank, ascending."""
    bound: float
    """No permitted set has a larger objective."""
    passes: int
    """Times that all rows were read."""


@dataclass(frozen=True)
class _Atom:
    """One permitted set."""

    marks: NDArray[np.uint8]
    """One bit for each row of this rank."""
    fixed: NDArray[np.int64]
    """Sum of its rows over all ranks, in fixed point."""
    total: NDArray[np.float64]
    """The same in fp64."""
    count: int
    """Its rows on all ranks."""


def frank_wolfe(
    cut: GraphCut,
    permitted: Permitted,
    *,
    tolerance: float = TOLERANCE,
    max_passes: int = MAX_PASSES,
    after_pass: Callable[[float], None] = lambda gap: None,
    stage: Stage | None = None,
) -> Solution:
    """Maximise the relaxed objective, then round the rows that are taken in part.

    Args:
        cut: the objective.
        permitted: the sets to choose from.
        tolerance: end when the relative gap of the mix is below it.
        max_passes: end after this many passes in any case.
        after_pass: is told the gap after each pass.
        stage: where to go on from, and what to tell how far it is.
    """
    rows = permitted.rows
    bonus = cut.trade_off / 2
    atoms: list[_Atom] = []
    weights = np.zeros(0)
    mix, value = np.zeros(rows.dimensions), -np.inf
    bound = np.inf
    passes = 0
    kept = None if stage is None else stage.load()
    if kept is not None:
        atoms, weights = _atoms_of(rows, kept), kept["weights"]
        bound, passes = float(kept["bound"]), int(kept["passes"])
        mix, value = _mixed(cut, atoms, weights)
    while passes < max_passes:
        if stage is not None and atoms and rows.ranks.max(np.array([int(stage.due())]))[0]:
            _save(stage, rows, atoms, weights, bound, passes)
        query = cut.query(mix)
        best = permitted.best_for(query, bonus)
        passes += 1
        atom = _atom(rows, best.rows, atoms[-1] if atoms else None)
        reached = float(query @ atom.total) + bonus * atom.count + best.rest
        bound = min(bound, cut.bound(query, reached))
        if atoms:
            gap = (bound - value) / max(abs(value), 1e-300)
            after_pass(gap)
            if gap <= tolerance:
                break
        atoms.append(atom)
        weights = _mix_weights(cut, atoms, weights)
        atoms = [atom for atom, weight in zip(atoms, weights, strict=True) if weight > 0]
        weights = weights[weights > 0]
        before = value
        mix, value = _mixed(cut, atoms, weights)
        if value - before <= 1e-13 * abs(value):
            break  # as far as fp64 goes
    sets = [(cut.value(atom.total, atom.count), _rows_of(atom, len(rows))) for atom in atoms]
    rounded = _rounded(cut, permitted, atoms, weights)
    chosen_sum = rows.as_float(rows.fixed_sum(rounded))
    size = int(rows.ranks.sum(np.array([len(rounded)]))[0])
    sets.append((cut.value(chosen_sum, size), rounded))
    return Solution(max(sets, key=lambda pair: pair[0])[1], bound, passes)


def _atom(rows: Rows, chosen: NDArray[np.int64], last: _Atom | None) -> _Atom:
    """An atom of some rows; its sum is made from that of the last one, which has most of them."""
    marks = np.zeros(len(rows), bool)
    marks[chosen] = True
    if last is None:
        change = rows.own_fixed_sum(chosen)
    else:
        old = _unpacked(last, len(rows))
        change = rows.own_fixed_sum(np.flatnonzero(marks & ~old))
        change = change - rows.own_fixed_sum(np.flatnonzero(old & ~marks))
    *changed, count = rows.ranks.sum(np.append(change, len(chosen))).tolist()
    fixed = np.array(changed, np.int64) + (0 if last is None else last.fixed)
    return _Atom(np.packbits(marks), fixed, rows.as_float(fixed), count)


def _mixed(
    cut: GraphCut, atoms: list[_Atom], weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    """The sum of the rows of a mix, and its value."""
    mix = np.zeros(len(cut.everything))
    count = 0.0
    for weight, atom in zip(weights.tolist(), atoms, strict=True):
        mix += weight * atom.total
        count += weight * atom.count
    return mix, cut.value(mix, count)


def _save(
    stage: Stage,
    rows: Rows,
    atoms: list[_Atom],
    weights: NDArray[np.float64],
    bound: float,
    passes: int,
) -> None:
    """Write the mix, its sets as bits through the rows of all ranks."""
    marks = [np.packbits(rows.ranks.gather(_unpacked(atom, len(rows)))) for atom in atoms]
    if rows.ranks.rank == 0:
        stage.save(
            {
                "marks": np.stack(marks),
                "fixed": np.stack([atom.fixed for atom in atoms]),
                "counts": np.array([atom.count for atom in atoms]),
                "weights": weights,
                "bound": np.array(bound),
                "passes": np.array(passes),
            }
        )


def _atoms_of(rows: Rows, kept: dict[str, NDArray[Any]]) -> list[_Atom]:
    """The sets that :func:`_save` wrote, as far as this rank holds their rows."""
    own = slice(rows.offset, rows.offset + len(rows))
    return [
        _Atom(
            np.packbits(np.unpackbits(marks, count=rows.total)[own]),
            fixed,
            rows.as_float(fixed),
            int(count),
        )
        for marks, fixed, count in zip(kept["marks"], kept["fixed"], kept["counts"], strict=True)
    ]


def _unpacked(atom: _Atom, length: int) -> NDArray[np.bool_]:
    return np.unpackbits(atom.marks, count=length).astype(bool)


def _rows_of(atom: _Atom, length: int) -> NDArray[np.int64]:
    return np.flatnonzero(np.unpackbits(atom.marks, count=length))


def _mix_weights(
    cut: GraphCut, atoms: list[_Atom], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    totals = np.stack([atom.total for atom in atoms])
    scale = max(float(np.abs(totals).max()), 1.0)
    gram = cut.a * (totals / scale) @ (totals / scale).T
    counts = np.array([atom.count for atom in atoms])
    linear = (totals @ cut.everything + cut.trade_off / 2 * counts) / scale**2
    return best_mix(gram, linear, np.append(weights, 0.0))


def _rounded(
    cut: GraphCut, permitted: Permitted, atoms: list[_Atom], weights: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Rows of this rank that the mix holds whole, and the best of those that it holds in part."""
    rows = permitted.rows
    share = np.zeros(len(rows), np.float32)
    for atom, weight in zip(atoms, weights, strict=True):
        share += np.float32(weight) * _unpacked(atom, len(rows))
    whole = np.ones(len(rows), bool)
    for atom in atoms:
        whole &= _unpacked(atom, len(rows))
    part = np.flatnonzero((share > 0) & ~whole)
    kept = np.flatnonzero(whole)
    candidates, positions = rows.gather(part)
    if not len(candidates):
        return kept
    room = permitted.after(kept)
    start = rows.fixed_sum(kept)
    if permitted.costs is None or room.budget is None:
        trust = (room.rows or 0) // _READS_OF_ROUNDING
        picked = greedy(candidates, cut, room, start=start, trust=trust).positions
        total = rows.as_float(start + candidates.fixed_sum(picked))
        picked = improved(candidates, cut, picked, total)
    else:
        order = np.argsort(rows.ranks.gather(rows.ties[part]))
        costs = rows.ranks.gather(permitted.costs[part])[order]
        shares = rows.ranks.gather(share[part])[order]
        picked = _filled(shares, costs, candidates.groups, room)
        total = rows.as_float(start + candidates.fixed_sum(picked))
        spare = room.budget - int(costs[picked].sum())
        quotas = room.maximum - sum_by_group(
            candidates.groups[picked], costs[picked], len(room.maximum)
        )
        picked = improved(candidates, cut, picked, total, costs=costs, spare=spare, quotas=quotas)
    return np.union1d(kept, rows.local(positions[picked]))


def _filled(
    shares: NDArray[np.float32],
    costs: NDArray[np.int64],
    groups: NDArray[np.int32],
    room: Room,
) -> NDArray[np.int64]:
    """Rows by the share that the mix takes of them, each if there is still room for its cost."""
    budget, quotas = room.budget or 0, room.maximum.copy()
    picked = []
    for row in np.argsort(-shares, kind="stable"):
        if costs[row] <= min(budget, quotas[groups[row]]):
            budget -= int(costs[row])
            quotas[groups[row]] -= costs[row]
            picked.append(int(row))
    return np.array(picked, np.int64)
