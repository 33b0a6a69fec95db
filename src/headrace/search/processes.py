"""Who a process is, for others on the same or another machine, and whether it is gone."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import psutil


@cache
def this_process() -> dict[str, Any]:
    """Host, process and SLURM job, as plain data."""
    return {
        "host": socket.gethostname(),
        "namespace": _namespace(),
        "pid": os.getpid(),
        "started": psutil.Process().create_time(),
        "job": _job(),
    }


def is_gone(other: Mapping[str, Any]) -> bool:
    """Whether a process has been of this host and is no more; False for those of other hosts."""
    me = this_process()
    if (other["host"], other["namespace"]) != (me["host"], me["namespace"]):
        return False
    try:
        process = psutil.Process(other["pid"])
        if process.status() == psutil.STATUS_ZOMBIE:  # dead, and nobody has asked how
            return True
        started: float = process.create_time()
    except psutil.NoSuchProcess:
        return True
    # a number may have been given to another process since
    return abs(started - float(other["started"])) > 1


def _namespace() -> str:
    """Containers may share the name of a host, but not its process ids."""
    with suppress(OSError):
        return str(Path("/proc/self/ns/pid").readlink())
    return ""


def _job() -> str | None:
    """The SLURM job, as ``squeue`` names it."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")
