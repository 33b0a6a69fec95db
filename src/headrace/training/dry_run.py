"""``--dry-run``: everything that can be checked and shown without training."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from headrace.config import RunConfig
from headrace.config.checks import batch_arithmetic
from headrace.counts import counted
from headrace.errors import ConfigError, Problem, UserError
from headrace.planning.activations import DeviceKind
from headrace.planning.memory import memory_of_rank
from headrace.planning.network import PlannedNetwork
from headrace.planning.setup import setup_of
from headrace.stream.batching import BatchPlan
from headrace.stream.plan import StagePlan
from headrace.training.anchors import describe_penalty
from headrace.training.branch_run import total_steps
from headrace.training.data import OpenedData
from headrace.training.distributed import environment_world_size
from headrace.training.param_groups import ParameterGroups, groups_of_branch
from headrace.training.precision import Precision, choose_precision
from headrace.training.run import check_run
from headrace.training.selection import describe_limits
from headrace.training.stages import Branch, choose_branches, expand_stages

_GIBIBYTE = 1 << 30


def show_plan(
    config: RunConfig,
    *,
    ranks: int | None = None,
    stage: str | None = None,
    branch: str | None = None,
) -> None:
    """Check a run config against its data, tokenizer and model, and print what it would do.

    Args:
        config: checked run config.
        ranks: number of ranks to plan for; default: as many as were started.
        stage: plan only this stage.
        branch: plan only this branch.

    Raises:
        UserError: for everything that a real start would refuse.
    """
    if ranks is not None and ranks < 1:
        raise UserError(Problem("a positive whole number is needed", "--ranks", str(ranks)))
    ranks = environment_world_size() if ranks is None else ranks
    problems: list[Problem] = []
    branches: list[Branch] = []
    try:
        branches = choose_branches(expand_stages(config), stage, branch)
    except UserError as error:
        problems += error.problems
    try:
        opened, model = check_run(config, branches, ranks)
    except UserError as error:
        raise UserError([*problems, *error.problems]) from None
    if problems:
        raise UserError(problems)
    batch, micro, accumulation = batch_arithmetic(config.deepspeed, ranks)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = choose_precision(config.headrace.precision, config.deepspeed, device)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"run            {config.name} -> {config.output}")
    print(f"model          {type(model).__name__}, {parameters:,} parameters")
    about, what = opened.task.described
    print(f"{about:<15}{what}")
    total = sum(map(len, opened.train.values()))
    if opened.chosen:
        samples = sum(sum(chosen.sizes) for chosen in opened.chosen.values())
        folder = config.headrace.data.selection or (opened.selection and opened.selection.folder)
        print(f"selection      {samples:,} of {counted(total, 'sample')}: {folder}")
    elif opened.selection is not None:
        wanted = describe_limits(opened.selection.limits)
        print(
            f"selection      {wanted} of {counted(total, 'sample')} are chosen when training starts"
        )
    started = counted(ranks, "rank")
    print(f"batch          {batch} = {started} x {micro} x {accumulation} accumulation steps")
    print(f"batching       {_describe_batching(config)}")
    print(f"precision      {precision.name}: {precision.reason}")
    groups = [(branch.stage.name, groups_of_branch(model, config, branch)) for branch in branches]
    for title, table in _group_tables(groups):
        print(f"\nparameter groups{title}\n{table}")
    print(f"\nstage plan\n{_stage_table(config, branches, opened, batch)}")
    print("\nmost memory of a rank in a step, in GiB\n")
    print(_memory_table(config, branches, opened, model, precision, ranks))
    print("\nThe config is sound. Nothing was trained.")


def _group_tables(groups: list[tuple[str, ParameterGroups]]) -> list[tuple[str, str]]:
    """The group table of each stage, with its title; only one if all are the same."""
    tables = {stage: one.describe() for stage, one in groups}
    if len(set(tables.values())) == 1:
        return [("", next(iter(tables.values())))]
    return [(f" of {stage}", table) for stage, table in tables.items()]


def _describe_batching(config: RunConfig) -> str:
    batching = config.headrace.batching
    if batching.type == "tokens":
        return f"as many samples as fit {batching.tokens_per_batch:,} tokens with padding"
    if batching.type == "packed":
        length = batching.pack_length or config.headrace.task.max_length
        return f"packs of {length:,} tokens"
    return "samples, sorted by length" if batching.sort_by_length else "samples"


def _stage_table(
    config: RunConfig, branches: list[Branch], opened: OpenedData, batch_size: int
) -> str:
    lines = [
        f"{'branch':<24}{'starts from':<16}{'samples':>9}{'epochs':>8}{'steps':>8}{'lr':>10}"
        "  shares"
    ]
    by_count = config.headrace.batching.type == "samples"
    for branch in branches:
        plan = opened.plan(branch, config.headrace.seed)
        counted = by_count and opened.is_known(branch) and not opened.task.section.cuts_texts
        lines.append(_stage_line(branch, plan, batch_size, by_count=counted))
    lines += filter(None, (describe_penalty(config, branch) for branch in branches))
    if not all(map(opened.is_known, branches)):
        lines.append("samples: of stages with a selection all there are, it is not made yet")
    if opened.task.section.cuts_texts:
        lines.append(
            "samples: texts; into how many sequences they are cut, and so the steps, is known "
            "after encoding"
        )
    elif not by_count:
        lines.append("steps: batches are filled by length, so they are counted after encoding")
    return "\n".join(lines)


def _stage_line(branch: Branch, plan: StagePlan, batch_size: int, *, by_count: bool) -> str:
    batches = BatchPlan(plan, [], batch_size=batch_size, sort_by_length=False)
    steps = f"{total_steps(branch, batches):,}" if by_count else "-"
    shares = ", ".join(f"{name} {share:.1%}" for name, share in plan.shares.items())
    return (
        f"{branch.title:<24}{branch.stage.start_from or 'model':<16}"
        f"{plan.samples_per_epoch:>9,}{branch.stage.epochs:>8}{steps:>8}"
        f"{branch.learning_rate:>10.3g}  {shares}"
    )


def _memory_table(
    config: RunConfig,
    branches: list[Branch],
    opened: OpenedData,
    model: PreTrainedModel,
    precision: Precision,
    ranks: int,
) -> str:
    """The peak at each ZeRO stage on this kind of device, and what is in it; changes the model."""
    kind: DeviceKind = "cuda" if torch.cuda.is_available() else "cpu"
    _, micro, accumulation = batch_arithmetic(config.deepspeed, ranks)
    setup = setup_of(
        config.deepspeed,
        kind=kind,
        precision=precision.name,
        ranks=ranks,
        accumulation=accumulation,
    )
    try:
        network = PlannedNetwork.of_config(config, branches, model, opened.task)
        tokens = config.headrace.batching.tokens_per_batch
        if tokens is not None:
            micro = max(1, tokens // (ranks * accumulation * network.longest))
        batch = network.activations(
            setup.weight_bytes, network.longest, network.checkpointing, kind
        )(micro)
    except ConfigError as error:
        return str(error)
    lines = [f"{'':<8}{'peak':>9}{'states':>9}{'activations':>13}"]
    for stage in range(4):
        own = setup if stage == config.zero_stage else setup.with_stage(stage)
        memory = memory_of_rank(network.sizes, own, batch)
        mark = "  <- configured" if stage == config.zero_stage else ""
        sizes = (memory.peak.bytes, memory.states, memory.activations)
        peak, states, activations = (size / _GIBIBYTE for size in sizes)
        lines.append(f"ZeRO {stage}: {peak:9.3f}{states:9.3f}{activations:13.3f}{mark}")
    lines.append(f"micro-batches of {counted(micro, 'row')} of {network.longest} tokens")
    return "\n".join(lines)
