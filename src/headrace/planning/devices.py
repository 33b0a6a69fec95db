"""GPUs that a run can be planned for."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.planning.setup import PrecisionName
from headrace.training.flops import peak_of

_GIB = 1 << 30

CONTEXT_BYTES = 1 << 30
"""What CUDA, the libraries' kernels and NCCL's buffers take of a GPU beside PyTorch's tensors."""
USABLE_SHARE = 0.95
"""Of the rest, what tensors can fill: the caching allocator cannot use every gap."""


@dataclass(frozen=True)
class Gpu:
    """A GPU, by its data sheet."""

    name: str
    memory: int
    """Bytes that CUDA reports."""
    capability: tuple[int, int]
    fp32_flops: float
    """Dense FLOP/s in fp32, without TF32."""
    model: str
    """Part of its name that tells its peak in 16 bits."""
    node_bandwidth: float
    """Bytes a second that each GPU sends and receives within a node (NVLink, one direction)."""
    network_bandwidth: float
    """Likewise between nodes: an assumption, which the machine decides."""

    @property
    def usable(self) -> int:
        """Bytes that tensors can fill."""
        return round(USABLE_SHARE * (self.memory - CONTEXT_BYTES))

    @property
    def narrow(self) -> PrecisionName:
        """The format of 16 bits that it computes natively and `auto` takes."""
        return "bf16" if self.capability >= (8, 0) else "fp16"

    def peak_flops(self, precision: PrecisionName) -> float:
        """Dense FLOP/s in a precision."""
        if precision == "fp32":
            return self.fp32_flops
        return peak_of(self.model, precision) or self.fp32_flops


GPUS = (
    Gpu("V100-16", round(15.75 * _GIB), (7, 0), 15.7e12, "V100", 150e9, 12.5e9),
    Gpu("V100-32", round(31.74 * _GIB), (7, 0), 15.7e12, "V100", 150e9, 12.5e9),
    Gpu("A100-40", round(39.39 * _GIB), (8, 0), 19.5e12, "A100", 300e9, 25e9),
    Gpu("A100-80", round(79.15 * _GIB), (8, 0), 19.5e12, "A100", 300e9, 25e9),
    Gpu("H100-80", round(79.11 * _GIB), (9, 0), 67e12, "H100", 450e9, 50e9),
    Gpu("H200-141", round(139.8 * _GIB), (9, 0), 67e12, "H200", 450e9, 50e9),
)
"""SXM modules: NVIDIA's data sheets, and the memory that they report to CUDA."""
