"""A selection from its settings to its folder, on all ranks of a process group."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from headrace.errors import Problem
from headrace.selection.checkpoint import Checkpoint
from headrace.selection.inputs import Inputs, rows_of
from headrace.selection.job import SelectionJob, Task, check
from headrace.selection.measures import measure
from headrace.selection.neighbours import NeighbourGraph, neighbour_graph
from headrace.selection.projection import project
from headrace.selection.ranks import ProcessGroup, Ranks
from headrace.selection.results import finished, write
from headrace.selection.selection import select
from headrace.selection.vectors import ties_of
from headrace.training.distributed import World, failing_together, gather_json

_CHECKPOINT = ".checkpoint"


@dataclass(frozen=True)
class Outcome:
    """What is in the folder of a job."""

    report: Mapping[str, Any]
    """``selection.json``."""
    made: bool
    """False if it was there already."""


def run_selection(
    job: SelectionJob, world: World | None = None, *, problems: Sequence[Problem] = ()
) -> Outcome:
    """Embed what is not embedded, choose, and write the folder; or find it there already.

    Every rank calls it; each gets the same outcome.

    Args:
        job: the same on all ranks.
        world: the process group; None for a process by itself.
        problems: what the caller has found wrong with the settings; raised with all else.

    Raises:
        UserError: with all that is wrong on any rank, raised on all of them.
    """
    with nullcontext() if world is None else failing_together(world):
        task = check(job, problems)
    return carry_out(task, world)


def carry_out(
    task: Task,
    world: World | None = None,
    *,
    ranks: Ranks | None = None,
    while_embedding: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Outcome:
    """Do what is left to do of a job that was checked; see :func:`run_selection`.

    Args:
        task: of the same job on all ranks.
        world: the process group; None for a process by itself.
        ranks: its collectives, where they are to do more than that.
        while_embedding: entered on each rank for the time in which it embeds by itself.
    """
    job = task.job
    if ranks is None:
        ranks = Ranks() if world is None else ProcessGroup(world.device)
    main = ranks.rank == 0

    def together() -> AbstractContextManager[None]:
        return nullcontext() if world is None else failing_together(world)

    with together():
        report = finished(task.output, task.fingerprint)
    if report is not None:
        return Outcome(report, made=False)
    began = perf_counter()
    with together(), while_embedding():
        inputs = task.embedded(show=main)
        candidates = inputs.candidates
        ties = ties_of(candidates.ids)
        required = None
        if task.required is not None:
            required = rows_of(candidates.ids, task.required, "require")
    embedded = perf_counter()
    with together(), _progress(main) as tell:
        graph = _graph(task, inputs, ties, ranks, tell)
    connected = perf_counter()
    total = len(candidates.ids)
    start, stop = (total * (ranks.rank + end) // ranks.size for end in (0, 1))
    part = slice(start, stop)
    if required is not None:
        required = required[(required >= start) & (required < stop)] - start
    checkpoint = Checkpoint(
        task.output / _CHECKPOINT, task.fingerprint, ranks, job.checkpoint_seconds
    )
    with _progress(main) as tell:
        found = select(
            inputs.vectors.part(start, stop),
            job.limits,
            objective=job.objective,
            hinge=job.hinge,
            parts=job.parts,
            method=job.method,
            graph=graph,
            trade_off=job.trade_off,
            ties=ties[part],
            names=lambda row: candidates.ids[start + row].decode(),
            groups=candidates.groups[part],
            group_names=candidates.group_names,
            costs=None if candidates.costs is None else candidates.costs[part],
            required=required,
            seed=job.seed,
            sample_rows=job.sample_rows,
            warm_passes=job.warm_passes,
            ranks=ranks,
            progress=tell,
            checkpoint=checkpoint,
        )
        selected = perf_counter()
        tell("measuring coverage")
        measures = measure(inputs.vectors, found.rows, job.duplicate_cosine, ranks)
    seconds = {
        "embed": embedded - began,
        "neighbours": connected - embedded,
        "select": selected - connected,
        "measure": perf_counter() - selected,
    }
    with together():
        if main:
            report = write(
                task.output,
                found,
                candidates,
                measures,
                project(inputs.vectors, found.rows),
                fingerprint=task.fingerprint,
                settings=task.settings,
                seconds=seconds,
                sources=None if task.sources is None else task.sources.manifests,
            )
            checkpoint.remove()
    if world is not None:
        report = gather_json(report, world)[0]
    assert report is not None
    return Outcome(report, made=True)


def _graph(
    task: Task,
    inputs: Inputs,
    ties: NDArray[np.int64],
    ranks: Ranks,
    tell: Callable[[str], None],
) -> NeighbourGraph | None:
    """The neighbours among all rows, if the objective needs them."""
    if task.job.objective == "graph_cut":
        return None
    return neighbour_graph(
        inputs.vectors,
        task.job.index,
        ties=ties,
        names=lambda row: inputs.candidates.ids[row].decode(),
        cache=task.job.cache,
        fingerprint=task.settings["inputs"],
        ranks=ranks,
        progress=tell,
    )


@contextmanager
def _progress(show: bool) -> Iterator[Callable[[str], None]]:
    """A line on the terminal that says what goes on."""
    with tqdm(
        desc="selecting",
        bar_format="{desc}: {postfix} [{elapsed}]",
        disable=None if show else True,
    ) as bar:
        yield bar.set_postfix_str
