"""Distributions of learning rates over the depth of a network.

The ten-number form and its two splits are those of Kenneweg et al., "Intelligent Learning Rate
Distribution to reduce Catastrophic Forgetting in Transformers": the text of the paper deals the
numbers out over 12 layers in runs of 1, 2, 1, 2, ..., its published code in runs of 2, 1, 2, 1.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, ValidationError

from headrace.config.learning_rates import GroupConfig, Select, SelectConfig
from headrace.config.section import Name, Section
from headrace.errors import ConfigError, Problem
from headrace.training.layers import Layout
from headrace.training.selectors import layer_numbers

Split = Literal["paper-text", "paper-code"]
_RUNS: dict[Split, tuple[int, ...]] = {
    "paper-text": (1, 2, 1, 2, 1, 2, 1, 2),
    "paper-code": (2, 1, 2, 1, 2, 1, 2, 1),
}


class DistributedRate(Section):
    """One group of a distribution."""

    name: Name
    """Name of the group."""
    select: Select
    """Its parameters, as in the config."""
    lr: float = Field(gt=0)
    """Its learning rate."""
    interval: list[Annotated[float, Field(gt=0)]] | None = Field(None, min_length=2, max_length=2)
    """Confidence interval of the rate: lower and upper bound."""


class Distribution(Section):
    """Learning rates by group, and where they come from; a JSON file holds one."""

    version: Literal[1] = 1
    """Version of the format."""
    model_type: str | None = None
    """Kind of network that they were found with, as `transformers` names it."""
    layers: dict[str, Annotated[int, Field(ge=1)]] = Field(min_length=1)
    """Layers of each of its stacks."""
    groups: list[DistributedRate] = Field(min_length=1)
    """The groups; a parameter belongs to the first that selects it."""
    study: str | None = None
    """Where the rates come from."""
    seeds: list[int] = Field([])
    """Seeds of the runs that they were found with."""


def paper_distribution(rates: list[float], split: Split) -> Distribution:
    """Return the distribution of ten learning rates over 12 layers.

    Args:
        rates: of the embeddings, of eight runs of layers, and of the rest.
        split: how many layers each run has.
    """
    selects = [("embeddings", SelectConfig(part="embeddings"))]
    start = 0
    for run in _RUNS[split]:
        last = start + run - 1
        text = f"{start}-{last}" if run > 1 else str(start)
        selects.append(
            (f"layers-{text}" if run > 1 else f"layer-{text}", SelectConfig(layers=text))
        )
        start += run
    selects.append(("rest", SelectConfig(part="rest")))
    return Distribution(
        layers={"encoder": start},
        groups=[
            DistributedRate(name=name, select=select, lr=rate)
            for (name, select), rate in zip(selects, rates, strict=True)
        ],
        study=split,
    )


def read_distribution(path: Path, where: str) -> Distribution:
    """Read the file of a distribution.

    Raises:
        ConfigError: at ``where``, with everything that is wrong with the file.
    """
    try:
        distribution = Distribution.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(
            Problem(
                f"the distribution cannot be read: {reason}", where, str(path), "Check the path"
            )
        ) from None
    except ValidationError as error:
        raise ConfigError(
            [
                Problem(
                    f"{path}: {'.'.join(map(str, item['loc'])) or 'the file'}: {item['msg']}",
                    where,
                    json.dumps(item["input"], default=str)[:80],
                    "Correct the file",
                )
                for item in error.errors(include_url=False)
            ]
        ) from None
    problems = []
    for number, group in enumerate(distribution.groups):
        try:
            _layers_of(group, distribution)
        except ValueError as error:
            problems.append(Problem(f"{path}: groups.{number}.select: {error}", where))
    names = [group.name for group in distribution.groups]
    problems += [
        Problem(f"{path}: two groups have the same name", where, name)
        for name in dict.fromkeys(names)
        if names.count(name) > 1
    ]
    if problems:
        raise ConfigError(problems)
    return distribution


def write_distribution(path: Path, distribution: Distribution) -> None:
    """Write the file of a distribution; it appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    text = distribution.model_dump_json(indent=1, exclude_none=True)
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(path)


def groups_of_distribution(
    distribution: Distribution, layout: Layout, *, rescale: bool, where: str
) -> list[GroupConfig]:
    """Return the groups of a distribution for a network.

    Stacks are matched by name; where both have one stack, its name does not matter.

    Args:
        distribution: for stacks of any depth.
        layout: the network.
        rescale: give each layer of a stack of another depth the rate that lies at its relative
            depth, by linear interpolation of the logarithm between the middles of the layers.
        where: JSON path of the distribution.

    Raises:
        ConfigError: if the stacks are others, or of another depth without ``rescale``.
    """
    renamed = dict(zip(distribution.layers, distribution.layers, strict=True))
    if len(layout.stacks) == len(distribution.layers) == 1:
        renamed = dict(zip(distribution.layers, layout.stacks, strict=True))
    depths = {renamed[name]: count for name, count in distribution.layers.items()}
    if depths.keys() != layout.stacks.keys() or (not rescale and depths != dict(layout.stacks)):
        raise ConfigError(
            Problem(
                f"the distribution is for other layers ({_counts(distribution.layers)})",
                where,
                f"the network has {_counts(layout.stacks)}",
                "Set rescale to true beside it, which interpolates over the relative depth"
                if depths.keys() == layout.stacks.keys()
                else "Give one with the same stacks",
            )
        )
    groups: list[GroupConfig] = []
    seen: set[str] = set()
    for group in distribution.groups:
        found = _layers_of(group, distribution)
        if found is None or depths[renamed[found[0]]] == layout.stacks[renamed[found[0]]]:
            stack = group.select.stack
            select = group.select.model_copy(update={"stack": renamed[stack] if stack else None})
            groups.append(GroupConfig(name=group.name, select=select, lr=group.lr))
        elif found[0] not in seen:
            seen.add(found[0])
            stack = renamed[found[0]]
            rates = _interpolate(
                _rates(distribution, found[0]), depths[stack], layout.stacks[stack]
            )
            prefix = "layer" if len(depths) == 1 else stack
            groups += [
                GroupConfig(
                    name=f"{prefix}-{number}",
                    select=SelectConfig(stack=stack, layers=number),
                    lr=rate,
                )
                for number, rate in enumerate(rates)
            ]
    return groups


def groups_of_decay(decay: float, layout: Layout) -> list[GroupConfig]:
    """Return the groups of layer-wise learning-rate decay.

    The rest (head, what is behind the last layer) has the stage's rate, the layer n from the top
    ``decay`` ** n times that (n = 1 for the last), the embeddings one power more than the first
    layer, as in BEiT (Bao et al. 2022).  A decoder's layers are above those of its encoder.
    """
    layers = [(stack, number) for stack, count in layout.stacks.items() for number in range(count)]
    alone = len(layout.stacks) == 1
    return [
        GroupConfig(
            name="embeddings",
            select=SelectConfig(part="embeddings"),
            lr_mult=decay ** (len(layers) + 1),
        ),
        *(
            GroupConfig(
                name=f"layer-{number}" if alone else f"{stack}-{number}",
                select=SelectConfig(stack=stack, layers=number),
                lr_mult=decay ** (len(layers) - place),
            )
            for place, (stack, number) in enumerate(layers)
        ),
        GroupConfig(name="rest", select=SelectConfig(part="rest"), lr_mult=1.0),
    ]


def _layers_of(group: DistributedRate, distribution: Distribution) -> tuple[str, list[int]] | None:
    """Stack and layers of a group; None for a group of something else.

    Raises:
        ValueError: if the distribution has no such layers.
    """
    select = group.select
    if select.part is not None or select.regex is not None:
        return None
    stack = select.stack
    if stack is None and len(distribution.layers) == 1:
        stack = next(iter(distribution.layers))
    if stack is None or stack not in distribution.layers:
        raise ValueError(f"no such stack: {stack}")
    count = distribution.layers[stack]
    numbers = list(range(count)) if select.layers is None else layer_numbers(select.layers, count)
    return stack, numbers


def _rates(distribution: Distribution, stack: str) -> dict[int, float]:
    """Learning rates of the layers of a stack; the first group that has a layer counts."""
    rates: dict[int, float] = {}
    for group in distribution.groups:
        found = _layers_of(group, distribution)
        if found is not None and found[0] == stack:
            for number in found[1]:
                rates.setdefault(number, group.lr)
    return rates


def _interpolate(rates: dict[int, float], depth: int, wanted: int) -> list[float]:
    """Rates of ``wanted`` layers from those of a stack of ``depth``, over the relative depth."""
    numbers = sorted(rates)
    known = (np.array(numbers) + 0.5) / depth
    logarithms = np.log([rates[number] for number in numbers])
    places = (np.arange(wanted) + 0.5) / wanted
    return [float(rate) for rate in np.exp(np.interp(places, known, logarithms))]


def _counts(layers: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in layers.items())
