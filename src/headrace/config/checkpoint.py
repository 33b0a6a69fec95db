"""The section ``headrace.checkpoint``: when checkpoints are made, and which are kept."""

from __future__ import annotations

from pydantic import Field

from headrace.config.section import Section


class CheckpointConfig(Section):
    """Checkpoints from which a killed run goes on."""

    every_steps: int = Field(500, ge=1)
    """Optimizer steps between checkpoints; there is one at the end of each epoch as well."""
    every_seconds: float | None = Field(None, gt=0)
    """A checkpoint also when this much time has passed since the last one, by the clock of the
    main rank."""
    keep_last: int = Field(2, ge=1)
    """Complete checkpoints that are kept for each branch while it is training."""
    keep_best: int = Field(0, ge=0)
    """Checkpoints of the lowest validation loss that are kept besides, also when the branch is
    complete. Only those at the end of an epoch have one."""
    keep_every: int | None = Field(None, ge=1)
    """At each multiple of this many steps there is a checkpoint that is kept for good."""
    asynchronous: bool = False
    """Copy the state to memory (of the CPU, which has to have room for it) and train on while a
    thread writes it."""
