"""The DeepSpeed engine of one branch."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import PreTrainedModel

from headrace.config import RunConfig
from headrace.config.checks import batch_arithmetic
from headrace.training.distributed import World
from headrace.training.param_groups import (
    assert_learning_rates,
    describe_groups,
    make_param_groups,
)
from headrace.training.precision import Precision

logger = logging.getLogger(__name__)

_NEVER = 1 << 60
"""Steps between DeepSpeed's own log lines: the progress bar and the metrics say the same."""


def deepspeed_section(config: RunConfig, world: World, precision: Precision) -> dict[str, Any]:
    """Return what is given to DeepSpeed: its part of the config, completed."""
    section = copy.deepcopy(dict(config.deepspeed))
    batch, micro, accumulation = batch_arithmetic(section, world.size)
    section.update(
        train_batch_size=batch,
        train_micro_batch_size_per_gpu=micro,
        gradient_accumulation_steps=accumulation,
        **precision.sections,
    )
    section.setdefault("steps_per_print", _NEVER)
    optimizer = section["optimizer"]
    offloaded = section.get("zero_optimization", {}).get("offload_optimizer")
    if (
        world.device.type == "cpu"
        and optimizer["type"].lower() in {"adam", "adamw"}
        and not offloaded
        and "torch_adam" not in optimizer.setdefault("params", {})
    ):
        # DeepSpeed's own Adam is compiled at first use, which needs a compiler on every node
        optimizer["params"]["torch_adam"] = True
    return section


@contextmanager
def open_engine(
    model: PreTrainedModel,
    config: RunConfig,
    world: World,
    precision: Precision,
    *,
    learning_rate: float,
) -> Iterator[Any]:
    """Give a DeepSpeed engine for a model, and free it at the end of the ``with`` block."""
    import deepspeed

    section = deepspeed_section(config, world, precision)
    groups = make_param_groups(
        model,
        learning_rate=learning_rate,
        weight_decay=float(section["optimizer"].get("params", {}).get("weight_decay", 0.01)),
        no_decay=config.headrace.param_groups.no_decay,
    )
    if world.is_main:
        logger.info("%s", describe_groups(groups))
    engine, optimizer, _, _ = deepspeed.initialize(
        model=model, model_parameters=groups, config=section
    )
    assert_learning_rates(optimizer, learning_rate)
    try:
        yield engine
    finally:
        engine.destroy()


def full_precision_state(engine: Any) -> dict[str, torch.Tensor]:
    """Return the whole model's weights in fp32 on the CPU, at any ZeRO stage.

    A collective: every rank calls it, the main rank gets the weights. They are gathered parameter
    by parameter, so that no more than one is whole on a device.
    """
    from deepspeed.utils import safe_get_full_fp32_param

    keep = torch.distributed.get_rank() == 0
    state: dict[str, torch.Tensor] = {}
    for name, parameter in engine.module.named_parameters():
        value = safe_get_full_fp32_param(parameter)
        if value is None:  # without ZeRO the parameter itself is whole
            value = parameter
        if keep:
            state[name] = value.detach().float().cpu().clone()
    persistent = engine.module.state_dict().keys()
    for name, buffer in engine.module.named_buffers():
        if name in persistent:
            state[name] = buffer.detach().cpu().clone()
    return state
