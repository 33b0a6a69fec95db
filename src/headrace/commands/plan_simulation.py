"""``headrace plan --simulate``: failures of a job, and the best interval between checkpoints."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from headrace.commands import plan_memory
from headrace.errors import ConfigError, Problem
from headrace.planning.assumptions import (
    DETECT_SECONDS,
    DRAWS,
    NODE_BANDWIDTH,
    NODE_MTBF_HOURS,
    REQUEUE_SECONDS,
    SEED,
    START_SECONDS,
    STORAGE_BANDWIDTH,
    WORK_HOURS,
)
from headrace.planning.checkpoint_size import (
    Storage,
    copy_seconds,
    load_seconds,
    write_seconds,
)
from headrace.slurm.directives import SIGNAL_SECONDS, minutes_of

if TYPE_CHECKING:
    from headrace.commands.plan_memory import OpenedPlan
    from headrace.config import RunConfig
    from headrace.config.checkpoint import CheckpointConfig
    from headrace.planning.checkpoint_size import CheckpointSize
    from headrace.planning.failures import Job
    from headrace.planning.goodput_report import Simulated
    from headrace.training.stages import Branch

_ONLY_SIMULATION = (
    "mtbf", "detect", "requeue", "start", "load", "time_limit", "save", "copy", "step", "work",
    "node_bandwidth", "storage_bandwidth", "interval", "draws", "seed", "goodput_plot",
)  # fmt: skip
_NOT_NEGATIVE = frozenset({"detect", "requeue", "start", "load", "seed"})
_HOUR = 3600


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    group = parser.add_argument_group("failures of the job, and the interval between checkpoints")
    group.add_argument(
        "--simulate",
        action="store_true",
        help="draw failures at random and show the goodput: the share of the time that is training",
    )

    def add(name: str, help: str, metavar: str = "SECONDS", type: Any = float) -> None:
        group.add_argument(name, metavar=metavar, type=type, help=help)

    hours = "HOURS"
    add("--mtbf", f"mean time between failures of a node (default: {NODE_MTBF_HOURS:g})", hours)
    add("--detect", f"until a failure has ended the job (default: {DETECT_SECONDS:g})")
    add("--requeue", f"until it is started again (default: {REQUEUE_SECONDS:g})")
    add("--start", f"until training goes on, without loading (default: {START_SECONDS:g})")
    add("--load", "of loading a checkpoint (default: from its size, without a config --save)")
    add("--time-limit", "of a job, as SLURM writes it: 20:00:00 (default: none)", "TIME", str)
    add("--save", "of writing a checkpoint (default: from its size)")
    add("--copy", "of copying it, where it is saved asynchronously (default: from its size)")
    add("--step", "of an optimizer step (default: as --memory plans it)")
    add("--work", f"of training in all (default: the run, without a config {WORK_HOURS:g})", hours)
    node, shared = NODE_BANDWIDTH / 1e9, STORAGE_BANDWIDTH / 1e9
    add("--node-bandwidth", f"at which a node writes and reads (default: {node:g})", "GB/S")
    add("--storage-bandwidth", f"of the whole file system (default: {shared:g})", "GB/S")
    group.add_argument(
        "--interval",
        action="append",
        metavar="SECONDS",
        type=float,
        help="training between checkpoints to look at besides (repeatable)",
    )
    add("--draws", f"lives of the job for each interval (default: {DRAWS})", "N", int)
    add("--seed", f"of the draws (default: {SEED})", "N", int)
    add("--goodput-plot", "draw goodput over the interval: FILE.svg", "FILE", str)


def option_problems(arguments: argparse.Namespace) -> list[Problem]:
    """Find what is wrong with the options, as far as that does not depend on the config."""
    problems = []
    for name in _ONLY_SIMULATION:
        value = getattr(arguments, name)
        option = "--" + name.replace("_", "-")
        if value is None:
            continue
        if not arguments.simulate:
            what, remedy = "it would have no effect", "Give --simulate as well, or leave it out"
            problems.append(Problem(what, option, str(value), remedy))
            continue
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, str):
                continue
            if not (each >= 0 if name in _NOT_NEGATIVE else each > 0) or each == float("inf"):
                more = "0 or more" if name in _NOT_NEGATIVE else "a positive number"
                problems.append(Problem(f"{more} is needed", option, str(each)))
    if arguments.simulate:
        problems += _text_problems(arguments)
        gpus = arguments.gpu or []
        if arguments.config is None and arguments.save is None:
            what, remedy = "without a config it is not known", "Give --save, or a run config"
            problems.append(Problem(what, "--save", remedy=remedy))
        elif arguments.config is not None and len(gpus) != 1 and not _says_all(arguments):
            what = "the time of a step is that of one kind of GPU"
            remedy = "Give one, such as --gpu A100-80; or all of --step, --save and --work"
            problems.append(Problem(what, "--gpu", ", ".join(gpus) or None, remedy))
    return problems


def _text_problems(arguments: argparse.Namespace) -> list[Problem]:
    from headrace.shards import storage

    problems = []
    if arguments.time_limit is not None:
        try:
            minutes_of(arguments.time_limit)
        except ValueError as error:
            remedy = "Write it as SLURM does: 20:00:00, or 2-12:00"
            problems.append(Problem(str(error), "--time-limit", arguments.time_limit, remedy))
    file = arguments.goodput_plot
    if file is not None:
        problems += storage.output_file_problems(file, "--goodput-plot")
        if not problems and not file.lower().endswith(".svg"):
            what, remedy = "no format to draw in", "Name a file with .svg"
            problems.append(Problem(what, "--goodput-plot", file, remedy))
    return problems


def simulate_failures(arguments: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Simulate a job that is described by the options alone; see :func:`simulate_run`."""
    nodes = sorted(set(arguments.nodes or [1]))
    return _said(arguments, [_simulated(arguments, _Known(each)) for each in nodes])


def simulate_run(
    arguments: argparse.Namespace, config: RunConfig, branches: list[Branch], *, samples: int
) -> tuple[str, dict[str, Any]]:
    """Simulate the job of a run config, and return the text and a JSON-able object.

    Args:
        arguments: the options; they go before what the config says.
        config: checked run config.
        branches: what is planned.
        samples: of all branches together, repeats included.

    Raises:
        UserError: with everything that a start would refuse, and what is wrong with the options.
    """
    nodes = sorted(set(arguments.nodes or [1]))
    if _says_all(arguments):
        known = [_Known(each, settings=config.headrace.checkpoint) for each in nodes]
    else:
        planned = plan_memory.open_plan(arguments, config, branches, samples=samples)
        settings = config.headrace.checkpoint
        known = [_of_plan(arguments, planned, each, settings) for each in nodes]
    return _said(arguments, [_simulated(arguments, each) for each in known])


def _says_all(arguments: argparse.Namespace) -> bool:
    """Whether the options leave nothing to be planned with the network."""
    return None not in {arguments.step, arguments.save, arguments.work}


@dataclass(frozen=True)
class _Known:
    """What is known of a job beside the options."""

    nodes: int
    size: CheckpointSize | None = None
    step: float | None = None
    """Seconds."""
    work: float | None = None
    """Seconds."""
    settings: CheckpointConfig | None = None


def _of_plan(
    arguments: argparse.Namespace, planned: OpenedPlan, nodes: int, settings: CheckpointConfig
) -> _Known:
    """The time of a step and the size of a checkpoint as the memory plan has them."""
    from headrace.planning.checkpoint_size import checkpoint_size
    from headrace.planning.speed import speed_of

    plan = planned.plan
    (gpu,), (precision,) = planned.gpus, planned.precisions
    case = plan.as_configured(precision, nodes=nodes, length=plan.lengths[-1])
    size = checkpoint_size(plan.network.sizes, case.setup)
    step = arguments.step
    if step is None:
        speed = speed_of(
            planned.work,
            gpu,
            case.setup,
            plan.network.sizes,
            utilisation=planned.utilisation(precision),
            nodes=nodes,
            checkpointing=case.checkpointing,
        )
        if speed is None:
            what = "the operations of this kind of network are not known"
            raise ConfigError(Problem(what, "--step", remedy="Give it, from a run"))
        step = speed.hours * _HOUR / planned.work.steps
    return _Known(nodes, size, step, planned.work.steps * step, settings)


def _simulated(arguments: argparse.Namespace, known: _Known) -> Simulated:
    """Put options, config and defaults together, and simulate both ways of saving."""
    from headrace.planning.failures import Job, Saving
    from headrace.planning.goodput_report import Simulated
    from headrace.planning.interval_study import study_intervals

    size, storage = known.size, _storage(arguments)
    save, copy, load = arguments.save, arguments.copy, arguments.load
    if size is not None:
        save = write_seconds(size, known.nodes, storage) if save is None else save
        copy = copy_seconds(size, storage) if copy is None else copy
        load = load_seconds(size, known.nodes, storage) if load is None else load
    load = save if load is None else load
    step = arguments.step or known.step
    work = known.work if arguments.work is None else arguments.work * _HOUR
    node_mtbf = _given(arguments.mtbf, NODE_MTBF_HOURS) * _HOUR
    limit = None if arguments.time_limit is None else 60 * minutes_of(arguments.time_limit)
    start = _given(arguments.start, START_SECONDS)
    job = Job(
        work=WORK_HOURS * _HOUR if work is None else work,
        mtbf=node_mtbf / known.nodes,
        detect=_given(arguments.detect, DETECT_SECONDS),
        requeue=_given(arguments.requeue, REQUEUE_SECONDS),
        start=start + load,
        signal_at=None if limit is None else limit - SIGNAL_SECONDS,
    )
    ways = {"synchronous": Saving(save)}
    if copy is not None:
        ways["asynchronous"] = Saving(copy, save)
    if limit is not None:
        _check_limit(arguments.time_limit, job, max(way.whole for way in ways.values()))
    studies = {
        name: study_intervals(
            job,
            saving,
            draws=_given(arguments.draws, DRAWS),
            seed=_given(arguments.seed, SEED),
            step=step,
            configured=_configured(known.settings, step),
            asked=arguments.interval or (),
        )
        for name, saving in ways.items()
    }
    chosen = "synchronous"
    if known.settings is not None and known.settings.asynchronous and copy is not None:
        chosen = "asynchronous"
    return Simulated(known.nodes, node_mtbf, job, limit, load, size, studies, chosen)


def _given(value: Any, default: Any) -> Any:
    return default if value is None else value


def _storage(arguments: argparse.Namespace) -> Storage:
    """The bandwidths, from GB/s."""
    storage = Storage()
    if arguments.node_bandwidth is not None:
        storage = replace(storage, node=arguments.node_bandwidth * 1e9)
    if arguments.storage_bandwidth is not None:
        storage = replace(storage, shared=arguments.storage_bandwidth * 1e9)
    return storage


def _configured(settings: CheckpointConfig | None, step: float | None) -> float | None:
    """Seconds of training between the checkpoints of a config."""
    if settings is None or step is None:
        return None
    return min(settings.every_steps * step, settings.every_seconds or float("inf"))


def _check_limit(limit: str, job: Job, saving: float) -> None:
    """Refuse time limits with which the job would never get anywhere, or not save in time."""
    problems = []
    if job.signal_at is not None and job.signal_at <= job.start:
        what = f"a start takes {job.start:,.0f} s, and the signal to save comes before"
        problems.append(Problem(what, "--time-limit", limit, "Raise it"))
    if saving > SIGNAL_SECONDS:
        what = f"a checkpoint takes {saving:,.0f} s, and the signal comes {SIGNAL_SECONDS} s before"
        remedy = "Have the signal sent earlier (headrace submit --sbatch=--signal=B:USR1@900)"
        problems.append(Problem(what, "--time-limit", limit, remedy))
    if problems:
        raise ConfigError(problems)


def _said(arguments: argparse.Namespace, found: list[Simulated]) -> tuple[str, dict[str, Any]]:
    """Return text and JSON-able object, and draw the figure."""
    from headrace.planning import goodput_report
    from headrace.shards import storage

    if arguments.goodput_plot is not None:
        from headrace.report.goodput_plot import draw

        storage.write_atomically(arguments.goodput_plot, draw(found))
    draws, seed = _given(arguments.draws, DRAWS), _given(arguments.seed, SEED)
    text = "\n\n".join(
        [*map(goodput_report.text, found), goodput_report.assumptions_text(draws, seed)]
    )
    document = {
        "draws": draws,
        "seed": seed,
        "jobs": [goodput_report.document(each) for each in found],
    }
    return text, document
