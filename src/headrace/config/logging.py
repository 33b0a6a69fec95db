"""The section of a run config about what is logged, and where to."""

from __future__ import annotations

from pydantic import Field

from headrace.config.section import Section


class LoggingConfig(Section):
    """What is logged, and how often."""

    every_steps: int = Field(10, ge=1)
    """Optimizer steps between two lines of `metrics.jsonl`."""
    tensorboard: bool = True
    """Write TensorBoard events to the run folder."""
    peak_flops: float | None = Field(None, gt=0)
    """Floating-point operations a second that the device of one rank can do at most, for `mfu`.
    Default: known for V100 in fp16, and for A100, H100 and H200 in 16 bits; else there is no
    `mfu`."""
