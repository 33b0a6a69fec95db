"""Selection: rows, an objective and limits in; the chosen rows with a certificate out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from headrace.errors import SelectionError
from headrace.selection.checkpoint import Checkpoint, stage_of
from headrace.selection.checks import (
    BALANCED,
    facts_of,
    graph_problems,
    method_problems,
    parts_problems,
    shape_problems,
)
from headrace.selection.chosen import METHODS, Method, Objective, Selection
from headrace.selection.covering import by_facility_location
from headrace.selection.curve import bound_at, by_score, every, with_curve, with_penalty
from headrace.selection.frank_wolfe import MAX_PASSES, TOLERANCE, frank_wolfe
from headrace.selection.greedy import greedy
from headrace.selection.hinge import Hinge, Penalty
from headrace.selection.limits import Limits, room
from headrace.selection.neighbours import NeighbourGraph
from headrace.selection.objective import GraphCut
from headrace.selection.one_pass import SAMPLE_ROWS, WARM_PASSES, one_pass
from headrace.selection.order import greedy_order
from headrace.selection.partitioned import DEFAULT_PARTS
from headrace.selection.penalised import by_parts
from headrace.selection.permitted import Permitted
from headrace.selection.ranks import Ranks
from headrace.selection.row_stream import stream_of
from headrace.selection.rows import Rows
from headrace.selection.vectors import Table

DEFAULT_TRADE_OFF = 10.0
"""lambda of the paper."""
DEFAULT_HINGE = Hinge()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let numpy and torch compute in one thread.

    The operations are many and small: threads win nothing by them, and where something else
    keeps a core busy they wait for each other most of the time.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(threads)


@_one_thread()
def select(
    vectors: Table,
    limits: Limits,
    *,
    objective: Objective = "graph_cut",
    method: Method | None = None,
    graph: NeighbourGraph | None = None,
    hinge: Hinge = DEFAULT_HINGE,
    trade_off: float | Literal["balanced"] = DEFAULT_TRADE_OFF,
    ties: NDArray[np.int64] | None = None,
    names: Callable[[int], str] = lambda row: f"row {row}",
    groups: NDArray[np.int32] | None = None,
    group_names: Sequence[str] = ("all",),
    costs: NDArray[np.int64] | None = None,
    required: NDArray[np.int64] | None = None,
    parts: int = DEFAULT_PARTS,
    seed: int = 0,
    sample_rows: int = SAMPLE_ROWS,
    warm_passes: int = WARM_PASSES,
    tolerance: float = TOLERANCE,
    max_passes: int = MAX_PASSES,
    ranks: Ranks | None = None,
    progress: Callable[[str], None] = lambda text: None,
    checkpoint: Checkpoint | None = None,
) -> Selection:
    """Choose rows to train on.

    Every rank of ``ranks`` calls it with its own rows and the same settings.  The answer depends
    neither on the order of the rows (given their ties) nor on how many ranks hold them.

    Args:
        vectors: ``[rows, d]`` fp16, fp32 or fp64, in memory or mapped; need not be normalised.
        limits: how many rows, or what they may cost, and the quotas of groups.
        objective: what is maximised.
        method: for ``graph_cut`` ``frank_wolfe``, which certifies how near the best it is, or
            ``exact_greedy``, Algorithm 1 of the paper, which is the one for ``graph_cut_hinge``;
            for ``facility_location`` ``lazy_greedy``; for both of these ``greedi``, which is
            shared out over the ranks; ``top_similarity`` and ``random`` are controls for each.
            The first if not given.
        graph: the neighbours among the rows of all ranks, for objectives on them.
        hinge: what ``graph_cut_hinge`` takes from the graph cut.
        trade_off: lambda of the graph cut; "balanced" stands for ``n/k - 2``.
        ties: ``[rows]`` the place of each row's id among all ids: it decides between equals.
            Row numbers if not given.
        names: what to call row ``i`` of this rank in messages.
        groups: ``[rows]`` number of the group of each row.
        group_names: a name for each group.
        costs: ``[rows]`` tokens of each row.
        required: rows of this rank that must be in; they count towards the limits.
        parts: in how many parts ``greedi`` cuts the rows.
        seed: of ``random``, and of the sample of ``one_pass``.
        sample_rows: rows that ``one_pass`` solves first.
        warm_passes: of ``one_pass``, to correct what the sample says.
        tolerance: gap at which ``frank_wolfe`` stops.
        max_passes: passes after which it stops in any case.
        ranks: who else holds rows.
        progress: is told what goes on.
        checkpoint: keeps what ``frank_wolfe`` and ``exact_greedy`` have reached; the caller
            removes it.

    Raises:
        SelectionError: with all that is wrong with the vectors, the limits and the trade-off.
    """
    ranks = ranks or Ranks()
    problems = ranks.joint(shape_problems(vectors, groups, costs))
    if problems:
        raise SelectionError(problems)
    method = method or METHODS[objective][0]
    if method == "one_pass" and objective == "graph_cut":
        if ties is None:
            sizes = ranks.gather(np.array([len(vectors)]))
            ties = np.arange(len(vectors)) + int(sizes[: ranks.rank].sum())
        return one_pass(
            stream_of(vectors, ties, groups),
            limits,
            trade_off=trade_off,
            group_names=group_names,
            required=required,
            seed=seed,
            sample_rows=sample_rows,
            warm_passes=warm_passes,
            names=names,
            ranks=ranks,
            progress=progress,
        )
    progress("reading norms")
    rows = Rows(vectors, ties=ties, groups=groups, ranks=ranks)
    must = np.unique(required) if required is not None else np.zeros(0, np.int64)
    problems = ranks.joint(rows.problems(names))
    problems += method_problems(objective, method, trade_off, limits)
    problems += graph_problems(objective, graph, rows.total) + hinge.problems()
    problems += parts_problems(parts)
    facts = facts_of(rows, group_names, costs, must)
    left, wrong = room(limits, facts)
    problems += wrong
    if problems or left is None:
        raise SelectionError(problems)
    permitted = Permitted(rows, left, must, costs)
    if graph is not None and objective == "facility_location":
        is_greedy = method in ("lazy_greedy", "greedi")
        order = None if is_greedy else _control(permitted, method, seed)
        return by_facility_location(graph, permitted, method, order, parts, progress)
    if trade_off == BALANCED:
        trade_off = max(0.0, facts.total / ((left.rows or 0) + int(facts.required.sum())) - 2)
    cut = GraphCut(rows.as_float(rows.fixed_sum()), float(trade_off))
    progress(method)
    if graph is not None and objective == "graph_cut_hinge":
        penalty = hinge.on(graph)
        if method == "greedi":
            found = by_parts(cut, permitted, penalty, parts)
        elif method == "exact_greedy":
            found = _by_greedy(cut, permitted, progress, checkpoint, penalty)
        else:
            found = _by_control(cut, permitted, method, seed)
        return with_penalty(found, penalty, graph)
    if method == "exact_greedy":
        return _by_greedy(cut, permitted, progress, checkpoint)
    if method == "frank_wolfe":
        solution = frank_wolfe(
            cut,
            permitted,
            tolerance=tolerance,
            max_passes=max_passes,
            after_pass=lambda gap: progress(f"gap {gap:.2g}"),
            stage=stage_of(checkpoint, "frank_wolfe"),
        )
        order = greedy_order(cut, permitted, solution.rows, stage_of(checkpoint, "order"))
        found = with_curve(method, cut, rows, order, solution.bound, solution.passes)
        if limits.budget is None:
            return found
        head = _best_head(found, int(facts.required.sum()))
        if head == len(order):
            return found
        return with_curve(method, cut, rows, order[:head], solution.bound, solution.passes)
    return _by_control(cut, permitted, method, seed)


def _best_head(found: Selection, required: int) -> int:
    """How many of the rows, in their order, are worth most; those required are among them."""
    values = np.append(0.0, np.cumsum(found.gains))
    return required + int(np.argmax(values[required:]))


def _by_control(cut: GraphCut, permitted: Permitted, method: Method, seed: int) -> Selection:
    rows, order = permitted.rows, _control(permitted, method, seed)
    bound = bound_at(cut, permitted, rows.fixed_sum(rows.local(order)))
    return with_curve(method, cut, rows, order, bound, 2)


def _by_greedy(
    cut: GraphCut,
    permitted: Permitted,
    progress: Callable[[str], None],
    checkpoint: Checkpoint | None,
    penalty: Penalty | None = None,
) -> Selection:
    rows, must = permitted.rows, permitted.required
    taken = np.zeros(len(rows), bool)
    taken[must] = True
    first = by_score(cut.everything, rows, must)
    if penalty is not None:
        for position in first.tolist():
            penalty.add(position)
    picks = greedy(
        rows,
        cut,
        permitted.room,
        start=rows.fixed_sum(must),
        taken=taken,
        after_step=every(1000, lambda done: progress(f"{done:,} rows picked")),
        stage=stage_of(checkpoint, "exact_greedy"),
        penalty=penalty,
    )
    order = np.concatenate([first, picks.positions])
    chosen = rows.fixed_sum(rows.local(order))
    bound = bound_at(cut, permitted, chosen)
    return with_curve("exact_greedy", cut, rows, order, bound, picks.passes + 1)


def _control(permitted: Permitted, method: Method, seed: int) -> NDArray[np.int64]:
    """Positions of rows chosen without regard for each other: by mean cosine, or at random."""
    rows = permitted.rows
    if method == "top_similarity":
        query = rows.as_float(rows.fixed_sum())
        return by_score(query, rows, permitted.best_for(query, 0.0).rows)
    drawn: NDArray[np.float64] = np.random.default_rng(seed).random(rows.total)[rows.ties]
    drawn += 1.0  # keys are above 0
    chosen = permitted.best(drawn.astype(np.float32), 2.0**-23, lambda some: drawn[some]).rows
    order = np.argsort(-rows.ranks.gather(drawn[chosen]), kind="stable")
    return rows.ranks.gather(chosen + rows.offset)[order]
