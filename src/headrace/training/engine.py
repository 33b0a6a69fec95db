"""The DeepSpeed engine of one branch."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from transformers import PreTrainedModel

from headrace.config import RunConfig
from headrace.config.checks import batch_arithmetic
from headrace.training.distributed import World
from headrace.training.lora import merged
from headrace.training.param_groups import ParameterGroups
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
    groups: ParameterGroups,
    config: RunConfig,
    world: World,
    precision: Precision,
) -> Iterator[Any]:
    """Give a DeepSpeed engine for a model, and free it at the end of the ``with`` block."""
    import deepspeed
    from deepspeed.runtime.zero import parameter_offload

    section = deepspeed_section(config, world, precision)
    if world.is_main:
        logger.info("%s", groups.describe())
    engine, optimizer, _, _ = deepspeed.initialize(
        model=model, model_parameters=groups.for_optimizer(model), config=section
    )
    groups.check(optimizer, groups.base_rates)
    if world.size == 1 and precision.name == "fp32" and engine.zero_optimization_stage() == 0:
        engine.allreduce_gradients = partial(_complete_gradients, engine.module)
    try:
        yield engine
    finally:
        engine.destroy()
        # DeepSpeed keeps every module that ZeRO-3 ever trained in this list of its own
        parameter_offload.FWD_MODULE_STACK.clear()


def _complete_gradients(module: torch.nn.Module) -> None:
    """Gradients of zero for parameters that have none: all that is left of an exchange with nobody.

    DeepSpeed would flatten all gradients, reduce them over one rank and copy them back, which in
    small networks on a CPU is a few per cent of a step.
    """
    for parameter in module.parameters():
        if parameter.requires_grad and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)


def full_precision_state(
    engine: Any, frozen: Mapping[str, torch.Tensor] | None = None
) -> dict[str, torch.Tensor]:
    """Return the whole model's weights in fp32 on the CPU, at any ZeRO stage, adapters merged.

    A collective: every rank calls it, the main rank gets the weights. They are gathered parameter
    by parameter, so that no more than one is whole on a device.

    Args:
        engine: the DeepSpeed engine.
        frozen: weights that are not trained, as they were before the engine made them 16-bit
            numbers; looked at on the main rank.
    """
    from deepspeed.runtime.zero import GatheredParameters
    from deepspeed.utils import safe_get_full_fp32_param

    keep = torch.distributed.get_rank() == 0
    masters = master_weights(engine.optimizer) if engine.zero_optimization_stage() == 0 else {}
    state: dict[str, torch.Tensor] = {}
    for name, parameter in engine.module.named_parameters():
        if parameter.requires_grad:
            value = safe_get_full_fp32_param(parameter)
        else:  # frozen: the optimizer has no copy
            with GatheredParameters([parameter]):
                value = parameter.detach().clone()
        if value is None:  # without ZeRO every rank has the whole parameter
            value = masters.get(parameter, parameter)
        if keep:
            state[name] = value.detach().float().cpu().clone()
    persistent = engine.module.state_dict().keys()
    for name, buffer in engine.module.named_buffers():
        if name in persistent:
            value = buffer.detach().cpu().clone()
            state[name] = value.float() if value.is_floating_point() else value
    if not keep:
        return state
    known = frozen or {}
    return merged({name: known.get(name, state[name]) for name in state}, engine.module)


def master_weights(optimizer: Any) -> dict[torch.nn.Parameter, torch.Tensor]:
    """Return the fp32 copies of 16-bit parameters without ZeRO, by parameter; they are views.

    DeepSpeed's accessor for full-precision weights does not know these optimizers.
    """
    copies: dict[torch.nn.Parameter, torch.Tensor] = {}
    for number, group in enumerate(getattr(optimizer, "fp16_groups", ())):
        if hasattr(optimizer, "fp32_groups"):  # torch's Adam: one tensor a parameter
            own = optimizer.fp32_groups[number]
        else:  # DeepSpeed's fused Adam: one flat tensor a group
            sizes = [parameter.numel() for parameter in group]
            parts = optimizer.fp32_groups_flat[number][: sum(sizes)].split(sizes)
            own = [part.view_as(parameter) for part, parameter in zip(parts, group, strict=True)]
        copies.update(zip(group, own, strict=True))
    return copies
