"""Checks of the section ``headrace.checkpoint`` that need other sections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headrace.config.schema import HeadraceConfig
from headrace.errors import Problem


def check_checkpoints(config: HeadraceConfig, deepspeed: Mapping[str, Any]) -> list[Problem]:
    """Find settings of checkpoints that cannot be kept with the rest of a config."""
    problems = []
    checkpoint = config.checkpoint
    if checkpoint.keep_best and not config.data.validation:
        problems.append(
            Problem(
                "there is no validation loss without validation data",
                "headrace.checkpoint.keep_best",
                str(checkpoint.keep_best),
                "Give headrace.data.validation, or remove it",
            )
        )
    zero = deepspeed.get("zero_optimization")
    offload = zero.get("offload_optimizer") if isinstance(zero, Mapping) else None
    device = offload.get("device") if isinstance(offload, Mapping) else None
    if checkpoint.asynchronous and device == "nvme":
        problems.append(
            Problem(
                "states on NVMe are files that training changes, which cannot be saved meanwhile",
                "headrace.checkpoint.asynchronous",
                "true",
                "Set it to false, or offload to the cpu",
            )
        )
    own = deepspeed.get("checkpoint")
    if isinstance(own, Mapping) and own.get("writer") is not None:
        problems.append(
            Problem(
                "Headrace writes the files of checkpoints itself, to hash them",
                "checkpoint.writer",
                remedy="Remove it; headrace.checkpoint.asynchronous writes in the background",
            )
        )
    return problems
