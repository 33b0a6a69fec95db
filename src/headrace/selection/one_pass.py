"""Selection from a stream: solve on a sample, decide each row when it comes, certify afterwards.

For tables of which not even a score for each row can be held.  Memory is that of a sample and of
the chosen rows; all rows are read three times, in order.  See ``docs/selection_mathematics.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from headrace.errors import SelectionError
from headrace.selection.checks import BALANCED, method_problems, one_pass_problems
from headrace.selection.chosen import Selection
from headrace.selection.curve import with_curve
from headrace.selection.limits import Limits, Room, room
from headrace.selection.mix_rules import MixRules, thresholds_of
from headrace.selection.objective import GraphCut
from headrace.selection.order import greedy_order
from headrace.selection.permitted import Permitted
from headrace.selection.ranks import Ranks
from headrace.selection.row_stream import (
    BATCH_ROWS,
    BestRows,
    FixedSums,
    Kept,
    RowStream,
    best_within,
)
from headrace.selection.rows import Rows
from headrace.selection.sampled import Survey, survey
from headrace.selection.simplex import best_mix

SAMPLE_ROWS = 1 << 14
WARM_PASSES = 0
_TOLERANCE = 1e-6
_MAX_STEPS = 60
_LIGHT = 1e-3
"""Rules with less weight are left out."""


def one_pass(
    stream: RowStream,
    limits: Limits,
    *,
    trade_off: float | Literal["balanced"] = 10.0,
    group_names: Sequence[str] = ("all",),
    required: NDArray[np.int64] | None = None,
    seed: int = 0,
    sample_rows: int = SAMPLE_ROWS,
    warm_passes: int = WARM_PASSES,
    names: Callable[[int], str] = lambda row: f"row {row}",
    ranks: Ranks | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> Selection:
    """Choose rows of a stream for the graph cut.

    Every rank calls it with a stream of its own rows.  The same rows are chosen in any order of
    the rows and on any number of ranks, given their ties.

    Args:
        stream: starts a pass over the rows of this rank.
        limits: a number or share of the rows, and quotas; no budget.
        trade_off: lambda; "balanced" stands for ``n/k - 2``.
        group_names: a name for each group.
        required: rows of this rank that must be in.
        seed: of the sample.
        sample_rows: rows to draw; the relative loss falls in proportion.
        warm_passes: passes that correct the rules on all rows before any is decided.
        names: what to call row ``i`` of this rank in messages.
        ranks: who else has rows.
        progress: is told what goes on.

    Raises:
        SelectionError: with all that is wrong with the vectors, the limits and the trade-off.
    """
    ranks = ranks or Ranks()
    must = np.unique(required) if required is not None else np.zeros(0, np.int64)
    progress("reading norms and a sample")
    seen = survey(
        stream,
        max(1, sample_rows),
        required=must,
        group_names=tuple(group_names),
        seed=seed,
        names=names,
        ranks=ranks,
    )
    problems = ranks.joint(seen.problems) + one_pass_problems(limits, sample_rows, warm_passes)
    problems += method_problems("graph_cut", "one_pass", trade_off, limits)
    left, wrong = (None, []) if limits.budget is not None else room(limits, seen.facts)
    problems += wrong
    if problems or left is None:
        raise SelectionError(problems)
    count = (left.rows or 0) + int(seen.facts.required.sum())
    if trade_off == BALANCED:
        trade_off = max(0.0, seen.facts.total / count - 2)
    cut = GraphCut(seen.everything, float(trade_off))
    work = _Work(stream, cut, left, must, seen, seed, ranks)
    progress("solving on the sample")
    rules, mix = work.solved_on_sample()
    passes = 1
    bounds = []
    for _ in range(warm_passes):
        progress("correcting on all rows")
        rules, mix, bound = work.corrected(rules, mix)
        bounds.append(bound)
        passes += 1
    progress("choosing")
    chosen, bound = work.chosen(rules, mix)
    bounds.append(bound)
    rows = Rows(chosen.vectors, ties=chosen.ties, groups=chosen.groups, ranks=ranks)
    total = rows.as_float(rows.fixed_sum())
    progress("certifying")
    certified, longest = work.certified(total)
    everything_in = Room(rows.total, None, left.minimum * 0, np.full(len(left.minimum), rows.total))
    inside = np.flatnonzero(np.isin(chosen.positions, must, assume_unique=True))
    order = greedy_order(cut, Permitted(rows, everything_in, inside), np.arange(len(rows)))
    found = with_curve("one_pass", cut, rows, order, min(*bounds, certified), passes + 2)
    return replace(
        found,
        rows=ranks.gather(chosen.positions + seen.offset)[order],
        scores=found.scores * rows.total / seen.facts.total,
        suggested_trade_off=(
            None if found.first_negative_gain is None else cut.harmless(longest, seen.facts.total)
        ),
    )


@dataclass(frozen=True)
class _Work:
    """One call of :func:`one_pass`."""

    stream: RowStream
    cut: GraphCut
    room: Room
    must: NDArray[np.int64]
    seen: Survey
    seed: int
    ranks: Ranks

    def solved_on_sample(self) -> tuple[MixRules, NDArray[np.float64]]:
        """Frank-Wolfe on the sample, where each row stands for many: rules, and the sum of all."""
        unit, ties, groups = self.seen.unit, self.seen.ties, self.seen.groups
        start = self.seen.required
        small = self._scaled_room(len(unit))
        each = (self.room.rows or 0) / max(1, small.rows or 0)  # rows that one stands for
        totals: list[NDArray[np.float64]] = []
        rules: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []
        weights = np.zeros(0)
        mix = np.zeros_like(start)
        for _ in range(_MAX_STEPS):
            query = self.cut.query(start + mix)
            keys = (unit @ query.astype(np.float32)).astype(np.float64)
            forced, more = best_within(keys, ties, groups, small)
            picked = np.concatenate([forced, more[: (small.rows or 0) - len(forced)]])
            total = each * unit[picked].sum(0, dtype=np.float64)
            gap = float(query @ (total - mix))
            value = self.cut.value(start + mix, 0)
            if totals and gap <= _TOLERANCE * max(abs(value), 1e-300):
                break
            totals.append(total)
            rules.append((query, thresholds_of(keys, groups, picked, len(small.minimum))))
            weights = self._best_weights(totals, np.append(weights, 0.0))
            used = weights > 0
            totals = [total for total, use in zip(totals, used, strict=True) if use]
            rules = [rule for rule, use in zip(rules, used, strict=True) if use]
            weights = weights[used]
            mix = np.asarray(weights @ np.stack(totals))
        found = MixRules(
            weights, np.stack([rule[0] for rule in rules]), np.stack([rule[1] for rule in rules])
        )
        return self._agreed(found), self._from_main(mix)

    def corrected(
        self, rules: MixRules, mix: NDArray[np.float64]
    ) -> tuple[MixRules, NDArray[np.float64], float]:
        """A step of Frank-Wolfe on all rows: the best for the mix becomes a rule beside the others.

        Returns:
            The rules with the weights that are best for the rows that each takes of all rows, the
            sum of the mix, and a bound.
        """
        count = len(rules.weights)
        sums = FixedSums(count + 1, self.seen.everything.size)
        sizes = np.zeros(count, np.int64)
        best, single = BestRows(self.room), self._single(self.seen.required + mix)
        for rows, positions, free in self._batches():
            marks = np.zeros((count + 1, len(rows)))
            marks[:count] = rules.taken(rows) & free
            sizes += marks[:count].sum(1).astype(np.int64)
            some = np.flatnonzero(marks.any(0))
            sums.add(marks[:, some], rows.unit(some))
            single.offer(best, rows, positions, free, self.seed, vectors=True)
        kept, reached = best.finish(self.ranks)
        floors = np.full(len(self.room.minimum), np.inf)
        if kept is not None and len(kept.keys):
            rows = Rows(kept.vectors)
            for start in range(0, len(rows), BATCH_ROWS):
                some = np.arange(start, min(start + BATCH_ROWS, len(rows)))
                marks = np.zeros((count + 1, len(some)))
                marks[count] = 1
                sums.add(marks, rows.unit(some))
            np.minimum.at(floors, kept.groups, kept.keys)
        floors = -self.ranks.max(-floors)
        largest = 2 * float(np.linalg.norm(single.queries))
        grown = MixRules(
            np.append(rules.weights, 0.0),
            np.concatenate([rules.queries, single.queries]),
            np.concatenate([rules.thresholds, np.minimum(floors, largest)[None]]),
        )
        scale = (self.room.rows or 0) / np.maximum(self.ranks.sum(sizes), 1)
        totals = sums.total(self.ranks) * np.append(scale, 1.0)[:, None]
        weights = np.ones(1)
        for known in range(2, count + 2):
            weights = self._best_weights(list(totals[:known]), np.append(weights, 0.0))
        mix = np.asarray(weights @ totals)
        bound = self._bound(single.queries[0], reached)
        return self._agreed(replace(grown, weights=weights)), self._from_main(mix), bound

    def chosen(self, rules: MixRules, mix: NDArray[np.float64]) -> tuple[Kept, float]:
        """The pass that decides: the rows furthest inside their rules, and a bound at the mix."""
        single = self._single(self.seen.required + mix)
        best, bound = BestRows(self.room), BestRows(self.room)
        required: list[Kept] = []
        for rows, positions, free in self._batches():
            rules.offer(best, rows, positions, free, self.seed, vectors=True)
            single.offer(bound, rows, positions, free, self.seed, vectors=False)
            held = np.flatnonzero(~free)
            required.append(
                Kept(
                    np.zeros(len(held)),
                    rows.ties[held],
                    rows.groups[held],
                    positions[held],
                    rows.matrix[held],
                )
            )
        kept, _ = best.finish(self.ranks)
        together = Kept.joined([*required, *([] if kept is None else [kept])])
        return together[np.argsort(together.positions)], self._bound(
            single.queries[0], bound.finish(self.ranks)[1]
        )

    def certified(self, total: NDArray[np.float64]) -> tuple[float, float]:
        """The bound that the chosen rows give, and the largest sum of ``x . s_V`` of so many."""
        best, longest = BestRows(self.room), BestRows(_free(self.room, self.seen))
        at_chosen, at_start = self._single(total), self._single(0 * total)
        for rows, positions, free in self._batches():
            at_chosen.offer(best, rows, positions, free, self.seed, vectors=False)
            every = np.ones(len(rows), bool)
            at_start.offer(longest, rows, positions, every, self.seed, vectors=False)
        reached = best.finish(self.ranks)[1]
        return self._bound(at_chosen.queries[0], reached), longest.finish(self.ranks)[1]

    def _single(self, total: NDArray[np.float64]) -> MixRules:
        """The rows with the largest gains over chosen ones with this sum."""
        query = self.cut.query(total)
        return MixRules(np.ones(1), query[None], np.zeros((1, len(self.room.minimum))))

    def _bound(self, query: NDArray[np.float64], reached: float) -> float:
        """Of the largest sum of products with a query that so many rows reach."""
        count = (self.room.rows or 0) + int(self.seen.facts.required.sum())
        reached += float(query @ self.seen.required)
        return self.cut.bound(query, reached + self.cut.trade_off / 2 * count)

    def _batches(self) -> Iterator[tuple[Rows, NDArray[np.int64], NDArray[np.bool_]]]:
        """Rows, their numbers, and which of them need not be in."""
        row = 0
        for batch in self.stream():
            rows = Rows(batch.vectors, ties=batch.ties, groups=batch.groups)
            positions = np.arange(row, row + len(rows))
            row += len(rows)
            yield rows, positions, ~np.isin(positions, self.must, assume_unique=True)

    def _best_weights(
        self, totals: list[NDArray[np.float64]], weights: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        points = np.stack(totals)
        scale = max(float(np.abs(points).max()), 1.0)
        gram = self.cut.a * (points / scale) @ (points / scale).T
        linear = points @ self.cut.query(self.seen.required) / scale**2
        return best_mix(gram, linear, weights)

    def _scaled_room(self, drawn: int) -> Room:
        """The room for a sample: quotas in proportion, a row more where they do not come out."""
        free = self.seen.facts.group_sizes - self.seen.facts.required
        share = drawn / max(1, int(free.sum()))
        sizes = np.bincount(self.seen.groups, minlength=len(free))
        maximum = np.minimum(np.ceil(self.room.maximum * share).astype(np.int64), sizes)
        minimum = np.minimum(np.floor(self.room.minimum * share).astype(np.int64), maximum)
        count = int(np.ceil((self.room.rows or 0) * share))
        return Room(min(count, int(maximum.sum())), None, minimum, maximum)

    def _agreed(self, rules: MixRules) -> MixRules:
        """The rules of the main rank, without the light ones."""
        heavy = np.flatnonzero(self._from_main(rules.weights) >= _LIGHT)
        weights = self._from_main(rules.weights)[heavy]
        return MixRules(
            weights / weights.sum(),
            self._from_main(rules.queries)[heavy],
            self._from_main(rules.thresholds)[heavy],
        )

    def _from_main(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        main = self.ranks.rank == 0
        flat = self.ranks.gather(values.ravel() if main else values.ravel()[:0])
        shape = self.ranks.gather(np.array(values.shape if main else (), np.int64))
        return flat.reshape(shape)


def _free(left: Room, seen: Survey) -> Room:
    """Room for as many rows as are chosen, of any group."""
    count = (left.rows or 0) + int(seen.facts.required.sum())
    return Room(count, None, left.minimum * 0, np.full(len(left.minimum), count))
