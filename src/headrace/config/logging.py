"""The section of a run config about what is logged, and where to."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, field_validator

from headrace.config.section import Section


class WandbConfig(Section):
    """Weights & Biases (extra `wandb`): one run a branch, in a group named after the run."""

    project: str = Field("headrace", min_length=1)
    """Project."""
    entity: str | None = None
    """User or team. Default: that of the API key."""
    mode: Literal["online", "offline"] | None = None
    """`offline`: write into the run folder alone; `wandb sync` sends it later. Default: as the
    variable `WANDB_MODE` says, else `online`."""
    tags: list[str] = Field([])
    """Tags of the runs."""


class MlflowConfig(Section):
    """MLflow (extra `mlflow`): one run a branch."""

    tracking_uri: str | None = None
    """Address of a server, or a database such as `sqlite:////data/mlflow.db`, without a password.
    Default: that in the variable `MLFLOW_TRACKING_URI`, else `mlflow.db` in the run folder."""
    experiment: str = Field("headrace", min_length=1)
    """Experiment; it is made if there is none of this name."""

    @field_validator("tracking_uri")
    @classmethod
    def _has_no_password(cls, value: str | None) -> str | None:
        authority = (value or "").partition("://")[2].partition("/")[0]
        if "@" in authority:
            raise ValueError(
                "must not hold a password, since the config is written into the run folder: "
                "give the address in MLFLOW_TRACKING_URI"
            )
        return value


class LoggingConfig(Section):
    """What is logged, how often, and where to; it may change between two starts of a run."""

    every_steps: int = Field(10, ge=1)
    """Optimizer steps between two lines of `metrics.jsonl`; the other loggers get the same."""
    console_seconds: float = Field(10.0, ge=0)
    """Seconds between two lines of progress, at least, where the output is no terminal."""
    tensorboard: bool = True
    """Write TensorBoard events to the run folder."""
    wandb: WandbConfig | None = None
    """Log to Weights & Biases; `{}` for the defaults."""
    mlflow: MlflowConfig | None = None
    """Log to MLflow; `{}` for the defaults."""
    plug_ins: dict[str, dict[str, Any]] = Field({})
    """Loggers that other packages bring, by name, with their settings."""
    profile_steps: str | None = None
    """Steps of each branch that PyTorch's profiler traces, such as `20:25` for step 20 to step 25;
    `headrace train --profile-steps` sets it."""
    peak_flops: float | None = Field(None, gt=0)
    """Floating-point operations a second that the device of one rank can do at most, for `mfu`.
    Default: known for V100 in fp16, and for A100, H100 and H200 in 16 bits; else there is no
    `mfu`."""

    @field_validator("profile_steps")
    @classmethod
    def _is_a_range(cls, value: str | None) -> str | None:
        if value is not None:
            first, last = _steps(value)
            if not 1 <= first <= last:
                raise ValueError("steps are counted from 1, and the second is not before the first")
        return value

    @property
    def profiled(self) -> tuple[int, int] | None:
        """First and last step of `profile_steps`."""
        return None if self.profile_steps is None else _steps(self.profile_steps)


def _steps(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,12}):(\d{1,12})", text)
    if match is None:
        raise ValueError("must be two steps, such as 20:25")
    return int(match[1]), int(match[2])
