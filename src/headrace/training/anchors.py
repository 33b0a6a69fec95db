"""What the penalty of a branch holds: which weights, where, and how fast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from transformers import PreTrainedModel

from headrace.config import RunConfig
from headrace.config.penalty import EwcConfig, L2SpConfig
from headrace.config.penalty_checks import check_room_for_penalties
from headrace.counts import counted
from headrace.errors import ConfigError, Problem, UserError
from headrace.stream.digest import digest
from headrace.stream.feistel import derive_key
from headrace.stream.plan import Locations, StagePlan
from headrace.training.data import OpenedData, RunData
from headrace.training.distributed import World, failing_together
from headrace.training.fisher import (
    fingerprint_of,
    losses_of_drawn_labels,
    mean_squared_gradients,
    stored_fisher,
)
from headrace.training.layers import head_parameters, parameter_names
from headrace.training.masked_lm import MaskedLanguageModel
from headrace.training.model import build_model
from headrace.training.param_groups import groups_of_branch
from headrace.training.penalty import Held
from headrace.training.precision import Precision
from headrace.training.stages import Branch, expand_stages


def check_held(
    network: PreTrainedModel, config: RunConfig, opened: OpenedData, branches: Sequence[Branch]
) -> None:
    """Check that the penalty of each branch has weights to hold, and can be measured.

    Args:
        network: its weights are not looked at.
        config: of the run.
        opened: data, tokenizer and task.
        branches: what is going to be trained.

    Raises:
        UserError: with the problems of all of them.
    """
    problems: dict[Problem, None] = {}
    for branch in branches:
        penalty = branch.stage.penalty
        if penalty is None:
            continue
        where = path_of_penalty(config, branch)
        rows = groups_of_branch(network, config, branch).rows
        trained = {name for row in rows if row.settings is not None for name in row.parameters}
        if not trained & held_names(network, opened, penalty):
            what = "there is nothing to hold: all weights but those of the head are frozen"
            problems[Problem(what, where, remedy="Remove the penalty")] = None
        if isinstance(penalty, EwcConfig) and penalty.of == "masked_lm":
            try:
                MaskedLanguageModel(config, penalty, opened.tokenizer, where)
            except UserError as error:
                problems.update(dict.fromkeys(error.problems))
    if problems:
        raise ConfigError(list(problems))


def check_precision(branches: Sequence[Branch], config: RunConfig, precision: Precision) -> None:
    """Check that there is room for a penalty in the precision that was chosen for the device.

    Raises:
        ConfigError: as the check of a config does for a precision that it names.
    """
    if any(branch.stage.penalty is not None for branch in branches):
        problems = list(check_room_for_penalties({**config.deepspeed, **precision.sections}))
        if problems:
            raise ConfigError(problems)


def path_of_penalty(config: RunConfig, branch: Branch) -> str:
    """Return the JSON path of the penalty of a branch."""
    names = [stage.name for stage in config.headrace.stages]
    return f"headrace.stages.{names.index(branch.stage.name)}.penalty"


def held_names(
    network: PreTrainedModel, opened: OpenedData, penalty: L2SpConfig | EwcConfig
) -> frozenset[str]:
    """Return the names of the parameters that a penalty may hold: all but those of the head.

    At a pretrained model neither are those of parts that the task trains from new weights where a
    folder lacks them.
    """
    names = frozenset(parameter_names(network)) - head_parameters(network)
    if anchor_of(penalty) == "start":
        return names
    new = set(opened.task.new_modules)
    return frozenset(name for name in names if not new & set(name.split(".")))


def anchor_of(penalty: L2SpConfig | EwcConfig) -> str:
    """Return where a penalty holds the weights: ``start`` or ``pretrained``."""
    if penalty.anchor is None:
        return "pretrained" if penalty.of == "masked_lm" else "start"
    return penalty.anchor


def describe_penalty(config: RunConfig, branch: Branch) -> str | None:
    """Return a line about the penalty of a branch, for people; None without one."""
    penalty = branch.stage.penalty
    if penalty is None:
        return None
    place = "pretrained model"
    if anchor_of(penalty) == "start" and branch.stage.start_from is not None:
        place = f"model of {branch.stage.start_from}"
    text = f"{branch.title}: penalty {penalty.type}, weight {penalty.weight:g}, held at the {place}"
    if isinstance(penalty, L2SpConfig):
        return text
    measured = "masked-language modelling"
    if penalty.of == "stages":
        measured = ", ".join(item.title for item in earlier_branches(config, branch))
    return f"{text}, Fisher information of {measured} on {counted(penalty.samples, 'sample')}"


def what_is_held(
    config: RunConfig, branch: Branch, data: RunData, model: PreTrainedModel, world: World
) -> Held | None:
    """Return what the penalty of a branch holds; None without one.

    A collective, to be called before ``model`` is given to an engine.  Fisher information that is
    not there yet is measured, on a whole network in fp32 on each rank.

    Args:
        config: of the run.
        branch: what is going to be trained.
        data: of the run, not of the branch.
        model: the network that the branch starts from.
        world: the ranks.
    """
    penalty = branch.stage.penalty
    if penalty is None:
        return None
    opened = data.opened
    anchored = model
    if anchor_of(penalty) == "pretrained" and branch.start_folder is not None:
        anchored = build_model(
            config.headrace.model,
            opened.task,
            opened.tokenizer,
            seed=derive_key("weights", config.headrace.seed),
        )
    names = held_names(model, opened, penalty)
    importance: Mapping[str, torch.Tensor] | None = None
    if isinstance(penalty, EwcConfig):
        if penalty.of == "stages":
            importance = _fisher_of_stages(config, branch, penalty, data, names, world)
        else:
            with failing_together(world):
                pretrained = MaskedLanguageModel(
                    config, penalty, opened.tokenizer, path_of_penalty(config, branch)
                )
            importance = pretrained.fisher(names, world)
        names = names & importance.keys()
    weights = dict(anchored.named_parameters(remove_duplicate=False))
    anchor = {name: weights[name].detach().float().cpu().clone() for name in names}
    return Held(penalty.weight, anchor, importance)


def earlier_branches(config: RunConfig, branch: Branch) -> list[Branch]:
    """Return the branches that a branch goes back to along ``start_from``, the last one first."""
    by_export = {item.export_folder: item for item in expand_stages(config)}
    found: list[Branch] = []
    folder = branch.start_folder
    while folder is not None:
        found.append(by_export[folder])
        folder = found[-1].start_folder
    return found


def _fisher_of_stages(
    config: RunConfig,
    branch: Branch,
    penalty: EwcConfig,
    data: RunData,
    names: frozenset[str],
    world: World,
) -> dict[str, torch.Tensor]:
    """The sum over the earlier stages, each at its own exported model and on its own data."""
    decay = 1.0 if penalty.decay is None else penalty.decay
    sums: dict[str, torch.Tensor] = {}
    for age, earlier in enumerate(earlier_branches(config, branch)):
        if decay**age == 0.0:
            break
        found = _fisher_of(config, earlier, penalty.samples, data.of(earlier), world)
        for name in names:
            added = found[name] * decay**age
            sums[name] = sums[name] + added if name in sums else added
    return sums


def _fisher_of(
    config: RunConfig, branch: Branch, count: int, data: RunData, world: World
) -> dict[str, torch.Tensor]:
    """Fisher information of a finished branch, kept beside its export."""
    opened, seed = data.opened, config.headrace.seed
    network = build_model(
        config.headrace.model,
        opened.task,
        opened.tokenizer,
        seed=seed,
        start_folder=branch.export_folder,
    )
    head = head_parameters(network)
    parameters = dict(network.named_parameters(remove_duplicate=False))
    weights = {name: parameters[name] for name in parameter_names(network)}
    held = {name: value for name, value in weights.items() if name not in head}
    sources = [data.train[language] for language in branch.languages]
    plan = opened.plan(branch, seed, data.train)
    left_out = [sorted(source.left_out) for source in sources]
    samples = first_samples(plan, count, [sorted(source.without_samples) for source in sources])

    def measure() -> dict[str, torch.Tensor]:
        network.to(world.device).eval()
        losses = losses_of_drawn_labels(
            network,
            opened.task,
            sources,
            samples,
            pad=int(opened.tokenizer.pad_token_id),
            seed=seed,
            world=world,
        )
        return mean_squared_gradients(losses, held, total=len(samples), world=world)

    facts = {
        "model": fingerprint_of(weights),
        "data": digest([plan.fingerprint, left_out]),
        "number of samples": str(len(samples)),
    }
    path = branch.folder / f"fisher-{count}.safetensors"
    return stored_fisher(path, facts, held, measure, world)


def first_samples(plan: StagePlan, count: int, left_out: Sequence[Sequence[int]] = ()) -> Locations:
    """Return the samples that a stage sees first, in its own mixture; at most an epoch of them.

    Args:
        plan: the order of the stage.
        count: how many.
        left_out: by source, shards that are quarantined, or removed as a whole: their samples are
            missing from the result.

    Raises:
        UserError: if none is left.
    """
    count = min(count, plan.samples_per_epoch, plan.total_positions or count)
    samples = plan.locate(0, np.arange(count))
    quarantined = {(number, shard) for number, some in enumerate(left_out) for shard in some}
    there = [
        place not in quarantined
        for place in zip(samples.source.tolist(), samples.shard.tolist(), strict=True)
    ]
    if not any(there):
        what = "no sample is left to measure Fisher information on: all are quarantined"
        raise UserError(Problem(what, f"stage {plan.stage}"))
    return samples.take(np.flatnonzero(there))
