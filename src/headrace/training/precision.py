"""Which floating-point format a run trains in, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from headrace.config.checks import fp16_problems
from headrace.errors import ConfigError

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

    name: str
    """``fp32``, ``bf16`` or ``fp16``."""
    reason: str
    """Why it was chosen, for the log."""
    sections: Mapping[str, Any]
    """DeepSpeed sections that select it."""


def choose_precision(
    mode: str, deepspeed_section: Mapping[str, Any], device: torch.device
) -> Precision:
    """Return the precision of a run.

    Args:
        mode: ``config`` (as DeepSpeed's sections say) or ``auto``.
        deepspeed_section: DeepSpeed's part of the config.
        device: where this rank computes.

    ``auto`` asks for the compute capability: ``torch.cuda.is_bf16_supported()`` says yes on a V100
    too, through slow emulation.

    Raises:
        ConfigError: if ``auto`` comes to fp16, and there is no ZeRO stage.
    """
    if mode == "config":
        for name in ("fp16", "bf16"):
            section = deepspeed_section.get(name)
            if section and section.get("enabled"):
                return Precision(name, f"{name}.enabled in the config", {name: section})
        return Precision("fp32", "neither fp16 nor bf16 is enabled in the config", {})
    off = {"fp16": {"enabled": False}, "bf16": {"enabled": False}}
    if device.type != "cuda":
        return Precision("fp32", f"auto: the device is {device.type}, not a GPU", off)
    major, minor = torch.cuda.get_device_capability(device)
    capability = f"compute capability {major}.{minor}"
    if major >= 8:
        bf16 = {**deepspeed_section.get("bf16", {}), "enabled": True}
        return Precision("bf16", f"auto: {capability} has bf16", {**off, "bf16": bf16})
    fp16 = {**FP16_DEFAULTS, **deepspeed_section.get("fp16", {}), "enabled": True}
    problems = fp16_problems({**deepspeed_section, "fp16": fp16})
    if problems:
        raise ConfigError(problems)
    return Precision("fp16", f"auto: {capability} has no native bf16", {**off, "fp16": fp16})
