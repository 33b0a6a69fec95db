"""How large the checkpoints of a run are, who writes them, and how long that takes.

DeepSpeed has the main rank write the weights that the network computes with, and from ZeRO 1 on
every rank its share of the optimizer; without ZeRO the main rank writes all, in ZeRO 3 every rank
its share of all.  The bandwidths are assumptions until they are measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.planning.assumptions import COPY_BANDWIDTH, NODE_BANDWIDTH, STORAGE_BANDWIDTH

if TYPE_CHECKING:
    from headrace.planning.setup import Setup, Sizes


@dataclass(frozen=True)
class CheckpointSize:
    """The bytes of a checkpoint."""

    main: float
    """Written by the main rank alone."""
    each: float
    """Written by every rank, the main rank too."""
    ranks: int

    @property
    def whole(self) -> float:
        """All files together."""
        return self.main + self.ranks * self.each


@dataclass(frozen=True)
class Storage:
    """How fast checkpoints are written and read, in bytes a second."""

    node: float = NODE_BANDWIDTH
    shared: float = STORAGE_BANDWIDTH
    copy: float = COPY_BANDWIDTH


def checkpoint_size(sizes: Sizes, setup: Setup) -> CheckpointSize:
    """Return the size of a checkpoint.

    With N parameters, T of them trained, R ranks, w bytes a weight and m moments: w N for the
    weights (ZeRO 3: only of those that are not trained), 4 T for those that the optimizer changes
    (not without ZeRO in fp32), 4 m T for its moments.

    Args:
        sizes: parameters of the network.
        setup: precision, optimizer, ZeRO stage and ranks.
    """
    width = setup.weight_bytes
    states = 4 * setup.moments * sizes.trained
    if setup.stage >= 1 or setup.precision != "fp32":
        states += 4 * sizes.trained
    if setup.stage == 0:
        return CheckpointSize(width * sizes.all + states, 0, setup.ranks)
    if setup.stage < 3:
        return CheckpointSize(width * sizes.all, states / setup.ranks, setup.ranks)
    return CheckpointSize(0, (states + width * sizes.frozen) / setup.ranks, setup.ranks)


def copy_seconds(size: CheckpointSize, storage: Storage) -> float:
    """Return how long the main rank, which has most, copies its part to the memory of its node."""
    return (size.main + size.each) / storage.copy


def write_seconds(size: CheckpointSize, nodes: int, storage: Storage) -> float:
    """Return how long a checkpoint is written: by the main rank's node, or by all at once."""
    first = size.main + size.ranks / nodes * size.each
    return max(first / storage.node, size.whole / storage.shared)


def load_seconds(size: CheckpointSize, nodes: int, storage: Storage) -> float:
    """Return how long a checkpoint is read: by the ranks that compare it with its hashes, and then
    by those that load it, on each node once."""
    compared = size.whole / nodes
    loaded = size.main + size.ranks / nodes * size.each
    return max((compared + loaded) / storage.node, (compared + loaded) * nodes / storage.shared)
