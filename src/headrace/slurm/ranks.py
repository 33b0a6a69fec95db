"""Ranks that ``srun`` starts, one a task: SLURM's variables as those of a process group.

DeepSpeed and PyTorch do not know SLURM's variables; ``torchrun`` and ``deepspeed`` set their own,
which go before.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping

FIRST_PORT = 20000
PORTS = 10000
"""Below the range from which Linux gives ports to clients (32768 and up)."""


def adopt_step(environment: MutableMapping[str, str]) -> None:
    """Give a task of a job step the variables of its rank, if no launcher has done so.

    A batch script is no step (it has ``SLURM_PROCID`` as well), and nothing is done outside one,
    nor in a step of one task: that may be somebody's shell.  Variables that are set stay.
    """
    if "RANK" in environment or not in_step(environment):
        return
    for name, value in variables_of_step(environment).items():
        environment.setdefault(name, value)


def in_step(environment: Mapping[str, str]) -> bool:
    """Whether this process is one of several tasks that ``srun`` started."""
    several = environment.get("SLURM_STEP_NUM_TASKS", "1") != "1"
    return several and "SLURM_PROCID" in environment and "SLURM_STEP_ID" in environment


def variables_of_step(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what ``torch.distributed`` and DeepSpeed read, made of a step's variables.

    Every task of a step computes the same address and port.  Tasks that see a single device each
    (``--gpus-per-task=1``) all have it as number 0.
    """
    node = int(environment.get("SLURM_NODEID", "0"))
    here = tasks_per_node(environment["SLURM_STEP_TASKS_PER_NODE"])[node]
    local = int(environment["SLURM_LOCALID"])
    devices = environment.get("CUDA_VISIBLE_DEVICES")
    if devices is not None and len(devices.split(",")) == 1:
        local = 0
    step = int(environment["SLURM_STEP_ID"])
    return {
        "RANK": environment["SLURM_PROCID"],
        "WORLD_SIZE": environment["SLURM_STEP_NUM_TASKS"],
        "LOCAL_RANK": str(local),
        "LOCAL_WORLD_SIZE": str(here),
        "LOCAL_SIZE": str(here),  # DeepSpeed's name for it: shared memory is for one node alone
        "MASTER_ADDR": first_host(environment["SLURM_STEP_NODELIST"]),
        "MASTER_PORT": str(port_of(int(environment["SLURM_JOB_ID"]), step)),
    }


def cpus_of_rank(environment: Mapping[str, str], cpus: int) -> int:
    """Return how many CPUs a rank has for itself.

    Args:
        environment: of the rank.
        cpus: those that it may use; ``srun`` gives a task its own, other launchers give the ranks
            of a node all of them.
    """
    is_task = environment.get("SLURM_STEP_NUM_TASKS") == environment.get("WORLD_SIZE")
    if is_task and "SLURM_CPUS_PER_TASK" in environment:
        return min(cpus, int(environment["SLURM_CPUS_PER_TASK"]))
    here = int(environment.get("LOCAL_WORLD_SIZE") or environment.get("LOCAL_SIZE") or 1)
    return max(1, cpus // here)


def port_of(job: int, step: int) -> int:
    """Return a port that jobs and steps which share a node do not have in common, most likely."""
    return FIRST_PORT + (job * 8 + step) % PORTS


def tasks_per_node(text: str) -> list[int]:
    """Expand ``2(x3),1``: tasks of each node, in the order of the nodes."""
    counts: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part)
        if match is None:
            raise ValueError(f"not a list of tasks per node: {text}")
        counts += [int(match[1])] * int(match[2] or 1)
    return counts


def first_host(nodes: str) -> str:
    """Return the first host of a list such as ``r[01-04,09]n[1-2],login``: ``r01n1``."""
    depth = 0
    end = len(nodes)
    for position, letter in enumerate(nodes):
        depth += (letter == "[") - (letter == "]")
        if letter == "," and depth == 0:
            end = position
            break
    return re.sub(r"\[([^\],-]+)[^\]]*\]", r"\1", nodes[:end])
