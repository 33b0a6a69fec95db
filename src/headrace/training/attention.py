"""Which attention a network computes with, and why: it decides on speed and memory."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel

_LEAST_CAPABILITY_OF_FLASH = (8, 0)


def attention_facts(
    network: PreTrainedModel,
    device: torch.device,
    precision: str,
    *,
    asked_for: str | None,
    is_packed: bool,
) -> dict[str, str]:
    """Return what is said about attention in the record of a start.

    Args:
        network: the network.
        device: where it computes.
        precision: ``fp32``, ``fp16`` or ``bf16``.
        asked_for: ``headrace.model.attention``.
        is_packed: whether rows hold several samples.

    Returns:
        ``attention``, as transformers names it, and ``attention_reason``.
    """
    name = str(network.config._attn_implementation)
    kind = type(network).__name__
    reason = "headrace.model.attention asks for it"
    if asked_for is None:
        reason = "the choice of transformers"
        if name == "eager":
            reason += f", {kind} has no other" if not _has_sdpa(network) else ""
    if name == "sdpa":
        reason += f"; {_kernel(device, precision, is_packed=is_packed)}"
    return {"attention": name, "attention_reason": reason}


def _has_sdpa(network: PreTrainedModel) -> bool:
    return bool(getattr(network, "_supports_sdpa", False))


def _kernel(device: torch.device, precision: str, *, is_packed: bool) -> str:
    """What PyTorch's scaled_dot_product_attention computes with."""
    if device.type != "cuda":
        return f"PyTorch's kernel for the {device.type.upper()}"
    capability: Any = torch.cuda.get_device_capability(device)
    slower = "so PyTorch takes its memory-efficient kernel"
    if capability < _LEAST_CAPABILITY_OF_FLASH:
        found = ".".join(map(str, capability))
        return f"the flash kernel needs compute capability 8.0, this is {found}, {slower}"
    if precision == "fp32":
        return f"the flash kernel computes in fp16 and bf16 alone, {slower}"
    if is_packed:
        return f"the flash kernel takes no mask of packed rows, {slower}"
    return "the flash kernel for rows without padding, else the memory-efficient one"
