"""What all-reduces and transfers between nodes reach, measured in the process group of training."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import Store

SIZES = {"cpu": (1 << 20, 16 << 20, 64 << 20), "cuda": (1 << 20, 64 << 20, 256 << 20)}
"""Bytes of an all-reduce."""
REPEATS = 5
"""Of each, of which the median counts; one more comes before."""
LINK_BYTES = 16 << 20
LINK_ROUNDS = 3
"""Other nodes that each node is paired with, where there are so many."""


@dataclass
class Rates:
    """In GB/s, 10^9 bytes."""

    all_ranks: dict[int, float] = field(default_factory=dict)
    """Bytes -> rate of the bus: bytes × 2(n - 1)/n, over the time."""
    node: float | None = None
    """The same at the largest size, among the ranks of this node."""
    links: float | None = None
    """To another node and back, the best of several: a slow partner does not count."""


def measure(
    store: Store, rank: int, nodes: Sequence[Sequence[int]], device: torch.device, seconds: float
) -> Rates:
    """Make the process group, and measure.

    Args:
        store: for the ranks to find each other.
        rank: of this process.
        nodes: ranks of each node.
        device: where this rank computes.
        seconds: after which a collective is given up, where the backend can.

    Raises:
        RuntimeError: if the ranks do not reach each other.
    """
    size = sum(map(len, nodes))
    limit = timedelta(seconds=seconds)
    backend = "nccl" if device.type == "cuda" else "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=limit)
    try:
        rates = Rates()
        sizes = SIZES[device.type]
        rates.all_ranks = {count: _all_reduce_rate(count, size, None, device) for count in sizes}
        if len(nodes) > 1:
            # every rank takes part in making each group; then all nodes measure at the same time
            groups = [dist.new_group(list(ranks), timeout=limit) for ranks in nodes]
            dist.barrier()
            for ranks, group in zip(nodes, groups, strict=True):
                if rank in ranks and len(ranks) > 1:
                    rates.node = _all_reduce_rate(sizes[-1], len(ranks), group, device)
            rates.links = _link_rate(rank, nodes, device)
        dist.barrier()
        return rates
    finally:
        dist.destroy_process_group()


def _all_reduce_rate(
    count: int, size: int, group: dist.ProcessGroup | None, device: torch.device
) -> float:
    data = torch.ones(count // 4, device=device)
    times = []
    for _ in range(REPEATS + 1):
        data.fill_(1.0)
        _finish(device)
        start = time.perf_counter()
        dist.all_reduce(data, group=group)
        _finish(device)
        times.append(time.perf_counter() - start)
    if int(data[0]) != size or int(data[-1]) != size:
        raise RuntimeError(f"an all-reduce of ones among {size} ranks came to {data[0]:g}")
    return count * 2 * (size - 1) / size / statistics.median(times[1:]) / 1e9


def _link_rate(rank: int, nodes: Sequence[Sequence[int]], device: torch.device) -> float | None:
    """To the first ranks of other nodes and back."""
    firsts = [ranks[0] for ranks in nodes]
    data = torch.ones(LINK_BYTES // 4, device=device)
    best = None
    for pairs in pairings(len(nodes))[:LINK_ROUNDS]:
        dist.barrier()
        for one, other in pairs:
            if rank not in (firsts[one], firsts[other]):
                continue
            partner = firsts[other] if rank == firsts[one] else firsts[one]
            _there_and_back(data, partner, begins=rank < partner)  # the first way is longer
            _finish(device)
            start = time.perf_counter()
            for _ in range(REPEATS):
                _there_and_back(data, partner, begins=rank < partner)
            _finish(device)
            rate = 2 * REPEATS * LINK_BYTES / (time.perf_counter() - start) / 1e9
            best = rate if best is None else max(best, rate)
    dist.barrier()
    return best


def _there_and_back(data: torch.Tensor, partner: int, *, begins: bool) -> None:
    if begins:
        dist.send(data, partner)
        dist.recv(data, partner)
    else:
        dist.recv(data, partner)
        dist.send(data, partner)


def pairings(count: int) -> list[list[tuple[int, int]]]:
    """Return rounds in which everybody is paired with somebody else each time, all with all.

    The circle method for tournaments; of an odd number one has a rest in each round.
    """
    seats: list[int | None] = [*range(count), *([None] if count % 2 else [])]
    half = len(seats) // 2
    rounds = []
    for _ in range(len(seats) - 1):
        facing = zip(seats[:half], reversed(seats[half:]), strict=True)
        rounds.append([(a, b) for a, b in facing if a is not None and b is not None])
        seats = [seats[0], seats[-1], *seats[1:-1]]
    return rounds


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
