"""What is done at the end of an epoch: validate, and export the best model so far."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from headrace.encoding.sidecar import EncodedSource
from headrace.errors import StopRequested
from headrace.stream.batching import Batches
from headrace.tasks.task import Task
from headrace.training.callbacks import Callbacks
from headrace.training.data import BatchMaker
from headrace.training.distributed import World, on_any_rank
from headrace.training.engine import full_precision_state
from headrace.training.progress import Progress
from headrace.training.signals import StopFlag
from headrace.training.stages import Branch
from headrace.training.validation import Validation, validate
from headrace.training.watch.activity import Activity


@dataclass(frozen=True, kw_only=True)
class EpochEnd:
    """Measures the model of a branch, and keeps it if it is the one to keep."""

    engine: Any
    """DeepSpeed engine."""
    branch: Branch
    task: Task
    world: World
    plan: Batches
    batches: BatchMaker
    validation: Mapping[str, EncodedSource]
    """Validation data by language; empty: no validation."""
    total_steps: int
    callbacks: Callbacks
    stop_flag: StopFlag
    export: Callable[[dict[str, torch.Tensor], Progress], None]
    """Writes the weights of the best model so far; called on the main rank."""
    frozen: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """On the main rank: weights that are not trained, where the engine has 16-bit copies of them
    alone."""
    activity: Activity = field(default_factory=Activity)
    """Where this rank notes what it does, for those who watch it."""

    def run(self, progress: Progress) -> float | None:
        """Validate, and export the model if it is the best so far, or the last.

        Returns:
            The validation loss; None without validation data.

        Raises:
            StopRequested: on every rank, between two batches of the validation; it is due again.
        """
        result = self._validate(progress)
        best = self._is_best(progress, result)
        if best:
            progress.best_step = progress.step
            progress.best_loss = result.loss if result else None
            progress.best_metrics = dict(result.metrics) if result else {}
            # of a stage that keeps its last model no other is ever read
            if self.branch.stage.keep_best != "last" or progress.step == self.total_steps:
                self.activity.enter("exporting", slow=True)
                state = full_precision_state(self.engine, self.frozen)
                if self.world.is_main:
                    self.export(state, progress)
        if result is None:
            return None
        self.callbacks.on_validation(self._record(progress, result, best))
        return result.loss

    def _validate(self, progress: Progress) -> Validation | None:
        if not self.validation:
            return None
        progress.validation_due = True
        self.activity.enter("validation")

        def stop_if_asked() -> None:
            self.activity.tick()
            if on_any_rank(self.stop_flag.asked, self.world):
                raise StopRequested(
                    f"stopped by a signal in the validation after step {progress.step} of "
                    f"{self.branch.title}, start the same command again to go on"
                )

        result = validate(
            self.engine,
            self.validation,
            self.task,
            self.world,
            batch_size=2 * self.batches.samples_at_once,
            pad=self.batches.pad,
            between=stop_if_asked,
        )
        progress.validation_due = False
        return result

    def _is_best(self, progress: Progress, result: Validation | None) -> bool:
        if result is None or self.branch.stage.keep_best != "validation_loss":
            return self.branch.stage.keep_best == "last" and progress.step > 0
        # a loss that is no number (an overflow in fp16) is never the best for good
        none_yet = progress.best_loss is None or not math.isfinite(progress.best_loss)
        return none_yet or result.loss < (progress.best_loss or math.inf)

    def _record(self, progress: Progress, result: Validation, best: bool) -> dict[str, Any]:
        return {
            "kind": "validation",
            "stage": self.branch.stage.name,
            "branch": self.branch.name,
            "step": progress.step,
            "epoch": self.plan.epochs_done(progress.step),
            "loss": result.loss,
            "loss_by_language": dict(result.loss_by_language),
            "metrics": {
                language: {name: scores[name] for name in self.task.scores if name in scores}
                for language, scores in result.metrics.items()
            },
            "best": best,
            "time": time.time(),
        }
