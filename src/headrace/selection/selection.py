"""Selection: rows, an objective and limits in; the chosen rows with a certificate out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from headrace.errors import Problem, SelectionError
from headrace.selection.frank_wolfe import MAX_PASSES, TOLERANCE, frank_wolfe
from headrace.selection.greedy import greedy
from headrace.selection.limits import Facts, Limits, Room, room
from headrace.selection.objective import GraphCut
from headrace.selection.permitted import Permitted
from headrace.selection.ranks import Ranks
from headrace.selection.rows import Rows
from headrace.selection.top import top
from headrace.selection.vectors import Table

Method = Literal["frank_wolfe", "exact_greedy", "top_similarity", "random"]
METHODS: tuple[Method, ...] = ("frank_wolfe", "exact_greedy", "top_similarity", "random")
BALANCED = "balanced"
"""The trade-off ``n/k - 2``, with which gains reach 0 at about k rows."""
DEFAULT_TRADE_OFF = 10.0
"""lambda of the paper."""
_READS_OF_ORDER = 128
"""The greedy that orders a solution trusts its pool so far that it reads all rows this often."""
_CURVE_ROWS = 256
"""Rows whose gains are computed at once."""


@dataclass(frozen=True)
class Selection:
    """The chosen rows in their order, and what is known about them; the same on all ranks."""

    rows: NDArray[np.int64]
    """``[chosen]``: row numbers, counted through the rows of all ranks.

    For ``frank_wolfe`` and ``exact_greedy`` the rows that must be in and then the greedy's order;
    for ``top_similarity`` by score; for ``random`` as drawn.
    """
    gains: NDArray[np.float64]
    """``[chosen]``: by how much each row raises the objective over those before it."""
    scores: NDArray[np.float64]
    """``[chosen]``: mean cosine of each row with all rows."""
    method: Method
    trade_off: float
    """lambda."""
    objective: float
    """f of the chosen rows, from their sum in fp64."""
    bound: float
    """No permitted set has a larger f."""
    passes: int
    """Times that all rows were read by the solver."""
    knee: float
    """About how many rows like these can be chosen before gains turn negative."""
    first_negative_gain: int | None
    """Place (from 1) of the first row in the order that lowers the objective; None if none does."""
    suggested_trade_off: float | None
    """The largest lambda with which the knee surely comes behind the chosen number of rows.

    None if no gain is negative, or no lambda of 0 or more is small enough.
    """

    @property
    def gap(self) -> float:
        """By how much the objective can be below the best, in parts of itself; 0 or more."""
        return (self.bound - self.objective) / max(abs(self.objective), 1e-300)


def select(
    vectors: Table,
    limits: Limits,
    *,
    method: Method = "frank_wolfe",
    trade_off: float | Literal["balanced"] = DEFAULT_TRADE_OFF,
    ties: NDArray[np.int64] | None = None,
    names: Callable[[int], str] = lambda row: f"row {row}",
    groups: NDArray[np.int32] | None = None,
    group_names: Sequence[str] = ("all",),
    costs: NDArray[np.int64] | None = None,
    required: NDArray[np.int64] | None = None,
    seed: int = 0,
    tolerance: float = TOLERANCE,
    max_passes: int = MAX_PASSES,
    ranks: Ranks | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> Selection:
    """Choose rows to train on.

    Every rank of ``ranks`` calls it with its own rows and the same settings.  The answer depends
    neither on the order of the rows (given their ties) nor on how many ranks hold them.

    Args:
        vectors: ``[rows, d]`` fp16, fp32 or fp64, in memory or mapped; need not be normalised.
        limits: how many rows, or what they may cost, and the quotas of groups.
        method: ``frank_wolfe`` certifies how near the best it is; ``exact_greedy`` is Algorithm 1
            of the paper; ``top_similarity`` and ``random`` are controls.
        trade_off: lambda; "balanced" stands for ``n/k - 2``.
        ties: ``[rows]`` the place of each row's id among all ids: it decides between equals.
            Row numbers if not given.
        names: what to call row ``i`` of this rank in messages.
        groups: ``[rows]`` number of the group of each row.
        group_names: a name for each group.
        costs: ``[rows]`` tokens of each row.
        required: rows of this rank that must be in; they count towards the limits.
        seed: of ``random``.
        tolerance: gap at which ``frank_wolfe`` stops.
        max_passes: passes after which it stops in any case.
        ranks: who else holds rows.
        progress: is told what goes on.

    Raises:
        SelectionError: with all that is wrong with the vectors, the limits and the trade-off.
    """
    ranks = ranks or Ranks()
    problems = ranks.joint(_shape_problems(vectors, groups, costs))
    if problems:
        raise SelectionError(problems)
    progress("reading norms")
    rows = Rows(vectors, ties=ties, groups=groups, ranks=ranks)
    must = np.unique(required) if required is not None else np.zeros(0, np.int64)
    problems = ranks.joint(rows.problems(names)) + _method_problems(method, trade_off, limits)
    facts = _facts(rows, group_names, costs, must)
    left, wrong = room(limits, facts)
    problems += wrong
    if problems or left is None:
        raise SelectionError(problems)
    permitted = Permitted(rows, left, must, costs)
    if trade_off == BALANCED:
        trade_off = max(0.0, facts.total / ((left.rows or 0) + int(facts.required.sum())) - 2)
    cut = GraphCut(rows.as_float(rows.fixed_sum()), float(trade_off))
    progress(method)
    if method == "exact_greedy":
        return _by_greedy(cut, permitted, progress)
    if method == "frank_wolfe":
        solution = frank_wolfe(
            cut,
            permitted,
            tolerance=tolerance,
            max_passes=max_passes,
            after_pass=lambda gap: progress(f"gap {gap:.2g}"),
        )
        order, read = _greedy_order(cut, permitted, solution.rows)
        return _selection(method, cut, rows, order, solution.bound, solution.passes + read)
    query = cut.everything if method == "top_similarity" else None
    order = _control(permitted, query, seed)
    bound = _bound_at(cut, permitted, rows.fixed_sum(rows.local(order)))
    return _selection(method, cut, rows, order, bound, 2)


def _by_greedy(cut: GraphCut, permitted: Permitted, progress: Callable[[str], None]) -> Selection:
    rows, must = permitted.rows, permitted.required
    taken = np.zeros(len(rows), bool)
    taken[must] = True
    picks = greedy(
        rows,
        cut,
        permitted.room,
        start=rows.fixed_sum(must),
        taken=taken,
        after_step=_every(1000, lambda done: progress(f"{done:,} rows picked")),
    )
    order = np.concatenate([_by_score(cut.everything, rows, must), picks.positions])
    chosen = rows.fixed_sum(rows.local(order))
    bound = _bound_at(cut, permitted, chosen)
    return _selection("exact_greedy", cut, rows, order, bound, picks.passes + 1)


def _every(count: int, tell: Callable[[int], None]) -> Callable[[], None]:
    """What counts its calls and tells of each ``count``-th one."""
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        if done % count == 0:
            tell(done)

    return step


def _greedy_order(
    cut: GraphCut, permitted: Permitted, chosen: NDArray[np.int64]
) -> tuple[NDArray[np.int64], int]:
    """Positions of chosen rows as a greedy would pick them from these, and passes over all rows.

    Each head of this order is a good choice of its size.  For more than ``_READS_OF_ORDER`` rows
    the picks are nearly, not provably, those of the exact greedy.
    """
    rows, must = permitted.rows, permitted.required
    others = np.ones(len(rows), bool)
    others[chosen] = False
    others[must] = True
    count = int(rows.ranks.sum(np.array([len(others) - int(others.sum())]))[0])
    sizes = np.full(len(permitted.room.minimum), count)
    picks = greedy(
        rows,
        cut,
        Room(count, None, np.zeros_like(sizes), sizes),
        start=rows.fixed_sum(must),
        taken=others,
        trust=count // _READS_OF_ORDER,
    )
    return np.concatenate([_by_score(cut.everything, rows, must), picks.positions]), picks.passes


def _control(
    permitted: Permitted, query: NDArray[np.float64] | None, seed: int
) -> NDArray[np.int64]:
    """Positions of rows chosen without regard for each other: by a query, or at random."""
    rows = permitted.rows
    if query is not None:
        return _by_score(query, rows, permitted.best_for(query, 0.0).rows)
    drawn: NDArray[np.float64] = np.random.default_rng(seed).random(rows.total)[rows.ties]
    drawn += 1.0  # keys are above 0
    chosen = permitted.best(drawn.astype(np.float32), 2.0**-23, lambda some: drawn[some]).rows
    order = np.argsort(-rows.ranks.gather(drawn[chosen]), kind="stable")
    return rows.ranks.gather(chosen + rows.offset)[order]


def _bound_at(cut: GraphCut, permitted: Permitted, chosen: NDArray[np.int64]) -> float:
    """The bound that the chosen rows themselves give, in one pass."""
    rows = permitted.rows
    query = cut.query(rows.as_float(chosen))
    best = permitted.best_for(query, cut.trade_off / 2)
    size = int(rows.ranks.sum(np.array([len(best.rows)]))[0])
    total = rows.as_float(rows.fixed_sum(best.rows))
    return cut.bound(query, float(query @ total) + cut.trade_off / 2 * size + best.rest)


def _by_score(
    query: NDArray[np.float64], rows: Rows, chosen: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Positions of the chosen rows of all ranks, those with the largest product first."""
    gather = rows.ranks.gather
    scores = gather(rows.exact_scores(chosen, query))
    return gather(chosen + rows.offset)[np.lexsort((gather(rows.ties[chosen]), -scores))]


def _selection(
    method: Method,
    cut: GraphCut,
    rows: Rows,
    order: NDArray[np.int64],
    bound: float,
    passes: int,
) -> Selection:
    gains, scores = np.empty(len(order)), np.empty(len(order))
    before = np.zeros(rows.dimensions)
    for start in range(0, len(order), _CURVE_ROWS):
        part = order[start : start + _CURVE_ROWS]
        copies, positions = rows.gather(rows.local(part))
        sorter = np.argsort(positions)
        unit = copies.unit(sorter[np.searchsorted(positions, part, sorter=sorter)])
        sums = np.cumsum(unit, axis=0)
        along = unit @ cut.everything
        taken = np.einsum("ij,ij->i", unit, before + sums - unit)
        gains[start : start + len(part)] = along - cut.a * taken - 1
        scores[start : start + len(part)] = along / rows.total
        before += sums[-1]
    chosen = rows.as_float(rows.fixed_sum(rows.local(order)))
    objective = cut.value(chosen, len(order))
    negative = np.flatnonzero(gains < 0)
    suggested = _harmless(cut, rows, len(order)) if len(negative) else -1.0
    return Selection(
        rows=order,
        gains=gains,
        scores=scores,
        method=method,
        trade_off=cut.trade_off,
        objective=objective,
        bound=max(bound, objective),
        passes=passes,
        knee=cut.knee(chosen, len(order)),
        first_negative_gain=int(negative[0]) + 1 if len(negative) else None,
        suggested_trade_off=suggested if suggested >= 0 else None,
    )


def _harmless(cut: GraphCut, rows: Rows, count: int) -> float:
    """The largest lambda with which the knee of no set of this size comes before its last row."""
    query = cut.everything
    error, keys = rows.error(query), rows.scores(query)
    longest = top(rows, keys, error, lambda some: rows.exact_scores(some, query), count).rows
    return cut.knee(rows.as_float(rows.fixed_sum(longest)), count) * cut.a / count - 2


def _facts(
    rows: Rows,
    group_names: Sequence[str],
    costs: NDArray[np.int64] | None,
    required: NDArray[np.int64],
) -> Facts:
    count, total = len(group_names), rows.ranks.sum
    cheapest = None
    if costs is not None:
        least = int(costs.min()) if len(costs) else np.iinfo(np.int64).max
        cheapest = -int(rows.ranks.max(np.array([-least]))[0])
    return Facts(
        group_names,
        total(np.bincount(rows.groups, minlength=count).astype(np.int64)),
        total(np.bincount(rows.groups[required], minlength=count).astype(np.int64)),
        0 if costs is None else int(total(np.array([costs[required].sum()]))[0]),
        cheapest,
    )


def _shape_problems(
    vectors: Table, groups: NDArray[np.int32] | None, costs: NDArray[np.int64] | None
) -> list[Problem]:
    problems = []
    if vectors.ndim != 2 or vectors.dtype.kind != "f" or not vectors.shape[-1]:
        problems.append(
            Problem(
                "not a table of floating-point vectors",
                "vectors",
                f"{vectors.dtype} {list(vectors.shape)}",
                "Give [rows, dimensions] fp16, fp32 or fp64",
            )
        )
    for name, values in (("groups", groups), ("costs", costs)):
        if values is not None and len(values) != len(vectors):
            problems.append(
                Problem(f"not one for each of the {len(vectors):,} rows", name, f"{len(values):,}")
            )
    if costs is not None and len(costs) and int(costs.min()) < 1:
        problems.append(
            Problem("a row costs nothing", "costs", f"{int(costs.min())}", "Costs are 1 or more")
        )
    return problems


def _method_problems(method: Method, trade_off: float | str, limits: Limits) -> list[Problem]:
    problems = []
    if method == "exact_greedy" and limits.budget is not None:
        problems.append(
            Problem(
                "the greedy of Algorithm 1 picks a number of rows and keeps no budget",
                "method",
                method,
                "Take frank_wolfe",
            )
        )
    if trade_off == BALANCED:
        if limits.budget is not None:
            problems.append(
                Problem(
                    "a balanced trade-off is n/k - 2, and a budget does not say what k is",
                    "trade_off",
                    BALANCED,
                    "Give a number",
                )
            )
    elif isinstance(trade_off, str) or not (np.isfinite(trade_off) and trade_off >= 0):
        problems.append(
            Problem("out of range", "trade_off", str(trade_off), "Give a number, 0 or more")
        )
    return problems
