"""Checks of the offloading that a run config asks for, as far as no node has to be looked at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headrace.errors import Problem

_ZERO = "zero_optimization"
_LEAST_STAGE = {"offload_optimizer": 1, "offload_param": 3}
_GPU_ALONE = frozenset({"lamb"})
"""Optimizers that DeepSpeed computes with kernels of a GPU, wherever their states are."""


def offload_problems(section: Mapping[str, Any]) -> list[Problem]:
    """Find offloading that DeepSpeed would leave out without a word, or fail at."""
    zero = section.get(_ZERO)
    if not isinstance(zero, Mapping):
        return []
    problems = []
    stage = zero.get("stage", 0)
    for key, least in _LEAST_STAGE.items():
        settings = zero.get(key)
        if not isinstance(settings, Mapping) or settings.get("device", "none") == "none":
            continue
        where = f"{_ZERO}.{key}"
        if isinstance(stage, int) and stage < least:
            what, remedy = f"it needs ZeRO {least}", f"Set {_ZERO}.stage to {least}, or remove it"
            problems.append(Problem(what, where, f"stage {stage}", remedy))
        if settings["device"] == "nvme" and not settings.get("nvme_path"):
            what, remedy = "NVMe needs a folder", "Give the path of a folder on a local NVMe"
            problems.append(Problem(what, f"{where}.nvme_path", remedy=remedy))
        if settings["device"] == "nvme" and stage in (1, 2):
            what, remedy = "ZeRO 1 and 2 offload to the CPU alone", f"Set {_ZERO}.stage to 3"
            problems.append(Problem(what, f"{where}.device", "nvme", remedy))
        if key == "offload_optimizer":
            problems += _problems_of_optimizer(section, where)
    return problems


def _problems_of_optimizer(section: Mapping[str, Any], where: str) -> list[Problem]:
    optimizer = section.get("optimizer")
    kind = str(optimizer.get("type", "")).lower() if isinstance(optimizer, Mapping) else ""
    if kind not in _GPU_ALONE:
        return []
    what = f"DeepSpeed has a {kind} for GPUs alone"
    remedy = "Take another optimizer, such as AdamW, or do not offload it"
    return [Problem(what, where, kind, remedy)]
