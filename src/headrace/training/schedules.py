"""Learning-rate schedules as pure functions of the step: nothing to save, nothing to restore."""

from __future__ import annotations

import math

from headrace.config.schema import ScheduleConfig


def learning_rate_factor(schedule: ScheduleConfig, step: int, total_steps: int) -> float:
    """Return the factor of the base learning rate for one step.

    Args:
        schedule: shape and warm-up.
        step: steps finished before this one, 0 to ``total_steps - 1``.
        total_steps: steps of the whole stage.

    The warm-up rises linearly: with w warm-up steps, step s < w has the factor (s + 1) / (w + 1),
    so that the first step is not lost at a rate of zero.  After it, p is the share of the remaining
    steps that is done: cosine gives f + (1 - f)(1 + cos(pi p)) / 2, linear gives 1 - (1 - f) p,
    with f = ``final_ratio``.
    """
    warmup = schedule.warmup_steps
    if warmup is None:
        warmup = round(schedule.warmup_ratio * total_steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if schedule.type == "constant":
        return 1.0
    progress = min(1.0, (step - warmup) / max(1, total_steps - warmup))
    final = schedule.final_ratio
    if schedule.type == "linear":
        return 1.0 - (1.0 - final) * progress
    return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * progress))
