"""Learning-rate schedules as pure functions of the step: nothing to save, nothing to restore."""

from __future__ import annotations

import math

from headrace.config.learning_rates import ScheduleConfig

_DECAY_RATIO = 0.2
"""Share of the steps over which ``wsd`` falls where the config does not say."""


def learning_rate_factor(schedule: ScheduleConfig, step: int, total_steps: int) -> float:
    """Return the factor of the base learning rate for one step.

    Args:
        schedule: shape and warm-up.
        step: steps finished before this one, 0 to ``total_steps - 1``.
        total_steps: steps of the whole stage.

    The warm-up rises linearly: with w warm-up steps, step s < w has the factor (s + 1) / (w + 1),
    so that the first step is not lost at a rate of zero.  After it, with p the share of the
    remaining steps that is done and f = ``final_ratio``:

    - cosine: f + (1 - f)(1 + cos(pi p)) / 2 (Loshchilov and Hutter 2017);
    - restarts: the same of the fractional part of p times ``cycles``;
    - linear: 1 - (1 - f) p;
    - wsd: 1, and over the last d steps linear from there (Hu et al. 2024, Hagele et al. 2024);
    - inverse_sqrt: sqrt((w + 1) / (s + 1)), f at least (Vaswani et al. 2017);
    - constant: 1.
    """
    warmup = schedule.warmup_steps
    if warmup is None:
        warmup = round(schedule.warmup_ratio * total_steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    final = schedule.final_ratio
    if schedule.type == "constant":
        return 1.0
    if schedule.type == "inverse_sqrt":
        return max(final, math.sqrt((warmup + 1) / (step + 1)))
    if schedule.type == "wsd":
        decay = schedule.decay_steps
        if decay is None:
            decay = round((schedule.decay_ratio or _DECAY_RATIO) * total_steps)
        warmup = max(warmup, total_steps - decay)  # where the fall begins
        return 1.0 - (1.0 - final) * _progress(step, warmup, total_steps)
    progress = _progress(step, warmup, total_steps)
    if schedule.type == "linear":
        return 1.0 - (1.0 - final) * progress
    if schedule.type == "restarts":
        progress = math.fmod(progress * (schedule.cycles or 1), 1.0)
    return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * progress))


def _progress(step: int, start: int, end: int) -> float:
    """Share of the steps from ``start`` to ``end`` that is done before a step, 0 to 1."""
    return min(1.0, max(0, step - start) / max(1, end - start))


def describe_schedule(schedule: ScheduleConfig) -> str:
    """Return a schedule in a few words for the group table: ``cosine, warm-up 10%``."""
    words: list[str] = [schedule.type]
    if schedule.cycles is not None:
        words[0] += f" x {schedule.cycles}"
    if schedule.warmup_steps is not None:
        words.append(f"warm-up {schedule.warmup_steps}")
    elif schedule.warmup_ratio:
        words.append(f"warm-up {schedule.warmup_ratio:.3g}")
    if schedule.type == "wsd":
        words.append(f"decay {schedule.decay_steps or schedule.decay_ratio or _DECAY_RATIO:g}")
    if schedule.final_ratio and schedule.type != "constant":
        words.append(f"to {schedule.final_ratio:g}")
    return ", ".join(words)
