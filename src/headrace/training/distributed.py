"""The process group: one rank a process, started by deepspeed, torchrun, srun or by hand."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed

from headrace.errors import Problem, UserError
from headrace.slurm.ranks import adopt_step, cpus_of_rank


@dataclass(frozen=True)
class World:
    """This process among all processes of the run."""

    rank: int
    """Number of this process, 0 to ``size - 1``."""
    size: int
    """Number of processes."""
    device: torch.device
    """Where this rank computes."""

    @property
    def is_main(self) -> bool:
        """Whether this rank writes files and shows progress."""
        return self.rank == 0


def environment_rank() -> int:
    """Return the rank that the launcher gave this process, before any group exists."""
    adopt_step(os.environ)
    return int(os.environ.get("RANK", "0"))


def environment_world_size() -> int:
    """Return the number of ranks that the launcher started."""
    adopt_step(os.environ)
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def process_group() -> Iterator[World]:
    """Join the process group for the time of a ``with`` block.

    Without a launcher the process is a group of one.  The group is destroyed at the end: a rank
    that exits without this can abort.
    """
    import deepspeed
    from deepspeed.accelerator import get_accelerator

    from headrace.training import extensions

    adopt_step(os.environ)
    os.environ.setdefault("RANK", "0")
    os.environ.setdefault("WORLD_SIZE", "1")
    os.environ.setdefault("LOCAL_RANK", "0")
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    own_port = "MASTER_PORT" not in os.environ
    if own_port:
        os.environ["MASTER_PORT"] = str(free_port())
    _set_threads()
    extensions.prepare()
    accelerator = get_accelerator()
    local_rank = int(os.environ["LOCAL_RANK"])
    accelerator.set_device(local_rank)
    device = torch.device(accelerator.device_name(local_rank))
    deepspeed.init_distributed(dist_backend=accelerator.communication_backend_name(), verbose=False)
    torch.distributed.barrier()
    extensions.release_names(torch.distributed.get_rank())
    if own_port:
        del os.environ["MASTER_PORT"]  # it is taken now: a run started from here needs its own
    try:
        yield World(
            rank=torch.distributed.get_rank(),
            size=torch.distributed.get_world_size(),
            device=device,
        )
    finally:
        torch.distributed.destroy_process_group()


def leave_hangs_to_the_watch(*, leave: bool = True) -> None:
    """Let collectives of all groups that there are wait for a day, or again for DeepSpeed's time.

    NCCL would abort the process after ten minutes, and gloo raise an error after ten or thirty:
    too early for the main rank's longer work, and too late to say who is behind.  Nothing is
    changed where the user has chosen a time, by ``DEEPSPEED_TIMEOUT``.
    """
    from torch.distributed import distributed_c10d

    if "DEEPSPEED_TIMEOUT" in os.environ:
        return
    for group in list(distributed_c10d._world.pg_map):
        limit = timedelta(days=1) if leave else timedelta(minutes=10)
        distributed_c10d._set_pg_timeout(limit, group)


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _set_threads() -> None:
    """Use the CPUs that are this rank's, unless the user chose a number."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(cpus_of_rank(os.environ, len(os.sched_getaffinity(0))))


def gather_json(value: Any, world: World) -> list[Any]:
    """Return every rank's JSON-able value, in rank order, on every rank."""
    if world.size == 1:
        return [json.loads(json.dumps(value))]
    payload = torch.tensor(list(json.dumps(value).encode()), dtype=torch.uint8)
    length = torch.tensor([len(payload)], dtype=torch.int64, device=world.device)
    lengths = [torch.zeros_like(length) for _ in range(world.size)]
    torch.distributed.all_gather(lengths, length)
    longest = int(max(item.item() for item in lengths))
    padded = torch.zeros(longest, dtype=torch.uint8, device=world.device)
    padded[: len(payload)] = payload.to(world.device)
    parts = [torch.zeros_like(padded) for _ in range(world.size)]
    torch.distributed.all_gather(parts, padded)
    return [
        json.loads(bytes(part[: int(size.item())].cpu().tolist()))
        for part, size in zip(parts, lengths, strict=True)
    ]


@contextmanager
def failing_together(world: World) -> Iterator[None]:
    """Raise on every rank if the block raised a :class:`UserError` or ``OSError`` on any rank.

    Without this the ranks whose input is fine would wait in the next collective for the one that
    left.  The problems of all ranks are joined; those that not all ranks have carry their rank.
    """
    mine: tuple[Problem, ...] = ()
    try:
        yield
    except UserError as error:
        mine = error.problems
    except OSError as error:  # a full disk, a folder that cannot be written
        mine = (Problem(error.strerror or str(error), str(error.filename or "file system")),)
    gathered = gather_json([asdict(problem) for problem in mine], world)
    by_problem: dict[Problem, list[int]] = {}
    for rank, problems in enumerate(gathered):
        for fields in problems:
            by_problem.setdefault(Problem(**fields), []).append(rank)
    if not by_problem:
        return
    joined = []
    for problem, ranks in by_problem.items():
        if len(set(ranks)) == world.size:
            joined.append(problem)
        else:
            where = f"rank {', '.join(map(str, sorted(set(ranks))))}: {problem.where}"
            joined.append(Problem(problem.what, where, problem.value, problem.remedy))
    together = UserError(joined)
    together.joint = True
    raise together


def on_any_rank(value: bool, world: World) -> bool:
    """Whether something is so on any rank; one answer for all."""
    if world.size == 1:
        return value
    found = torch.tensor([int(value)], device=world.device)
    torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX)
    return bool(found.item())


def barrier(world: World) -> None:
    """Wait until every rank is here."""
    if world.size > 1:
        torch.distributed.barrier()
