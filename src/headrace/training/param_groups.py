"""Parameter groups: which parameters share a learning rate, a weight decay and a schedule.

The groups of the config are what tables and logs show; those with equal settings are one group of
the optimizer, because DeepSpeed partitions and reduces each one apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from headrace.config import RunConfig
from headrace.config.learning_rate_checks import BASE
from headrace.config.learning_rates import (
    GroupConfig,
    ParamGroupsConfig,
    ScheduleConfig,
    SelectConfig,
)
from headrace.errors import ConfigError, HeadraceError, Problem
from headrace.training.distributions import (
    groups_of_decay,
    groups_of_distribution,
    paper_distribution,
    read_distribution,
)
from headrace.training.schedules import describe_schedule, learning_rate_factor
from headrace.training.selectors import Network
from headrace.training.stages import Branch


@dataclass(frozen=True)
class Settings:
    """What the parameters of a group of the optimizer have in common."""

    learning_rate: float
    """Before the schedule."""
    weight_decay: float
    schedule: ScheduleConfig


@dataclass(frozen=True)
class Row:
    """A line of the group table: parameters of one group that have the same weight decay."""

    name: str
    group: str | None
    """Group of the config; None where it has none."""
    parameters: tuple[str, ...]
    """Names, in the order of the network."""
    size: int
    """Numbers in them."""
    settings: Settings | None
    """None: frozen."""


@dataclass(frozen=True)
class ParameterGroups:
    """The parameters of a network, each in one group, and how each group is trained."""

    rows: tuple[Row, ...]
    tied: tuple[str, ...] = ()
    """Sentences on parameters with several names."""
    fixed: tuple[Row, ...] = ()
    """Parameters that take no gradients whatever the groups say: those beside adapters."""

    @cached_property
    def merged(self) -> tuple[tuple[Settings, tuple[Row, ...]], ...]:
        """The groups of the optimizer: settings, and the rows that have them.

        Without groups in the config the two rows stay apart, as checkpoints know them.
        """
        groups: dict[tuple[Settings, str | None], tuple[Row, ...]] = {}
        for row in self.rows:
            if row.settings is not None:
                key = (row.settings, row.name if row.group is None else None)
                groups[key] = (*groups.get(key, ()), row)
        return tuple((settings, rows) for (settings, _), rows in groups.items())

    def for_optimizer(self, model: torch.nn.Module) -> list[dict[str, Any]]:
        """Return the optimizer's groups, none of them empty, and take gradients from the rest."""
        parameters = dict(model.named_parameters(remove_duplicate=False))
        for row in self.rows:
            if row.settings is None:
                for name in row.parameters:
                    parameters[name].requires_grad_(False)
        return [
            {
                "name": _merged_name(rows),
                "params": [parameters[name] for row in rows for name in row.parameters],
                "lr": settings.learning_rate,
                "base_lr": settings.learning_rate,
                "weight_decay": settings.weight_decay,
            }
            for settings, rows in self.merged
        ]

    def frozen_weights(self, model: torch.nn.Module) -> dict[str, torch.Tensor]:
        """Return copies of the frozen parameters on the CPU, by name, as they are now."""
        parameters = dict(model.named_parameters(remove_duplicate=False))
        return {
            name: parameters[name].detach().cpu().clone()
            for row in (*self.rows, *self.fixed)
            if row.settings is None
            for name in row.parameters
        }

    @property
    def trained(self) -> int:
        """Numbers in the parameters that are trained."""
        return sum(row.size for row in self.rows if row.settings is not None)

    @property
    def base_rates(self) -> list[float]:
        """Learning rate of each group of the optimizer before the schedule."""
        return [settings.learning_rate for settings, _ in self.merged]

    def set_learning_rates(self, optimizer: Any, step: int, total_steps: int) -> float:
        """Give every group of the optimizer its rate for a step; return the largest of them."""
        for group, (settings, _) in zip(optimizer.param_groups, self.merged, strict=True):
            factor = learning_rate_factor(settings.schedule, step, total_steps)
            group["lr"] = settings.learning_rate * factor
        return float(max(group["lr"] for group in optimizer.param_groups))

    def by_name(self, optimizer: Any) -> dict[str, float]:
        """Return the rate that each group of the config has now; nothing where there are none."""
        rates = {}
        for group, (_, rows) in zip(optimizer.param_groups, self.merged, strict=True):
            rates.update({row.group: float(group["lr"]) for row in rows if row.group is not None})
        return {row.group: rates[row.group] for row in self.rows if row.group in rates}

    def check(self, optimizer: Any, rates: Sequence[float] | None = None) -> None:
        """Check that no engine or checkpoint has changed the settings of a group.

        Args:
            optimizer: what DeepSpeed made, or what a checkpoint was loaded into.
            rates: learning rate that each of its groups has to have; None: any.

        Raises:
            HeadraceError: naming the group and both values.
        """
        found = optimizer.param_groups
        if len(found) != len(self.merged):
            raise HeadraceError(
                f"the optimizer has {len(found)} parameter groups, the config {len(self.merged)}"
            )
        for number, (group, (settings, rows)) in enumerate(zip(found, self.merged, strict=True)):
            wanted = {
                "name": _merged_name(rows),
                "base_lr": settings.learning_rate,
                "weight_decay": settings.weight_decay,
                **({} if rates is None else {"lr": rates[number]}),
            }
            for key, value in wanted.items():
                if group.get(key) != value:
                    raise HeadraceError(
                        f"parameter group {wanted['name']!r} has {key} {group.get(key)}, the "
                        f"config says {value}"
                    )

    def describe(self) -> str:
        """Return the group table that is shown at the start of a stage and by a dry run."""
        rows = (*self.rows, *self.fixed)
        width = max(12, *(len(row.name) + 2 for row in rows))
        lines = [
            f"{'group':<{width}}{'tensors':>9}{'parameters':>14}{'lr':>12}{'weight decay':>14}"
            "  schedule"
        ]
        for row in rows:
            line = f"{row.name:<{width}}{len(row.parameters):>9}{row.size:>14,}"
            settings = row.settings
            if settings is None:
                line += f"{'frozen':>12}{'-':>14}  -"
            else:
                line += f"{settings.learning_rate:>12.3g}{settings.weight_decay:>14.3g}"
                line += f"  {describe_schedule(settings.schedule)}"
            lines.append(line)
        total = sum(row.size for row in rows)
        if self.trained < total:
            share = f"{100 * self.trained / total:.2g} %"
            lines.append(f"trained: {self.trained:,} of {total:,} parameters ({share})")
        if any(row.group for row in self.rows):
            lines.append(f"groups of the optimizer: {len(self.merged)}")
        return "\n".join([*lines, *self.tied])


def _merged_name(rows: Sequence[Row]) -> str:
    return "+".join(row.name for row in rows)


def groups_of_branch(model: PreTrainedModel, config: RunConfig, branch: Branch) -> ParameterGroups:
    """Return the parameter groups of a branch.

    Args:
        model: the network; its weights are not looked at.
        config: gives the optimizer's weight decay.
        branch: gives settings, learning rate and schedule.

    Raises:
        ConfigError: with everything that is wrong with the groups for this network.
    """
    optimizer = config.deepspeed["optimizer"].get("params", {})
    base = Settings(
        branch.learning_rate, float(optimizer.get("weight_decay", 0.01)), branch.schedule
    )
    return make_groups(model, branch.param_groups, base, branch.param_groups_path)


def check_groups(model: PreTrainedModel, config: RunConfig, branches: Sequence[Branch]) -> None:
    """Make the parameter groups of all branches, for their errors.

    Raises:
        ConfigError: with the problems of all stages.
    """
    problems: dict[Problem, None] = {}
    for branch in branches:
        try:
            groups_of_branch(model, config, branch)
        except ConfigError as error:
            problems.update(dict.fromkeys(error.problems))
    if problems:
        raise ConfigError(list(problems))


def make_groups(
    model: PreTrainedModel, settings: ParamGroupsConfig, base: Settings, where: str
) -> ParameterGroups:
    """Return the parameter groups of a network; each parameter that takes gradients is in one.

    Args:
        model: the network.
        settings: the section ``param_groups``.
        base: what holds where a group says nothing else.
        where: JSON path of the section.

    Raises:
        ConfigError: with every problem, each at its JSON path: selectors that match nothing,
            groups whose parameters are all taken, parameters in no group, nothing left to train.
    """
    network = Network(model)
    groups, paths = _groups_of(settings, network, where)
    if groups is None:
        rows = _rows(network, None, list(_trainable(network)), base, settings.no_decay)
        return ParameterGroups(tuple(rows), _tied(network, rows), _fixed(network))
    members, problems = _deal_out(network, groups, paths, all_needed=settings.groups is not None)
    taken = {name for names in members for name in names}
    left = [name for name in _trainable(network) if name not in taken]
    if left and settings.unmatched != "base" and not problems:
        more = f" and {len(left) - 5} more" if len(left) > 5 else ""
        problems.append(
            Problem(
                "parameters are in no group",
                paths[0].rpartition(".")[0],
                ", ".join(left[:5]) + more,
                f'Add a group with "select": "rest", or set {where}.unmatched to "base"',
            )
        )
    if not problems and not left and all(group.freeze for group in groups):
        problems.append(Problem("nothing is left to train", where, remedy="Freeze fewer groups"))
    if problems:
        raise ConfigError(problems)
    rows = [
        row
        for group, names in zip(groups, members, strict=True)
        for row in _rows(network, group, names, base, settings.no_decay)
    ]
    if left:
        unnamed = GroupConfig(name=BASE, select=SelectConfig(part="rest"))
        rows += _rows(network, unnamed, left, base, settings.no_decay)
    return ParameterGroups(tuple(rows), _tied(network, rows), _fixed(network))


def _groups_of(
    settings: ParamGroupsConfig, network: Network, where: str
) -> tuple[list[GroupConfig] | None, list[str]]:
    """The groups that a section stands for, each with its JSON path; None for no groups."""
    if settings.groups is not None:
        return settings.groups, [f"{where}.groups.{n}" for n in range(len(settings.groups))]
    if settings.llrd is not None:
        groups = groups_of_decay(settings.llrd, network.layout(f"{where}.llrd"))
        return groups, [f"{where}.llrd"] * len(groups)
    if settings.distribution is None:
        return None, []
    where = f"{where}.distribution"
    if isinstance(settings.distribution, str):
        distribution = read_distribution(Path(settings.distribution), where)
    else:
        distribution = paper_distribution(settings.distribution, settings.split or "paper-text")
    rescale = bool(settings.rescale)
    groups = groups_of_distribution(
        distribution, network.layout(where), rescale=rescale, where=where
    )
    return groups, [where] * len(groups)


def _deal_out(
    network: Network, groups: Sequence[GroupConfig], paths: Sequence[str], *, all_needed: bool
) -> tuple[list[list[str]], list[Problem]]:
    """Give each parameter that takes gradients to the first group that selects it.

    Unless ``all_needed``, groups may select none of them: they were not written for this network.
    """
    owner: dict[str, str] = {}
    members: list[list[str]] = []
    problems: list[Problem] = []
    for group, path in zip(groups, paths, strict=True):
        members.append([])
        where = f"{path}.select"
        try:
            selected = network.select(group.select, where)
        except ConfigError as error:
            problems += error.problems
            continue
        names = [name for name in _trainable(network) if name in selected]
        members[-1] = [name for name in names if name not in owner]
        if not names:
            if all_needed:
                problems.append(
                    Problem(
                        f"group {group.name} gets no parameters: beside adapters these are not "
                        "trained",
                        where,
                        remedy="Remove the group, or select layers that have adapters",
                    )
                )
        elif not members[-1]:
            before = ", ".join(dict.fromkeys(owner[name] for name in names if name in owner))
            problems.append(
                Problem(
                    f"group {group.name} gets no parameters: all of them are taken already",
                    where,
                    f"taken by {before}",
                    "Put the group before those, or remove it",
                )
            )
        owner.update(dict.fromkeys(members[-1], group.name))
    return members, problems


def _trainable(network: Network) -> list[str]:
    """Names of the parameters that take gradients, in the order of the network."""
    parameters = dict(network.model.named_parameters(remove_duplicate=False))
    return [name for name in network.names if parameters[name].requires_grad]


def _fixed(network: Network) -> tuple[Row, ...]:
    """The line of the parameters that take no gradients whatever the groups say, if there are."""
    parameters = dict(network.model.named_parameters(remove_duplicate=False))
    names = [name for name in network.names if not parameters[name].requires_grad]
    size = sum(parameters[name].numel() for name in names)
    return (Row("not adapted", None, tuple(names), size, None),) if names else ()


def _rows(
    network: Network,
    group: GroupConfig | None,
    names: Sequence[str],
    base: Settings,
    no_decay: Sequence[str],
) -> list[Row]:
    """The lines of a group: with weight decay and without, or frozen."""
    parameters = dict(network.model.named_parameters(remove_duplicate=False))

    def row(name: str, members: Sequence[str], settings: Settings | None) -> Row:
        size = sum(parameters[member].numel() for member in members)
        return Row(name, group.name if group else None, tuple(members), size, settings)

    if group is not None and group.freeze:
        return [row(group.name, names, None)]
    rate, decay, schedule = base.learning_rate, base.weight_decay, base.schedule
    if group is not None:
        rate = group.lr or rate * (group.lr_mult or 1.0)
        decay = decay if group.weight_decay is None else group.weight_decay
        schedule = group.schedule or schedule
    exempt = [name for name in names if any(part.lower() in name.lower() for part in no_decay)]
    others = [name for name in names if name not in set(exempt)]
    titles = (group.name, f"{group.name} (no decay)") if group else ("decay", "no_decay")
    found = [
        row(titles[0], others, Settings(rate, decay, schedule)),
        row(titles[1], exempt, Settings(rate, 0.0, schedule)),
    ]
    return [item for item in found if item.parameters]


def _tied(network: Network, rows: Sequence[Row]) -> tuple[str, ...]:
    """Say of parameters with several names which group they follow."""
    owner = {name: row.name for row in rows for name in row.parameters}
    return tuple(
        f"{other} is tied to {name} and follows it in group {owner[name]}"
        for name, (_, *others) in network.names.items()
        if name in owner
        for other in others
    )
