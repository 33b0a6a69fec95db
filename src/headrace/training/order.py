"""The order of a branch's samples, made from its config and its shards; needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import floor

from headrace.config import RunConfig
from headrace.config.mixture import ByLanguage, numbers_by_language, phases_of
from headrace.counts import counted
from headrace.errors import ConfigError, Problem, UserError
from headrace.stream.batching import position_after
from headrace.stream.phases import Phase, exact
from headrace.stream.plan import Source, StagePlan
from headrace.training.stages import Branch


def plan_branch(branch: Branch, sources: Sequence[Source], seed: int) -> StagePlan:
    """Return the order of the samples of a branch.

    Args:
        branch: what is trained.
        sources: one for each of the branch's languages, in their order.
        seed: of the run.

    Raises:
        ConfigError: for shares and epoch limits that cannot be met.
    """
    languages = branch.languages
    samples = sum(sum(source.shard_sizes) for source in sources)
    phases = []
    for given in phases_of(branch.stage.mixture):
        weights = None
        if given.weights is not None:
            weights = [given.weight(language) for language in languages]
        phases.append(
            Phase(
                start=floor(exact(given.from_epoch) * samples),
                temperature=given.temperature,
                weights=weights,
                min_shares=_bounds(given.min_share, languages, weights),
                max_shares=_bounds(given.max_share, languages, weights),
            )
        )
    first, *later = phases
    limits = branch.stage.mixture.max_epochs
    return StagePlan(
        sources,
        seed=seed,
        stage=branch.title,
        temperature=first.temperature,
        weights=first.weights,
        min_shares=first.min_shares,
        max_shares=first.max_shares,
        max_epochs=None if limits is None else numbers_by_language(limits, languages),
        phases=later,
    )


def problems_of_orders(
    config: RunConfig, branches: Iterable[Branch], planned: Callable[[Branch, int], StagePlan]
) -> list[Problem]:
    """Find out whether the order of each branch can be planned, and is long enough.

    ``planned`` plans a branch with the seed of the run.
    """
    batch_size = constant_batch_size(config)
    problems: list[Problem] = []
    for branch in branches:
        try:
            plan = planned(branch, config.headrace.seed)
            check_enough(branch, plan, batch_size)
        except UserError as error:
            problems += error.problems
    return problems


def positions_wanted(branch: Branch, plan: StagePlan, batch_size: int | None) -> int:
    """Samples that the epochs of a branch ask for, or its ``max_steps`` where these are fewer.

    ``batch_size`` is as for :func:`check_enough`.
    """
    wanted = branch.stage.epochs * plan.samples_per_epoch
    if branch.stage.max_steps is not None and batch_size is not None:
        limit = position_after(branch.stage.max_steps, plan.samples_per_epoch, batch_size)
        wanted = min(wanted, limit)
    return wanted


def constant_batch_size(config: RunConfig) -> int | None:
    """Samples of a batch; None where the batches of a run differ in it."""
    constant = config.headrace.batching.type == "samples"
    return int(config.deepspeed["train_batch_size"]) if constant else None


def check_enough(branch: Branch, plan: StagePlan, batch_size: int | None) -> None:
    """Check that a branch has the samples that its epochs ask for.

    Args:
        branch: what is trained.
        plan: the order of its samples.
        batch_size: samples of a batch; None if it is not constant, and ``max_steps`` says nothing.

    Raises:
        ConfigError: if epoch limits end the stage before its epochs or ``max_steps`` do.
    """
    wanted = positions_wanted(branch, plan, batch_size)
    total = plan.total_positions
    if total is not None and total < wanted:
        raise ConfigError(
            Problem(
                f"the stage ends after {counted(total / plan.samples_per_epoch, 'epoch')}, since "
                f"{plan.stage_mixture.end_reason}",
                f"stage {branch.title}: epochs",
                f"{counted(branch.stage.epochs, 'epoch')}, {counted(wanted, 'sample')}; "
                f"{total:,} can be drawn",
                "Lower epochs, or raise mixture.max_epochs",
            )
        )


def _bounds(
    given: ByLanguage, languages: Sequence[str], weights: Sequence[float] | None
) -> list[float | None] | None:
    """The bounds of the languages; one number for all is for those that are drawn from."""
    if given is None:
        return None
    bounds = numbers_by_language(given, languages)
    if weights is None or isinstance(given, Mapping):
        return bounds
    return [bound if weight else None for bound, weight in zip(bounds, weights, strict=True)]
