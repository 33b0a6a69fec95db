"""The ``"selection"`` section of a run: samples are chosen before training starts, by all ranks.

A finished selection lies in ``CACHE/selections/FINGERPRINT``, a folder as ``headrace select``
writes it: a second start, and any other run that chooses the same from the same, finds it there.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from filelock import FileLock, Timeout

from headrace.config import RunConfig
from headrace.config.selection import WHERE
from headrace.counts import counted
from headrace.errors import Problem, StopRequested, UserError
from headrace.selection import Limits
from headrace.selection.carry_out import carry_out
from headrace.selection.job import Task, check
from headrace.selection.knee import knee_warning
from headrace.selection.ranks import ProcessGroup, Ranks
from headrace.selection.results import finished
from headrace.training.distributed import World, failing_together, gather_json
from headrace.training.order import problems_of_orders
from headrace.training.results import write_json
from headrace.training.selection_job import job_of, named_as_in_config, place_of
from headrace.training.signals import StopFlag
from headrace.training.sources import chosen_samples
from headrace.training.stages import Branch
from headrace.training.stopping import StoppableRanks, stopped_on_any_rank, stopping_alone

if TYPE_CHECKING:
    from headrace.training.data import OpenedData

logger = logging.getLogger(__name__)

FOLDER = "selections"
"""Of the cache, with a folder for each finished selection."""
NOTE = "selection.json"
"""In a run folder: the report of its selection, and the folder that this lies in."""
_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class RunSelection:
    """The selection of a run, checked."""

    folder: Path
    """Where the selection lies when it is finished."""
    fingerprint: str
    """32 hexadecimal digits: equal for selections of the same from the same."""
    limits: Limits
    task: Task | None
    """What is to be done, with the encoder; None as soon as it is finished."""
    report: Mapping[str, Any] | None
    """``selection.json``; None as long as nothing is chosen."""

    @property
    def finished_folder(self) -> str | None:
        """The same, if it is finished."""
        return None if self.report is None else str(self.folder)


def check_selection(config: RunConfig, problems: list[Problem]) -> RunSelection | None:
    """Check what can be known before any vector is made; None without the section.

    What is wrong goes to ``problems``, under its place in the config.  The encoder is loaded for
    its fingerprint.
    """
    section = config.headrace.selection
    if section is None:
        return None
    try:
        with named_as_in_config(config):
            task = check(job_of(config, section))
    except UserError as error:
        # a source that cannot be read has been met before
        problems += [problem for problem in error.problems if problem not in problems]
        return None
    folder = Path(section.cache_dir).expanduser() / FOLDER / task.fingerprint
    problems += _note_problems(config, task.fingerprint)
    report = _finished(folder, task.fingerprint)
    left = replace(task, output=folder) if report is None else None
    return RunSelection(folder, task.fingerprint, task.job.limits, left, report)


def choose_samples(
    config: RunConfig,
    branches: Sequence[Branch],
    opened: OpenedData,
    world: World,
    stop_flag: StopFlag,
) -> OpenedData:
    """The data of a run with what its section chooses; all ranks choose what is not chosen yet.

    Raises:
        UserError: with all that is wrong on any rank, raised on all of them.
        StopRequested: after a stop signal; the vectors that are made stay in the cache.
    """
    selection = opened.selection
    if selection is None or all(branch.stage.samples == "all" for branch in branches):
        return opened
    finished_for = gather_json(selection.report is not None, world)
    if not any(finished_for):
        _choose(config, selection, world, stop_flag)
    if not all(finished_for):
        with failing_together(world):
            opened = _with_chosen(config, branches, opened)
    assert opened.selection is not None
    report = opened.selection.report
    if world.is_main and report is not None:
        counts = f"{report['chosen']:,} of {counted(report['rows'], 'sample')}"
        logger.info("selection: %s, %s", counts, selection.folder)
        warning = knee_warning(report, place_of("trade_off", config))
        if warning is not None:
            logger.warning("selection: %s", warning)
    return opened


def _with_chosen(config: RunConfig, branches: Sequence[Branch], opened: OpenedData) -> OpenedData:
    """The data with a selection that has been finished since it was opened."""
    selection = opened.selection
    assert selection is not None
    report = finished(selection.folder, selection.fingerprint)
    if report is None:
        remedy = "Choose a folder that all ranks see"
        where = f"{WHERE}.cache_dir"
        raise UserError(
            Problem("the finished selection is not there", where, str(selection.folder), remedy)
        )
    selection = replace(selection, task=None, report=report)
    problems: list[Problem] = []
    chosen = chosen_samples(config, selection.finished_folder, opened.train, problems)
    if not problems:
        opened = replace(opened, selection=selection, chosen=chosen)
        problems = problems_of_orders(config, branches, opened.plan)
    if problems:
        raise UserError(problems)
    return opened


def describe_limits(limits: Limits) -> str:
    """How much is to be chosen, for people."""
    if limits.rows is not None:
        return f"{limits.rows:,}"
    if limits.fraction is not None:
        return f"{limits.fraction:.4%}".rstrip("0%").rstrip(".") + " %"
    return f"{limits.budget:,} tokens"


def write_note(config: RunConfig, opened: OpenedData) -> None:
    """Leave the report of the selection in the run folder, with the path of its folder."""
    selection = opened.selection
    if selection is not None and selection.report is not None:
        path = str(selection.folder.resolve())
        write_json(config.output / NOTE, {"folder": path, **selection.report})


def _choose(config: RunConfig, selection: RunSelection, world: World, stop_flag: StopFlag) -> None:
    """Of several runs that need one selection one makes it, and the others wait."""
    assert selection.task is not None
    folder = selection.folder
    lock = FileLock(folder.with_name(f"{folder.name}.lock"))
    marker = folder.with_name(f".{gather_json(uuid4().hex, world)[0]}.stop")
    ranks = Ranks() if world.size == 1 else ProcessGroup(world.device)
    try:
        with failing_together(world):
            if world.is_main:
                folder.parent.mkdir(parents=True, exist_ok=True)
        _wait_for(lock, world, stop_flag)
        with failing_together(world):
            if world.is_main:
                _remove_damaged(selection)
        # what a solver refuses is met by all ranks alike: they raise it as one
        with failing_together(world), named_as_in_config(config):
            carry_out(
                selection.task,
                world,
                ranks=StoppableRanks(ranks, stop_flag),
                while_embedding=lambda: stopping_alone(stop_flag, marker, world),
            )
    except UserError:
        if stopped_on_any_rank(stop_flag, world):
            raise _stopped() from None
        raise
    finally:
        if world.is_main:
            marker.unlink(missing_ok=True)
            lock.release()


def _wait_for(lock: FileLock, world: World, stop_flag: StopFlag) -> None:
    """Take the lock on the main rank; the ranks meet while they wait, so that none times out."""
    told = False
    while True:
        if stopped_on_any_rank(stop_flag, world):
            raise _stopped()
        with failing_together(world):
            if world.is_main:
                with suppress(Timeout):
                    lock.acquire(blocking=False)
        if gather_json(lock.is_locked, world)[0]:
            return
        if world.is_main and not told:
            logger.info("another run makes the selection: waiting for %s", lock.lock_file)
            told = True
        time.sleep(_POLL_SECONDS)


def _stopped() -> StopRequested:
    return StopRequested(
        "stopped by a signal while samples were chosen, start the same command again to go on"
    )


def _finished(folder: Path, fingerprint: str) -> Mapping[str, Any] | None:
    """The report of a sound selection in the cache."""
    try:
        return finished(folder, fingerprint)
    except UserError:
        return None  # made again under the lock, with a warning


def _remove_damaged(selection: RunSelection) -> None:
    try:
        finished(selection.folder, selection.fingerprint)
    except UserError as error:
        logger.warning("chosen again: %s", error)
        shutil.rmtree(selection.folder)


def _note_problems(config: RunConfig, fingerprint: str) -> list[Problem]:
    """Whether the run was started with another selection, of other data or by another encoder."""
    path = config.output / NOTE
    try:
        before = json.loads(path.read_text(encoding="utf-8"))["fingerprint"]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        before = repr(error)
    if before == fingerprint:
        return []
    return [
        Problem(
            "the run was started with another selection",
            str(path),
            f"{before}, now {fingerprint}",
            "Choose another headrace.output, or remove the run folder",
        )
    ]
