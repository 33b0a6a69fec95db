"""Offloading to the CPU and to NVMe: what it needs on a node, checked before anything is loaded."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping
from typing import Any

from filelock import FileLock

from headrace.errors import ConfigError, Problem
from headrace.training import extensions

logger = logging.getLogger(__name__)

_ADAM = frozenset({"adam", "adamw"})
_ZERO = "zero_optimization"


def check_offload(section: Mapping[str, Any]) -> None:
    """Check that what a config offloads can be offloaded here, and build what that needs.

    The optimizer's step is then computed by DeepSpeed's own Adam for CPUs, which is compiled once;
    NVMe is read and written through libaio.

    Args:
        section: DeepSpeed's part of the config.

    Raises:
        ConfigError: with what is missing on this node.
    """
    zero = section.get(_ZERO) or {}
    devices = {
        key: str((zero.get(key) or {}).get("device", "none"))
        for key in ("offload_optimizer", "offload_param")
    }
    problems = [
        problem
        for key, device in devices.items()
        if device == "nvme"
        for problem in _problems_of_nvme(f"{_ZERO}.{key}")
    ]
    adam = str(section["optimizer"]["type"]).lower() in _ADAM
    if devices["offload_optimizer"] != "none" and adam and not problems:
        own = section["optimizer"].get("params", {}).get("torch_adam", False)
        problems += [] if own else _problems_of_adam()
    if problems:
        raise ConfigError(problems)


def _problems_of_nvme(where: str) -> list[Problem]:
    from deepspeed.ops.op_builder import AsyncIOBuilder

    if AsyncIOBuilder().is_compatible(verbose=False):
        return []
    remedy = "Install libaio with its headers (libaio-dev), or offload to the cpu"
    return [Problem("NVMe needs libaio, which is not here", f"{where}.device", "nvme", remedy)]


def _problems_of_adam() -> list[Problem]:
    """Build DeepSpeed's Adam for CPUs, one process at a time; see :mod:`.extensions`."""
    from deepspeed.ops.op_builder import CPUAdamBuilder

    where, device = f"{_ZERO}.offload_optimizer.device", "cpu"
    compiler = os.environ.get("CXX", "c++")
    remedy = "Install a C++ compiler, or set optimizer.params.torch_adam to true (slower)"
    if shutil.which(compiler) is None:
        what = f"DeepSpeed's Adam for CPUs has to be compiled, and there is no {compiler}"
        return [Problem(what, where, device, remedy)]
    folder = extensions.extensions_dir()
    builder = CPUAdamBuilder()
    with FileLock(folder / f"{builder.name}.build.lock"):
        (folder / builder.name / "lock").unlink(missing_ok=True)
        if not (folder / builder.name / f"{builder.name}.so").exists():
            logger.info("compiling DeepSpeed's Adam for CPUs into %s (once)", folder)
        try:
            builder.load(verbose=False)
        except Exception as error:  # the compiler's failures have many types
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            what = f"DeepSpeed's Adam for CPUs cannot be compiled: {reason}"
            return [Problem(what, where, device, remedy)]
    return []
