"""What a branch has done so far, and what all ranks know of its last step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Progress:
    """What a branch has done so far; saved with every checkpoint, the same on every rank."""

    step: int = 0
    """Finished steps."""
    best_loss: float | None = None
    best_step: int | None = None
    best_metrics: dict[str, Any] = field(default_factory=dict)
    """Scores of the best model by language."""
    real_tokens: int = 0
    computed_tokens: int = 0
    samples: int = 0
    skipped_steps: int = 0
    """Steps that were not applied: by DeepSpeed, after an overflow, or for an anomaly."""
    seconds: float = 0.0
    """Time spent in training steps and between them, without validation and saving."""
    validation_due: bool = False
    """Whether the validation at the end of the last epoch was broken off by a stop signal."""


@dataclass(frozen=True)
class StepSums:
    """Sums over all ranks of one step."""

    loss: float
    computed_tokens: int
    attention_pairs: int
    stop: bool
    penalty: float
    """0 without one."""
    save: bool
    """Whether a checkpoint is due, by the clock of the main rank."""
    written: int
    """Ranks that have written their part of a checkpoint in the background."""
    gradient_norm: float | None
    """Of the averaged gradient, before clipping; None where nobody needs it before the step."""
    own_seconds: tuple[float, ...]
    """What each rank took for its own part of the step; empty with a single one."""
