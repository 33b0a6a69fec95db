"""Which floating-point format a run trains in, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from headrace.config.checks import fp16_problems
from headrace.errors import ConfigError, Problem
from headrace.training.distributed import World, gather_json

NATIVE_BF16 = (8, 0)
"""Compute capability from which on a GPU computes bf16 itself."""
_NARROW: tuple[Literal["fp16", "bf16"], ...] = ("fp16", "bf16")

FP16_DEFAULTS = {
    "enabled": True,
    "initial_scale_power": 12,
    "loss_scale_window": 500,
    "hysteresis": 2,
    "min_loss_scale": 1,
}
"""Dynamic loss scaling as BigScience used it on V100."""


@dataclass(frozen=True)
class Precision:
    """A chosen format."""

    name: Literal["fp32", "bf16", "fp16"]
    """Of the weights that the network computes with."""
    reason: str
    """Why it was chosen, for the log."""
    sections: Mapping[str, Any]
    """DeepSpeed sections that select it."""


def capability_of(device: torch.device) -> tuple[int, int] | None:
    """Return the compute capability of a GPU, None for another device."""
    return torch.cuda.get_device_capability(device) if device.type == "cuda" else None


def least_capability(world: World) -> tuple[int, int] | None:
    """Return the lowest compute capability of all ranks' GPUs; a collective.

    One format is chosen for all: ranks that differ in it would exchange arrays of other sizes.
    """
    found = [each for each in gather_json(capability_of(world.device), world) if each is not None]
    return (int(min(found)[0]), int(min(found)[1])) if found else None


def precision_of_config(deepspeed_section: Mapping[str, Any]) -> Literal["fp32", "bf16", "fp16"]:
    """Return the format that DeepSpeed's sections ask for."""
    for name in _NARROW:
        section = deepspeed_section.get(name)
        if section and section.get("enabled"):
            return name
    return "fp32"


def choose_precision(
    mode: str,
    deepspeed_section: Mapping[str, Any],
    device: torch.device,
    capability: tuple[int, int] | None = None,
) -> Precision:
    """Return the precision of a run.

    Args:
        mode: ``config`` (as DeepSpeed's sections say) or ``auto``.
        deepspeed_section: DeepSpeed's part of the config.
        device: where this rank computes.
        capability: the lowest of all ranks' GPUs; default: that of ``device``.

    Native bf16 begins with compute capability 8.0: ``torch.cuda.is_bf16_supported()`` says yes on a
    V100 too, through slow emulation.

    Raises:
        ConfigError: if ``auto`` comes to fp16, and there is no ZeRO stage; if the config asks for
            bf16 on a GPU that would emulate it.
    """
    capability = capability or capability_of(device)
    said = "" if capability is None else f"compute capability {capability[0]}.{capability[1]}"
    if mode == "config":
        name = precision_of_config(deepspeed_section)
        if name == "fp32":
            return Precision(name, "neither fp16 nor bf16 is enabled in the config", {})
        if name == "bf16" and capability is not None and capability < NATIVE_BF16:
            what = f"the GPU has no bf16 ({said}), PyTorch would emulate it slowly"
            remedy = 'Set headrace.precision to "auto", or enable fp16 with a ZeRO stage'
            raise ConfigError(Problem(what, "bf16.enabled", "true", remedy))
        return Precision(name, f"{name}.enabled in the config", {name: deepspeed_section[name]})
    off = {"fp16": {"enabled": False}, "bf16": {"enabled": False}}
    if capability is None:
        return Precision("fp32", f"auto: the device is {device.type}, not a GPU", off)
    if capability >= NATIVE_BF16:
        bf16 = {**deepspeed_section.get("bf16", {}), "enabled": True}
        return Precision("bf16", f"auto: {said} has bf16", {**off, "bf16": bf16})
    fp16 = {**FP16_DEFAULTS, **deepspeed_section.get("fp16", {}), "enabled": True}
    problems = fp16_problems({**deepspeed_section, "fp16": fp16})
    if problems:
        raise ConfigError(problems)
    return Precision("fp16", f"auto: {said} has no native bf16", {**off, "fp16": fp16})
