"""What decides how much memory a rank needs, beside the activations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from headrace.planning.activations import DeviceKind

PrecisionName = Literal["fp32", "bf16", "fp16"]

_MOMENTS = {"adam": 2, "adamw": 2, "lamb": 2, "lion": 1, "adagrad": 1, "sgd": 0}
"""fp32 numbers that an optimizer keeps for each parameter; with momentum SGD keeps one."""
_FUSED = frozenset({"adam", "adamw", "lamb", "lion"})
"""Optimizers that DeepSpeed computes in place on a GPU, by kernels of its own."""


@dataclass(frozen=True)
class Sizes:
    """The parameters of a network."""

    groups: tuple[tuple[int, ...], ...]
    """Numbers in each trained parameter, by group of the optimizer."""
    frozen: int = 0
    """Numbers in parameters that are not trained."""

    @property
    def trained(self) -> int:
        """Numbers in all trained parameters."""
        return sum(map(sum, self.groups))

    @property
    def all(self) -> int:
        """Numbers in all parameters."""
        return self.trained + self.frozen

    @property
    def largest(self) -> int:
        """Numbers in the largest trained parameter."""
        return max((size for group in self.groups for size in group), default=0)

    @property
    def largest_group(self) -> int:
        """Numbers in the largest group of the optimizer."""
        return max(map(sum, self.groups), default=0)

    def smaller_than(self, threshold: int) -> int:
        """Numbers in trained parameters of fewer numbers than that."""
        return sum(size for group in self.groups for size in group if size < threshold)


@dataclass(frozen=True)
class Setup:
    """How a network is trained: precision, optimizer, ZeRO and its buffers."""

    kind: DeviceKind
    precision: PrecisionName
    stage: int
    ranks: int
    moments: int = 2
    """fp32 numbers a parameter that the optimizer keeps."""
    fused: bool = True
    """Whether the optimizer computes in place; PyTorch's own makes two arrays beside."""
    accumulation: int = 1
    offload_optimizer: Literal["cpu", "nvme"] | None = None
    offload_param: Literal["cpu", "nvme"] | None = None
    overlap_comm: bool = False
    contiguous_gradients: bool = True
    reduce_bucket_size: int = 500_000_000
    prefetch_bucket_size: int = 50_000_000
    max_live_parameters: int = 1_000_000_000
    max_reuse_distance: int = 1_000_000_000
    param_persistence_threshold: int = 100_000
    sub_group_size: int = 1_000_000_000
    second_share_ranks: int = 1
    """ZeRO++: ranks that a second share of the weights is divided among (``hpz``); 1: none."""
    nvme_buffers: int = 4
    """Buffers of the size of the largest parameter through which NVMe is read and written."""

    @property
    def weight_bytes(self) -> int:
        """Bytes of a weight that the network computes with, and of its gradient."""
        return 4 if self.precision == "fp32" else 2

    @property
    def divided(self) -> int:
        """Ranks that optimizer states are divided among."""
        return self.ranks if self.stage >= 1 else 1

    def with_stage(self, stage: int, offload: Literal["cpu"] | None = None) -> Setup:
        """The same with another ZeRO stage, and DeepSpeed's own default for overlapping."""
        return replace(
            self,
            stage=stage,
            overlap_comm=self.overlap_comm if stage == self.stage else stage == 3,
            offload_optimizer=offload,
            offload_param=None,
            second_share_ranks=self.second_share_ranks if stage == self.stage else 1,
        )


def setup_of(
    section: Mapping[str, Any],
    *,
    kind: DeviceKind,
    precision: PrecisionName,
    ranks: int,
    accumulation: int,
) -> Setup:
    """Read DeepSpeed's part of a run config.

    Args:
        section: checked, so that its values have the types that DeepSpeed wants.
        kind: kind of the devices that are asked for.
        precision: format that the weights are computed with.
        ranks: number of ranks.
        accumulation: micro-batches of a step on each rank.
    """
    zero: Mapping[str, Any] = section.get("zero_optimization") or {}
    optimizer = section["optimizer"]
    name, params = str(optimizer["type"]).lower(), optimizer.get("params", {})
    stage = int(zero.get("stage", 0))
    overlap = zero.get("overlap_comm")
    offloaded = {key: (zero.get(key) or {}) for key in ("offload_optimizer", "offload_param")}
    devices = {key: str(each.get("device", "none")) for key, each in offloaded.items()}

    def number(key: str, default: int) -> int:
        return int(float(zero.get(f"stage3_{key}", zero.get(key, default))))

    return Setup(
        kind=kind,
        precision=precision,
        stage=stage,
        ranks=ranks,
        moments=1 if name == "sgd" and params.get("momentum") else _MOMENTS[name],
        fused=kind == "cuda" and name in _FUSED and not params.get("torch_adam", False),
        accumulation=accumulation,
        offload_optimizer=_device(devices["offload_optimizer"]) if stage else None,
        offload_param=_device(devices["offload_param"]) if stage == 3 else None,
        overlap_comm=stage == 3 if overlap is None else bool(overlap),
        contiguous_gradients=bool(zero.get("contiguous_gradients", True)),
        reduce_bucket_size=number("reduce_bucket_size", Setup.reduce_bucket_size),
        prefetch_bucket_size=number("prefetch_bucket_size", Setup.prefetch_bucket_size),
        max_live_parameters=number("max_live_parameters", Setup.max_live_parameters),
        max_reuse_distance=number("max_reuse_distance", Setup.max_reuse_distance),
        param_persistence_threshold=number(
            "param_persistence_threshold", Setup.param_persistence_threshold
        ),
        sub_group_size=number("sub_group_size", Setup.sub_group_size),
        second_share_ranks=number("zero_hpz_partition_size", 1),
        nvme_buffers=int(offloaded["offload_optimizer"].get("buffer_count", 4)),
    )


def _device(name: str) -> Literal["cpu", "nvme"] | None:
    if name == "cpu":
        return "cpu"
    return "nvme" if name == "nvme" else None
