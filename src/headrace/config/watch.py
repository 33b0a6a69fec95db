"""The section ``watch``: how long ranks may be silent, and who is slow."""

from __future__ import annotations

from pydantic import Field

from headrace.config.section import Section


class WatchConfig(Section):
    """Heartbeats of the ranks, the end of a run that hangs, and warnings of slow ranks."""

    heartbeat_seconds: float = Field(5.0, gt=0, allow_inf_nan=False)
    """How often each rank writes what it is doing to its file in the run folder; at least ten times
    in `hang_seconds`."""
    hang_seconds: float | None = Field(600.0, gt=0, allow_inf_nan=False)
    """A run in which a rank makes no progress for so long has its stacks written down and ends.
    Raise it for steps that take minutes. `null`: never."""
    slow_phase_seconds: float = Field(3600.0, gt=0, allow_inf_nan=False)
    """The same, if it is more than `hang_seconds`, for phases that show no progress while they
    last: making the model and the engine, the first step, saving, exporting, choosing samples."""
    straggler_factor: float | None = Field(1.5, gt=1, allow_inf_nan=False)
    """Warn of a rank that takes this many times as long for its own part of the steps as the
    median rank. `null`: never."""
    straggler_steps: int = Field(100, ge=1)
    """How many steps on end a rank has to be slow before the warning."""
