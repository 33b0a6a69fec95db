"""Checks of parameter groups and schedules that need no network."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from headrace.config.learning_rates import (
    GroupConfig,
    ParamGroupsConfig,
    ScheduleConfig,
    SelectConfig,
)
from headrace.config.schema import HeadraceConfig
from headrace.errors import Problem

GROUPS_OF_SPLIT = 10
"""Learning rates that a distribution in the config has."""
BASE = "base"
"""Group of the parameters that are in no other, with ``"unmatched": "base"``."""


def check_learning_rates(config: HeadraceConfig) -> list[Problem]:
    """Check every schedule and all parameter groups of a config, those of its stages too."""
    problems = check_schedule(config.schedule, "headrace.schedule")
    problems += check_param_groups(config.param_groups, "headrace.param_groups")
    for number, stage in enumerate(config.stages):
        where = f"headrace.stages.{number}"
        if stage.schedule is not None:
            problems += check_schedule(stage.schedule, f"{where}.schedule")
        if stage.param_groups is not None:
            problems += check_param_groups(stage.param_groups, f"{where}.param_groups")
        groups = stage.param_groups or config.param_groups
        if groups.distribution is not None and stage.learning_rate is not None:
            problems.append(
                Problem(
                    "the distribution of learning rates leaves this without effect",
                    f"{where}.learning_rate",
                    str(stage.learning_rate),
                    "Remove it, or give the stage param_groups of its own",
                )
            )
    return problems


def check_schedule(schedule: ScheduleConfig, where: str) -> list[Problem]:
    """Check that a schedule has the keys that its type needs, and no others."""
    problems = [
        Problem(
            f'this has a meaning only with "type": "{kind}"',
            f"{where}.{key}",
            str(getattr(schedule, key)),
            f'Remove it, or set {where}.type to "{kind}"',
        )
        for key, kind in (("decay_ratio", "wsd"), ("decay_steps", "wsd"), ("cycles", "restarts"))
        if schedule.type != kind and getattr(schedule, key) is not None
    ]
    if schedule.type == "restarts" and schedule.cycles is None:
        problems.append(
            Problem("restarts need a number of cycles", f"{where}.cycles", remedy="For example 4")
        )
    share = schedule.decay_ratio
    if share is not None and schedule.warmup_steps is None and schedule.decay_steps is None:
        together = schedule.warmup_ratio + share
        if together > 1:
            problems.append(
                Problem(
                    "warm-up and decay together are longer than the stage",
                    f"{where}.decay_ratio",
                    f"{schedule.warmup_ratio:g} + {share:g}",
                    "Lower one of them",
                )
            )
    return problems


def check_param_groups(settings: ParamGroupsConfig, where: str) -> list[Problem]:
    """Check what can be said of parameter groups before there is a network."""
    problems = list(_check_kind(settings, where))
    groups = settings.groups or []
    for number, group in enumerate(groups):
        here = f"{where}.groups.{number}"
        problems += _check_group(group, here)
        if group.name in {other.name for other in groups[:number]}:
            problems.append(Problem("two groups have the same name", f"{here}.name", group.name))
        if group.name == BASE and settings.unmatched == "base":
            problems.append(
                Problem(
                    "the parameters that are in no group have this name",
                    f"{here}.name",
                    group.name,
                    "Choose another name",
                )
            )
    return problems


def _check_kind(settings: ParamGroupsConfig, where: str) -> Iterator[Problem]:
    """Check that one way of making groups is chosen, with the keys that go with it."""
    ways = ("groups", "llrd", "distribution")
    given = [key for key in ways if getattr(settings, key) is not None]
    if len(given) > 1:
        yield Problem(
            "parameter groups are made in one way only", where, ", ".join(given), "Keep one of them"
        )
    for key, needed in (
        ("unmatched", "groups"),
        ("split", "distribution"),
        ("rescale", "distribution"),
    ):
        if getattr(settings, key) is not None and getattr(settings, needed) is None:
            yield Problem(
                f"this has a meaning only with {needed}",
                f"{where}.{key}",
                str(getattr(settings, key)).lower(),
                f"Remove it, or give {where}.{needed}",
            )
    rates = settings.distribution
    if isinstance(rates, list):
        if len(rates) != GROUPS_OF_SPLIT:
            yield Problem(
                f"a distribution has {GROUPS_OF_SPLIT} learning rates",
                f"{where}.distribution",
                f"{len(rates)} of them",
                "Give them from the embeddings to the head, or the file of a distribution",
            )
        if settings.split is None:
            yield Problem(
                "it is not said how the numbers are dealt out over the layers",
                f"{where}.split",
                remedy='Set it to "paper-text" (runs of 1, 2, 1, ... layers) or "paper-code" (2, '
                "1, 2, ...)",
            )
    elif rates is not None and settings.split is not None:
        yield Problem(
            "a file says itself which layers its learning rates are for",
            f"{where}.split",
            settings.split,
            "Remove it",
        )


def _check_group(group: GroupConfig, where: str) -> Iterator[Problem]:
    if group.lr is not None and group.lr_mult is not None:
        yield Problem(
            "lr and lr_mult exclude each other", f"{where}.lr_mult", str(group.lr_mult), "Keep one"
        )
    if group.freeze:
        for key in ("lr", "lr_mult", "weight_decay", "schedule"):
            if getattr(group, key) is not None:
                value = getattr(group, key)
                yield Problem(
                    "frozen parameters do not change, so this is without effect",
                    f"{where}.{key}",
                    None if key == "schedule" else str(value),
                    "Remove it, or remove freeze",
                )
    if group.schedule is not None:
        yield from check_schedule(group.schedule, f"{where}.schedule")
    yield from _check_select(group.select, f"{where}.select")


def _check_select(select: SelectConfig, where: str) -> Iterator[Problem]:
    given = _given(select, ("part", "layers", "regex"))
    if len(given) > 1 or (not given and select.stack is None):
        yield Problem(
            "a group selects its parameters in one way",
            where,
            ", ".join(given) or "nothing",
            "Give one of part, layers, stack and regex",
        )
    if select.stack is not None and (select.regex is not None or select.part in {"head", "rest"}):
        yield Problem(
            "only layers, embeddings and what is behind the layers belong to a stack",
            f"{where}.stack",
            select.stack,
            "Remove it",
        )
    if select.regex is not None:
        try:
            re.compile(select.regex)
        except re.error as error:
            yield Problem(f"not a regular expression: {error}", f"{where}.regex", select.regex)


def _given(select: SelectConfig, keys: Sequence[str]) -> list[str]:
    return [key for key in keys if getattr(select, key) is not None]
