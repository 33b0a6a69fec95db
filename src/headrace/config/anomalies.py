"""The section ``headrace.anomalies``: what is done about a step that is not as it should be."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from headrace.config.section import Section

AnomalyAction = Literal["stop", "skip", "rollback"]


class SpikeConfig(Section):
    """Losses and gradients that are finite and far above those of the steps before."""

    action: AnomalyAction = "skip"
    """As for `not_finite`."""
    window: int = Field(100, ge=4)
    """Steps that a step is compared with: the last ones that were applied, as soon as there are so
    many."""
    deviations: float | None = Field(10.0, gt=0)
    """A loss is a spike above the median of the window plus this many times its spread: the median
    distance from the median times 1.4826 (for a normal distribution, a standard deviation), and at
    least 1 % of the median. `null`: losses are not looked at."""
    gradient_ratio: float | None = Field(None, gt=1)
    """A gradient norm is a spike above this many times the median of the window. Default: norms are
    not looked at."""


class AnomaliesConfig(Section):
    """What is done about a step whose loss or gradient is not as it should be."""

    not_finite: AnomalyAction = "stop"
    """A loss or gradient norm that is infinite or no number, in fp32 and bf16 (in fp16 the loss
    scaler skips such steps). `stop`: end the run with exit code 1. `skip`: the step changes
    nothing, on any rank. `rollback`: go back to the last checkpoint and leave the step out on the
    way back. The samples of the step are recorded in `anomalies.jsonl`."""
    spike: SpikeConfig | None = None
    """What a spike is, and what is done about it. Default: nothing."""
    steps_before: int = Field(0, ge=0)
    """With `rollback`: steps before the bad one, since the checkpoint, that are left out as well:
    what made the loss rise may be an earlier step."""
    rollbacks: int = Field(3, ge=1)
    """A branch that wants to go back more often than this ends with exit code 1."""
    skips_in_a_row: int = Field(10, ge=1)
    """More steps that have to be skipped one after the other end the run with exit code 1."""
