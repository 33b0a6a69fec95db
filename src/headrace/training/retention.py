"""Which checkpoints of a branch are kept."""

from __future__ import annotations

import math
from collections.abc import Mapping

from headrace.config.checkpoint import CheckpointConfig


def kept(losses: Mapping[int, float | None], settings: CheckpointConfig) -> set[int]:
    """Return the steps whose checkpoints are kept while a branch is training.

    Args:
        losses: validation loss of each checkpoint by its step; None where none was measured.
        settings: how many of which kind.
    """
    return {*sorted(losses)[-settings.keep_last :], *kept_for_good(losses, settings)}


def kept_for_good(losses: Mapping[int, float | None], settings: CheckpointConfig) -> set[int]:
    """Return the steps whose checkpoints are also kept when the branch is complete.

    Of equal losses the earlier step counts as better; one that is not finite is never the best.
    """
    measured = sorted(
        (loss, step) for step, loss in losses.items() if loss is not None and math.isfinite(loss)
    )
    best = {step for _, step in measured[: settings.keep_best]}
    every = settings.keep_every
    return best | {step for step in losses if every is not None and step and step % every == 0}
