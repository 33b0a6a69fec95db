"""The sections of a run config about learning rates: parameter groups and schedules."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import inf
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field

from headrace.config.messages import did_you_mean
from headrace.config.section import Name, Section

Part = Literal["embeddings", "after", "head", "rest"]

_LAYERS = re.compile(r"-?\d+|\d+-\d+|(-?\d+)?:(-?\d+)?")


class ScheduleConfig(Section):
    """The learning rate over the steps of a stage, as a factor of the optimizer's `lr`."""

    type: Literal["cosine", "linear", "constant", "inverse_sqrt", "wsd", "restarts"] = "cosine"
    """Shape after the warm-up."""
    warmup_ratio: float = Field(0.0, ge=0, lt=1)
    """Share of the stage's steps over which the learning rate rises linearly from zero."""
    warmup_steps: int | None = Field(None, ge=0)
    """The same in steps; takes the place of `warmup_ratio`."""
    final_ratio: float = Field(0.0, ge=0, le=1)
    """Factor at the end of the stage (not used by `constant`); with `restarts` at the end of each
    cycle, with `inverse_sqrt` the least there is."""
    decay_ratio: float | None = Field(None, gt=0, le=1)
    """With `wsd`: share of the stage's steps, the last ones, over which the rate falls linearly.
    Default: 0.2."""
    decay_steps: int | None = Field(None, ge=1)
    """The same in steps; takes the place of `decay_ratio`."""
    cycles: int | None = Field(None, ge=1)
    """With `restarts`, required: equally long cycles, each a cosine from the full rate."""


def _select(value: Any) -> Any:
    if not isinstance(value, str):
        if not isinstance(value, Mapping | SelectConfig):
            raise ValueError('must be a part such as "embeddings", or an object such as {"layers"}')
        return value
    if value not in get_args(Part):
        raise ValueError(f"unknown part. {did_you_mean(value, get_args(Part))}")
    return {"part": value}


def _layers(value: Any) -> Any:
    numbers = [value] if isinstance(value, int) else value
    whole = isinstance(numbers, list) and all(type(number) is int for number in numbers)
    named = isinstance(value, str) and value and _LAYERS.fullmatch(value)
    if value is None or named or (whole and numbers):
        return value
    raise ValueError('must be layers such as 3, "0-1", "-2:" or [0, 2]')


def _distribution(value: Any) -> Any:
    if isinstance(value, list):
        if all(type(rate) in (int, float) and 0 < rate < inf for rate in value):
            return [float(rate) for rate in value]
    elif value is None or (isinstance(value, str) and value):
        return value
    raise ValueError("must be the name of a file, or a list of positive numbers")


class SelectConfig(Section):
    """Where a group's parameters are: `part`, `layers`, `stack` or `regex`; a text is a `part`."""

    part: Part | None = None
    """`embeddings`, `head` (what the task adds to the network), `after` (what is behind the last
    layer, such as a final norm or a pooler), or `rest`: all that no group before has taken."""
    layers: Annotated[int | str | list[int] | None, BeforeValidator(_layers)] = None
    """Layers, counted from 0 at the input, or from -1 at the output: `3`, `"0-1"` (both are in),
    `"-2:"` and `"2:5"` (the end is not in), `[0, 2, 4]`."""
    stack: str | None = None
    """Stack of layers, of networks with more than one (`encoder`, `decoder`). Alone: all of its
    layers. With `part`: the embeddings, or what is behind the layers, of this stack only."""
    regex: str | None = None
    """Parameters whose name matches anywhere."""


Select = Annotated[SelectConfig, BeforeValidator(_select)]
"""A text stands for a part."""


class GroupConfig(Section):
    """Parameters that have a learning rate of their own."""

    name: Name
    """Name in tables and logs."""
    select: Select
    """Which parameters: a part such as `"embeddings"` or `"head"`, or an object."""
    lr: float | None = Field(None, gt=0)
    """Learning rate. Default: that of the stage."""
    lr_mult: float | None = Field(None, gt=0)
    """Learning rate as a multiple of that of the stage."""
    weight_decay: float | None = Field(None, ge=0)
    """Weight decay, but of the parameters in `no_decay`. Default: that of the optimizer."""
    freeze: bool = False
    """Leave the parameters as they are: no gradients, no optimizer states."""
    schedule: ScheduleConfig | None = None
    """Takes the place of the stage's schedule."""


class ParamGroupsConfig(Section):
    """Parameter groups of the optimizer: at most one of `groups`, `llrd` and `distribution`."""

    no_decay: list[str] = Field(["bias", "norm"])
    """Parameters whose name contains one of these (case ignored) get no weight decay."""
    groups: list[GroupConfig] | None = Field(None, min_length=1)
    """Groups; a parameter belongs to the first one that selects it."""
    unmatched: Literal["error", "base"] | None = None
    """With `groups`: what to do about parameters that are in none. `error` (the default): refuse
    the config. `base`: train them at the stage's learning rate."""
    llrd: float | None = Field(None, gt=0, le=1)
    """Layer-wise decay: the rate of each layer is this times that of the layer above; the head and
    what is behind the last layer have the stage's learning rate."""
    distribution: Annotated[list[float] | str | None, BeforeValidator(_distribution)] = None
    """Learning rates from the embeddings to the head: ten numbers with `split`, or a JSON file
    that has one."""
    split: Literal["paper-text", "paper-code"] | None = None
    """With ten numbers: how they are dealt out over the embeddings, 12 layers and the rest.
    `paper-text`: layers in runs of 1, 2, 1, 2, ...; `paper-code`: in runs of 2, 1, 2, 1, ..."""
    rescale: bool | None = None
    """`true`: on a network with another number of layers, interpolate the logarithm of the rates
    over the relative depth. Default: refuse such a network."""
