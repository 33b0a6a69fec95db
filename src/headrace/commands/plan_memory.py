"""``headrace plan --memory``: what fits where, how long it takes, and what it costs."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from headrace.commands.options import named_as_options
from headrace.errors import ConfigError, Problem, UserError

if TYPE_CHECKING:
    from headrace.config import RunConfig
    from headrace.planning.advice import Plan
    from headrace.planning.devices import Gpu
    from headrace.planning.network import PlannedNetwork
    from headrace.planning.report import Section
    from headrace.planning.setup import PrecisionName
    from headrace.planning.speed import Calibration, Work
    from headrace.training.stages import Branch

_ONLY_MEMORY = (
    "nodes", "gpus_per_node", "gpu", "length", "micro_batch", "mean_tokens", "calibrate",
    "price_per_gpu_hour",
)  # fmt: skip
_ALSO_SIMULATION = ("nodes", "gpus_per_node", "gpu", "length", "mean_tokens", "calibrate")
"""Those that --simulate uses as well."""
_MOST_ROWS = 256
"""Largest micro-batch that is looked at unless it is asked for."""
DEFAULT_GPUS_PER_NODE = 4


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    group = parser.add_argument_group("memory, speed and cost (needs the network, takes longer)")
    group.add_argument(
        "--memory",
        action="store_true",
        help="show which precision, ZeRO stage and micro-batch fit on which GPU, and what to take",
    )

    def add(name: str, help: str, metavar: str = "N", type: type = int, many: bool = False) -> None:
        action = "append" if many else "store"
        group.add_argument(name, action=action, metavar=metavar, type=type, help=help)

    add("--nodes", "nodes (repeatable; default: 1)", many=True)
    add("--gpus-per-node", f"GPUs, and ranks, of a node (default: {DEFAULT_GPUS_PER_NODE})")
    add("--gpu", "such as A100-80 (repeatable; default: all known)", "NAME", str, many=True)
    add("--length", "tokens of a row (repeatable; default: as in the config)", many=True)
    add("--micro-batch", "rows (repeatable; default: powers of two)", many=True)
    add(
        "--mean-tokens",
        "tokens of a sample on average, for the time (default: --length)",
        type=float,
    )
    add("--calibrate", "take utilisation and mean tokens from the metrics of a run", "RUN", str)
    add("--price-per-gpu-hour", "show what the run costs", "PRICE", float)


def option_problems(arguments: argparse.Namespace) -> list[Problem]:
    """Find what is wrong with the options, as far as that does not depend on the config."""
    problems = []
    for name in _ONLY_MEMORY:
        value = getattr(arguments, name)
        option = "--" + name.replace("_", "-")
        if value is None:
            continue
        if not arguments.memory and not (arguments.simulate and name in _ALSO_SIMULATION):
            what, remedy = "it would have no effect", "Give --memory as well, or leave it out"
            problems.append(Problem(what, option, str(value), remedy))
            continue
        values = value if isinstance(value, list) else [value]
        problems += [
            Problem("a positive number is needed", option, str(each))
            for each in values
            if not isinstance(each, str) and not 0 < each < float("inf")
        ]
    if arguments.gpu and (arguments.memory or arguments.simulate):
        from headrace.config.messages import did_you_mean
        from headrace.planning.devices import GPUS

        known = [gpu.name for gpu in GPUS]
        problems += [
            Problem("no such GPU is known", "--gpu", name, did_you_mean(name, known))
            for name in arguments.gpu
            if name not in known
        ]
    return problems


@dataclass(frozen=True)
class OpenedPlan:
    """The network of a run config, and what its memory and speed are planned for."""

    plan: Plan
    gpus: Sequence[Gpu]
    precisions: Sequence[PrecisionName]
    """To be advised on each GPU."""
    work: Work
    calibration: Calibration | None

    def utilisation(self, precision: PrecisionName) -> float:
        """Share of a GPU's peak that is reached."""
        from headrace.planning.speed import ASSUMED_UTILISATION

        measured = None if self.calibration is None else self.calibration.utilisation
        return measured or ASSUMED_UTILISATION[precision]


def open_plan(
    arguments: argparse.Namespace, config: RunConfig, branches: list[Branch], *, samples: int
) -> OpenedPlan:
    """Open the network without memory for its weights; see :func:`plan_memory`."""
    from headrace.planning.speed import read_calibration

    calibration = None if arguments.calibrate is None else read_calibration(arguments.calibrate)
    plan = _plan(arguments, config, branches)
    gpus = _gpus(arguments)
    work = _work(arguments, plan, calibration, samples)
    return OpenedPlan(plan, gpus, _precisions(config, gpus), work, calibration)


def plan_memory(
    arguments: argparse.Namespace, config: RunConfig, branches: list[Branch], *, samples: int
) -> tuple[str, dict[str, Any]]:
    """Return the plan as text and as a JSON-able object.

    Args:
        arguments: the options.
        config: checked run config.
        branches: what is planned.
        samples: of all branches together, repeats included.

    Raises:
        UserError: with everything that a start would refuse, and what is wrong with the options.
    """
    from headrace.planning import report
    from headrace.planning.advice import advise

    opened = open_plan(arguments, config, branches, samples=samples)
    plan, gpus, work, calibration = opened.plan, opened.gpus, opened.work, opened.calibration
    network, wanted = plan.network, opened.precisions
    sections: list[Section] = []
    for nodes in plan.nodes:
        for length in plan.lengths:
            advice = [
                advise(
                    plan,
                    gpu,
                    precision,
                    nodes=nodes,
                    length=length,
                    work=work,
                    utilisation=opened.utilisation(precision),
                    price=arguments.price_per_gpu_hour,
                )
                for gpu, precision in zip(gpus, wanted, strict=True)
            ]
            cases = list(plan.table(("fp32", "bf16"), nodes=nodes, length=length))
            ranks = nodes * plan.gpus_per_node
            sections.append(report.Section(nodes, ranks, length, cases, advice))
    own = plan.as_configured(wanted[0], nodes=plan.nodes[0], length=plan.lengths[-1])
    said = None if calibration is None else _calibrated(calibration, arguments.calibrate)
    texts = [report.network_text(network, work, plan.lengths)]
    texts.append(report.memory_text(own))
    texts += [report.section_text(section, gpus) for section in sections]
    texts.append(report.assumptions_text(said))
    document = {
        "parameters": network.sizes.all,
        "trained": network.sizes.trained,
        "samples": work.samples,
        "steps": work.steps,
        "tokens_per_sample": work.tokens_per_sample,
        "flops_per_sample": work.flops_per_sample,
        "configured": report.case_document(own, gpus),
        "cases": [
            report.case_document(case, gpus) for section in sections for case in section.cases
        ],
        "recommended": [
            {"nodes": section.nodes, "length": section.length, **report.advice_document(each)}
            for section in sections
            for each in section.advice
        ],
    }
    return "\n\n".join(texts), document


def _plan(arguments: argparse.Namespace, config: RunConfig, branches: list[Branch]) -> Plan:
    from headrace.planning.advice import Plan
    from headrace.planning.network import PlannedNetwork
    from headrace.planning.setup import setup_of
    from headrace.training.data import open_data
    from headrace.training.model import empty_model

    nodes = sorted(set(arguments.nodes or [1]))
    per_node = arguments.gpus_per_node or DEFAULT_GPUS_PER_NODE
    where, batch = "train_batch_size", int(config.deepspeed["train_batch_size"])
    tokens = config.headrace.batching.tokens_per_batch
    if tokens is not None:  # rows of the longest samples, as many as come out even
        where, even = "headrace.batching.tokens_per_batch", math.lcm(*nodes) * per_node
        rows = tokens // max(arguments.length or [config.headrace.task.max_length])
        batch = rows // even * even or rows
    problems = [
        Problem(
            f"it does not come out even for {count * per_node} ranks",
            where,
            str(batch if tokens is None else tokens),
            "Choose other --nodes and --gpus-per-node, or a multiple of the ranks",
        )
        for count in nodes
        if batch % (count * per_node)
    ]
    try:
        opened = open_data(config)
    except UserError as error:
        raise ConfigError([*problems, *error.problems]) from None
    if problems:
        raise ConfigError(problems)
    model = config.headrace.model
    if model.attention not in {None, "eager"}:
        # what keeps no scores keeps the same: no kernel of a GPU has to be here
        model = model.model_copy(update={"attention": "sdpa"})
    network = empty_model(model, opened.task, opened.tokenizer)
    planned = PlannedNetwork.of_config(config, branches, network, opened.task)
    lengths = sorted(set(arguments.length or [planned.longest]))
    if config.headrace.batching.type != "packed":
        with named_as_options(["length"]):
            _check_lengths(lengths, network.config)
    share = max(batch // (count * per_node) for count in nodes)
    micro = arguments.micro_batch or [
        1 << power for power in range(min(share, _MOST_ROWS).bit_length())
    ]
    accumulation = int(config.deepspeed.get("gradient_accumulation_steps") or 1)
    base = setup_of(
        config.deepspeed, kind="cuda", precision="fp32", ranks=1, accumulation=accumulation
    )
    configured = config.deepspeed.get("train_micro_batch_size_per_gpu")
    return Plan(planned, base, batch, nodes, per_node, lengths, sorted(set(micro)), configured)


def _check_lengths(lengths: Sequence[int], settings: Any) -> None:
    from headrace.training.model import check_length

    try:
        check_length(max(lengths), settings)
    except UserError as error:
        raise error.renamed(lambda problem: replace(problem, where="length")) from None


def _gpus(arguments: argparse.Namespace) -> list[Gpu]:
    from headrace.planning.devices import GPUS

    return [gpu for gpu in GPUS if not arguments.gpu or gpu.name in arguments.gpu]


def _precisions(config: RunConfig, gpus: Sequence[Gpu]) -> list[PrecisionName]:
    """The precision that a run would be advised to take on each GPU."""
    from headrace.training.precision import precision_of_config

    named = precision_of_config(config.deepspeed)
    if config.headrace.precision != "auto" and named in {"fp32", "fp16"}:
        return ["fp32" if named == "fp32" else "fp16" for _ in gpus]
    return [gpu.narrow for gpu in gpus]


def _work(
    arguments: argparse.Namespace,
    plan: Plan,
    calibration: Calibration | None,
    samples: int,
) -> Work:
    from headrace.planning.speed import Work

    tokens = arguments.mean_tokens or float(max(plan.lengths))
    if calibration is not None and arguments.mean_tokens is None:
        tokens = calibration.tokens_per_sample
    steps = -(-samples // plan.batch_size)
    return Work(plan.network.flops, samples, steps, tokens, _labels(plan.network, tokens))


def _labels(network: PlannedNetwork, tokens: float) -> float:
    """Labels of a sample: one, or as many as the task has of so many tokens."""
    task = network.task
    if task.idle(0)["labels"].dim() < 2:
        return 1.0
    return tokens * float(getattr(task, "masked_share", 1.0))


def _calibrated(calibration: Calibration, run: str) -> str:
    speed = f"{calibration.tokens_per_second:,.0f} tokens/s a rank in {calibration.precision}"
    if calibration.utilisation is None:
        rate = calibration.flops_per_second
        done = "" if rate is None else f", {rate / 1e12:.3g} TFLOP/s"
        return (
            f"assumed: {run} has no mfu, since the peak of its device is not known ({speed}{done}; "
            "set headrace.logging.peak_flops)"
        )
    return (
        f"{calibration.utilisation:.1%}, the median of {calibration.steps} logged steps of {run} "
        f"({speed})"
    )
