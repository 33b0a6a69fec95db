"""An experiment about forgetting: every method on every sequence with every seed.

Values of tuned methods are chosen first, on sequences of their own and on validation data; every
tuned method has the same number of runs for it.  Everything lies in one folder, and what is
finished is a file there: the same command goes on after a kill, and several processes that run it
share the work, a sequence with a seed each.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from headrace.errors import Problem, StopRequested, UserError
from headrace.forgetting.experiment_file import ExperimentFile
from headrace.forgetting.matrix import Matrix
from headrace.forgetting.sequence import (
    Group,
    SequencePlan,
    carry_out,
    drop_weights,
    read_manifests,
    score_start,
)
from headrace.forgetting.shared_stages import SharedStages
from headrace.forgetting.trials import Cell, Setup, Trial, named
from headrace.report import numbers
from headrace.shards.reader import ShardReader
from headrace.training.distributed import failing_together, gather_json
from headrace.training.results import write_json
from headrace.training.run import check_run
from headrace.training.stages import expand_stages

START_FILE = "start.json"
_SHARED = ".shared"
_LOCK = ".cell.lock"
CHOSEN_FILE = "chosen.json"

Chosen = dict[str, dict[str, Any]]
"""Chosen values by method."""


def set_up(experiment: ExperimentFile, base: Mapping[str, Any], output: Path) -> Setup:
    """Open the data of an experiment.

    Raises:
        UserError: with the problems of all sources.
    """
    tasks = {name: section.data() for name, section in experiment.tasks.items()}
    manifests = read_manifests(tasks.values())
    return Setup(experiment, base, tasks, manifests, output)


def check(setup: Setup, ranks: int) -> None:
    """Make every check of every run before the first one starts.

    Raises:
        UserError: with the problems of all configs; of data, model and groups, if these are in
            order.
    """
    experiment = setup.experiment
    first = {name: section.candidates()[0] for name, section in experiment.methods.items()}
    trials: list[Trial] = []
    for name, section in experiment.methods.items():
        for cell in setup.tuning_cells():
            if section.is_tuned and cell.seed == setup.tuning_cells()[0].seed:
                trials += setup.candidates(cell, name, first)
        seed = experiment.seeds[0]
        trials += [setup.trial(c, name, first) for c in setup.compared_cells() if c.seed == seed]
    problems: dict[Problem, None] = {}
    plans: list[tuple[Trial, SequencePlan]] = []
    with tempfile.TemporaryDirectory() as folder:
        for number, trial in enumerate(trials):
            try:
                plans.append((trial, setup.plan(trial, Path(folder) / str(number))))
            except UserError as error:
                problems |= dict.fromkeys(error.problems)
        if not problems:
            for trial, plan in _telling(plans):
                try:
                    opened, _ = check_run(plan.config, expand_stages(plan.config), ranks)
                    scored = {task: plan.tasks[task].of(trial.cell.splits) for task in plan.order}
                    readers = {task: ShardReader(url) for task, url in scored.items()}
                    found = opened.task.problems_of(readers)
                    if found:
                        raise UserError(found)
                except UserError as error:
                    problems |= dict.fromkeys(named(error, trial).problems)
    if problems:
        raise UserError(list(problems))


def _telling(plans: Sequence[tuple[Trial, SequencePlan]]) -> Iterator[tuple[Trial, SequencePlan]]:
    """Every method once, and every sequence once: opening data and model takes a while."""
    methods, sequences = set(), set()
    for trial, plan in plans:
        if trial.method not in methods or trial.cell.sequence not in sequences:
            methods.add(trial.method)
            sequences.add(trial.cell.sequence)
            yield trial, plan


class Experiment:
    """Runs what is not finished."""

    def __init__(self, setup: Setup, group: Group, say: Callable[[str], None]) -> None:
        """``say`` shows a line to the user; it is called on the main rank alone."""
        self.setup = setup
        self.group = group
        self.say = say
        self.progress = Progress(setup)

    def run(self) -> Chosen:
        """Choose values, then compare the methods.

        Returns:
            The chosen values, which are in ``chosen.json`` too.

        Raises:
            UserError: with what is wrong with the data.
            StopRequested: after a stop signal; the same command goes on.
        """
        setup, chosen = self.setup, Chosen()
        for wave in waves(setup.experiment):
            self._all(setup.tuning_cells(), wave, chosen, setup.candidates)
            for method in wave:
                chosen[method] = choose(setup, method, chosen) or {}
        if chosen and self.group.world.is_main:
            write_json(setup.output / CHOSEN_FILE, chosen)
        methods = list(setup.experiment.in_order())

        def only(cell: Cell, method: str, values: Mapping[str, Mapping[str, Any]]) -> list[Trial]:
            return [setup.trial(cell, method, values)]

        self._all(setup.compared_cells(), methods, chosen, only)
        return chosen

    def _all(
        self,
        cells: Sequence[Cell],
        methods: Sequence[str],
        chosen: Chosen,
        trials_of: Callable[[Cell, str, Chosen], list[Trial]],
    ) -> None:
        # then wait for what others have in hand: one that is killed leaves its cell to this one
        for wait in (False, True):
            for cell in cells:
                trials = [trial for method in methods for trial in trials_of(cell, method, chosen)]
                if not self._agreed(partial(self._left, trials)):
                    continue
                with self._only_here(cell, wait) as is_mine:
                    if is_mine:
                        self._one(cell, trials)

    def _one(self, cell: Cell, trials: Sequence[Trial]) -> None:
        """Train the trials of a cell that are not finished."""
        main = self.group.world.is_main
        shared = SharedStages(cell.folder / _SHARED)
        # by place, so that all ranks train the same ones whatever they see of the folder
        left = self._agreed(partial(self._left, trials))
        plans = [self.setup.plan(trial) for trial in trials]
        shared.expect(plans[place].config for place in left)
        for place, plan in enumerate(plans):
            if place not in left:
                drop_weights(plan)
        if cell.splits == "test" and left:
            self._start(cell, plans[left[0]])
        for place in left:
            if any(gather_json(self.group.stop_flag.received is not None, self.group.world)):
                raise StopRequested("stopped by a signal, start the same command again to go on")
            started = time.perf_counter()
            if main:
                self.say(f"{cell.sequence}, seed {cell.seed}: {describe(trials[place])}")
            matrix = carry_out(
                plans[place], cell.splits, self.group, shared=shared, keep_weights=False
            )
            if main:
                self.say(self.progress.line(matrix, time.perf_counter() - started))
        if main:
            shared.clear()

    def _left(self, trials: Sequence[Trial]) -> list[int]:
        """Places of the trials without a matrix."""
        return [
            place
            for place, trial in enumerate(trials)
            if self.setup.plan(trial).matrix(trial.cell.splits) is None
        ]

    def _start(self, cell: Cell, plan: SequencePlan) -> None:
        path = cell.folder / START_FILE
        with failing_together(self.group.world):
            if self.group.world.is_main and not path.exists():
                write_json(path, dict(zip(plan.order, score_start(plan, cell.splits), strict=True)))

    def _agreed(self, ask: Callable[[], Any]) -> Any:
        """The answer of the main rank, on all ranks."""
        answer = None
        with failing_together(self.group.world):
            if self.group.world.is_main:
                answer = ask()
        return gather_json(answer, self.group.world)[0]

    @contextmanager
    def _only_here(self, cell: Cell, wait: bool) -> Iterator[bool]:
        """Whether this process has the cell: a lock, which a killed process does not hold."""
        lock = FileLock(cell.folder / _LOCK)

        def acquire() -> bool:
            cell.folder.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(blocking=wait)
            except Timeout:
                return False
            return True

        try:
            yield bool(self._agreed(acquire))
        finally:
            lock.release()


def waves(experiment: ExperimentFile) -> list[list[str]]:
    """The tuned methods: those of a wave are like none, or like ones of the waves before it."""
    depths: dict[str, int] = {}
    for name in experiment.in_order():
        method = experiment.methods[name]
        before = 0 if method.like is None else depths[method.like]
        depths[name] = before + method.is_tuned
    found: dict[int, list[str]] = {}
    for name, depth in depths.items():
        if experiment.methods[name].is_tuned:
            found.setdefault(depth, []).append(name)
    return [found[depth] for depth in sorted(found)]


def chosen_values(setup: Setup) -> Chosen:
    """The chosen values of all methods whose runs for it are finished."""
    chosen = Chosen()
    for wave in waves(setup.experiment):
        for method in wave:
            if is_decided(setup.experiment, setup.experiment.methods[method].like, chosen):
                values = choose(setup, method, chosen)
                chosen |= {} if values is None else {method: values}
    return chosen


def is_decided(experiment: ExperimentFile, method: str | None, chosen: Chosen) -> bool:
    """Whether all settings of a method are known; None is no method."""
    while method is not None:
        section = experiment.methods[method]
        if section.is_tuned and method not in chosen:
            return False
        method = section.like
    return True


def choose(setup: Setup, method: str, chosen: Chosen) -> dict[str, Any] | None:
    """The values of a method with the greatest mean of p_s + p_o on validation data.

    Args:
        setup: the experiment.
        method: a tuned method.
        chosen: values of the methods that it is like.

    Returns:
        The values; None if not all of them have been tried.
    """
    tried = tried_values(setup, method, chosen)
    if any(mean is None for _, mean in tried):
        return None
    return dict(max(tried, key=lambda entry: entry[1] or 0.0)[0])


def tried_values(
    setup: Setup, method: str, chosen: Chosen
) -> list[tuple[Mapping[str, Any], float | None]]:
    """Each set of values with the mean of p_s + p_o on validation data; None: not finished."""
    found: list[tuple[Mapping[str, Any], float | None]] = []
    by_cell = [setup.candidates(cell, method, chosen) for cell in setup.tuning_cells()]
    for same in zip(*by_cell, strict=True):
        matrices = [setup.plan(trial).matrix(trial.cell.splits) for trial in same]
        sums = [matrix.measure("p") or 0.0 for matrix in matrices if matrix is not None]
        whole = len(sums) == len(same)
        found.append((same[0].values, sum(sums) / len(sums) if whole else None))
    return found


def describe(trial: Trial) -> str:
    """``ewc (weight 1000)``: the method and the values that are tried."""
    values = ", ".join(
        f"{key.rsplit('.', 1)[-1]} {json.dumps(value)}" for key, value in trial.values.items()
    )
    return f"{trial.method} ({values})" if values else trial.method


class Progress:
    """How much is done, and how long the rest will take at the pace since the start."""

    def __init__(self, setup: Setup) -> None:
        experiment = setup.experiment
        tried = sum(
            len(section.candidates()) for section in experiment.methods.values() if section.is_tuned
        )
        self.total = tried * len(setup.tuning_cells())
        self.total += len(experiment.methods) * len(setup.compared_cells())
        self._output = setup.output
        self._started = time.monotonic()
        self._before = self.done

    @property
    def done(self) -> int:
        """Runs that are finished, by this process or by others."""
        return sum(1 for _ in self._output.glob("*/*/*/matrix.json"))

    def line(self, matrix: Matrix, seconds: float) -> str:
        """What came out of a run, and the time that is left."""
        done = min(self.done, self.total)
        pace = (time.monotonic() - self._started) / max(1, done - self._before)
        scores = ", ".join(
            f"{name} {numbers.percent(matrix.measure(name), 1)}" for name in ("p_o", "p_s")
        )
        left = numbers.duration(pace * (self.total - done))
        return f"  {scores} in {seconds:.0f} s; {done} of {self.total} runs, about {left} left"
