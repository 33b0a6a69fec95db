"""The training of one branch: the step, and what happens around it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
import torch.distributed

from headrace.encoding.sidecar import EncodedSource
from headrace.errors import DivergedError, SaveError, StopRequested
from headrace.stream.batching import Batches
from headrace.stream.feistel import derive_key
from headrace.stream.loader import Prefetcher
from headrace.stream.state import StreamState
from headrace.tasks.task import Task
from headrace.training.callbacks import Callbacks, Record
from headrace.training.checkpoints import Checkpoints
from headrace.training.data import BatchMaker, RankBatch
from headrace.training.distributed import World
from headrace.training.engine import full_precision_state
from headrace.training.packed_inputs import PackedInputs
from headrace.training.param_groups import ParameterGroups
from headrace.training.penalty import Penalty
from headrace.training.signals import StopFlag
from headrace.training.stages import Branch
from headrace.training.throughput import Meter
from headrace.training.validation import Validation, validate


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
    seconds: float = 0.0
    """Time spent in training steps and between them, without validation and saving."""


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


@dataclass(kw_only=True)
class BranchTrainer:
    """Trains one branch of a stage with an engine that is already made."""

    engine: Any
    """DeepSpeed engine."""
    groups: ParameterGroups
    """What the engine trains, and at which learning rates."""
    frozen: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """On the main rank: weights that are not trained, where the engine has 16-bit copies of them
    alone."""
    branch: Branch
    task: Task
    world: World
    seed: int
    plan: Batches
    batches: BatchMaker
    validation: Mapping[str, EncodedSource]
    """Validation data by language; empty: no validation."""
    total_steps: int
    checkpoints: Checkpoints
    log_every: int
    callbacks: Callbacks
    stop_flag: StopFlag
    export: Callable[[dict[str, torch.Tensor], Progress], None]
    """Writes the weights of the best model so far; called on the main rank."""
    pack_inputs: PackedInputs | None = None
    """Makes the network's arguments of packed rows; None: batches are not packed."""
    penalty: Penalty | None = None
    """Holds weights near earlier ones; None: they are free."""
    meter: Meter = field(default_factory=Meter)
    """Takes the times of the steps."""
    progress: Progress = field(default_factory=Progress)

    def fit(self, start_record: Record) -> Progress:
        """Train from the newest complete checkpoint, or from the start, to the last step.

        Raises:
            StopRequested: after a stop signal, once a checkpoint is saved.
            SaveError: after a stop signal, if it cannot be saved.
        """
        self._resume()
        first = self.progress.step
        self.callbacks.on_start(start_record, first)
        self.engine.train()  # a model that was loaded from a folder comes in evaluation mode
        if first == 0 and self.branch.start_folder is not None:
            # the model of the earlier stage is a candidate too: training may only make it worse
            self._end_epoch()
        with Prefetcher(self.batches.make, first, self.total_steps) as batches:
            for batch in self.meter.each(batches):
                learning_rate = self.groups.set_learning_rates(
                    self.engine.optimizer, batch.step, self.total_steps
                )
                loss_sum = self.train_step(batch)
                sums = self._sum_over_ranks(loss_sum, batch)
                self._account(batch, sums, learning_rate)
                self._after_step(sums)
        self.checkpoints.finish()
        return self.progress

    def train_step(self, batch: RankBatch) -> torch.Tensor:
        """Take one optimizer step and return this rank's summed loss (fp64 scalar).

        The gradient is that of the mean loss over all labels of the global batch (of tokens, or of
        samples), however it was divided: the sum over ranks and micro-batches of (summed loss /
        labels).
        DeepSpeed divides by the ranks and by the accumulation steps, which is undone beforehand.
        A step whose samples are all quarantined changes nothing, on any rank.
        """
        total = torch.zeros((), dtype=torch.float64, device=self.world.device)
        if not batch.samples:
            return total
        self._seed_dropout(batch.step)
        divisor_of_deepspeed = self.world.size * len(batch.micro_batches)
        scale = divisor_of_deepspeed / max(1, batch.labelled_tokens)
        for tensors in batch.micro_batches:
            inputs: Mapping[str, Any] = {
                name: tensor.to(self.world.device, non_blocking=True)
                for name, tensor in tensors.items()
            }
            if self.pack_inputs is not None:
                inputs = self.pack_inputs(inputs)
            with self.meter.computing():
                loss_sum, _ = self.task.loss_sum(self.engine, inputs, training=True)
                self.engine.backward(loss_sum * scale)
                if self.penalty is not None:
                    self.penalty.add_to_gradients()
                self.engine.step()
            total += loss_sum.detach()
        return total

    def _seed_dropout(self, step: int) -> None:
        """Seed the generators that the network draws from, anew for every step.

        Nothing has to be saved for a resume.  ``torch.manual_seed`` would look for devices of
        every kind, which costs about a millisecond.
        """
        seed = derive_key("dropout", self.seed, self.branch.title, step, self.world.rank)
        torch.default_generator.manual_seed(seed)
        if self.world.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def _sum_over_ranks(self, loss_sum: torch.Tensor, batch: RankBatch) -> StepSums:
        """Add up loss, work and stop requests in the one collective that every step makes."""
        stop = self.stop_flag.received is not None
        sums = torch.stack(
            [
                loss_sum,
                loss_sum.new_tensor(batch.computed_tokens),
                loss_sum.new_tensor(batch.attention_pairs),
                loss_sum.new_tensor(float(stop)),
                torch.zeros_like(loss_sum) if self.penalty is None else self.penalty.value,
                loss_sum.new_tensor(
                    float(self.world.is_main and self.checkpoints.is_due_by_time())
                ),
                loss_sum.new_tensor(float(self.checkpoints.is_written)),
            ]
        )
        if self.world.size > 1:
            torch.distributed.all_reduce(sums)
        loss, computed_tokens, pairs, stops, penalty, save, written = sums.tolist()
        loss /= max(1, batch.labelled_tokens)
        return StepSums(
            loss, int(computed_tokens), int(pairs), stops > 0, penalty, save > 0, int(written)
        )

    def _account(self, batch: RankBatch, sums: StepSums, learning_rate: float) -> None:
        progress = self.progress
        seconds = self.meter.end_step(
            samples=batch.samples,
            tokens=batch.real_tokens,
            labels=batch.labelled_tokens,
            pairs=sums.attention_pairs,
        )
        progress.step = batch.step + 1
        progress.real_tokens += batch.real_tokens
        progress.computed_tokens += sums.computed_tokens
        progress.samples += batch.samples
        progress.seconds += seconds
        due = progress.step % self.log_every == 0 or progress.step == self.total_steps
        scale = self.engine.optimizer.loss_scale if self.engine.fp16_enabled() else None
        gradient_norm = self.engine.get_global_grad_norm()
        record = {
            "kind": "train",
            "stage": self.branch.stage.name,
            "branch": self.branch.name,
            "step": progress.step,
            "epoch": self.plan.epochs_done(progress.step),
            "loss": sums.loss,
            "penalty": None if self.penalty is None else sums.penalty,
            "learning_rate": learning_rate,
            "learning_rates": self.groups.by_name(self.engine.optimizer),
            "gradient_norm": None if gradient_norm is None else float(gradient_norm),
            "padding_share": 1 - batch.real_tokens / max(1, sums.computed_tokens),
            "fill_rate": batch.real_tokens / batch.capacity if batch.capacity else None,
            "loss_scale": None if scale is None else float(scale),
            "time": time.time(),
        }
        if due:
            record |= self.meter.take_window()
        self.callbacks.on_step(record, logged=due and batch.samples > 0)
        self._stop_if_diverged(sums)

    def _stop_if_diverged(self, sums: StepSums) -> None:
        """End a run whose loss is no number; in fp16 the loss scaler skips such steps instead."""
        progress = self.progress
        if not math.isfinite(sums.loss) and not self.engine.fp16_enabled():
            raise DivergedError(
                f"{self.branch.title}: the loss of step {progress.step} is {sums.loss}. "
                "Lower the learning rate or set gradient_clipping"
            )

    def _after_step(self, sums: StepSums) -> None:
        """Validate at the end of an epoch, save when it is due, stop when it was asked for."""
        step = self.progress.step
        epoch_ends = self.plan.ends_epoch(step) or step == self.total_steps
        saved = True
        with self.meter.paused():
            if sums.written == self.world.size:
                self.checkpoints.finish()
            loss = self._end_epoch() if epoch_ends else None
            if epoch_ends or sums.stop or sums.save or self.checkpoints.is_due(step):
                saved = self._save(loss)
        if sums.stop and step < self.total_steps:
            if not (saved and self.checkpoints.finish()):
                raise SaveError(
                    f"stopped by a signal after step {step} of {self.branch.title}, but the "
                    "checkpoint could not be saved, see the warning above: the same command goes "
                    "on from the one before"
                )
            raise StopRequested(
                f"stopped by a signal after step {step} of {self.branch.title}; a checkpoint is "
                "saved, start the same command again to go on"
            )

    def _end_epoch(self) -> float | None:
        """Validate, and export the model if it is the best so far, or the last.

        Returns:
            The validation loss; None without validation data.
        """
        progress = self.progress
        result: Validation | None = None
        best = self.branch.stage.keep_best == "last" and progress.step > 0
        if self.validation:
            result = validate(
                self.engine,
                self.validation,
                self.task,
                self.world,
                batch_size=2 * self.batches.samples_at_once,
                pad=self.batches.pad,
            )
            if self.branch.stage.keep_best == "validation_loss":
                # a loss that is no number (an overflow in fp16) is never the best for good
                none_yet = progress.best_loss is None or not math.isfinite(progress.best_loss)
                best = none_yet or result.loss < (progress.best_loss or math.inf)
        if best:
            progress.best_step = progress.step
            progress.best_loss = result.loss if result else None
            progress.best_metrics = dict(result.metrics) if result else {}
            # of a stage that keeps its last model no other is ever read
            if self.branch.stage.keep_best != "last" or progress.step == self.total_steps:
                state = full_precision_state(self.engine, self.frozen)
                if self.world.is_main:
                    self.export(state, progress)
        if result is None:
            return None
        self.callbacks.on_validation(
            {
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
        )
        return result.loss

    def _save(self, validation_loss: float | None) -> bool:
        state = {
            "progress": asdict(self.progress),
            "stream": StreamState.at(
                self.plan, self.progress.step, self.batches.left_out
            ).to_json(),
            "learning_rates": [group["lr"] for group in self.engine.optimizer.param_groups],
            "throughput": self.meter.state(),
        }
        return self.checkpoints.save(
            self.engine, self.progress.step, state, validation_loss=validation_loss
        )

    def _resume(self) -> None:
        self.checkpoints.clean()
        newest = self.checkpoints.agree_on_newest()
        if newest is None:
            return
        state = self.checkpoints.load(self.engine, newest)
        StreamState.from_json(state["stream"], str(newest)).check(self.plan, str(newest))
        self.progress = Progress(**state["progress"])
        if "throughput" in state:
            self.meter.load(state["throughput"])
        self.groups.check(self.engine.optimizer, state.get("learning_rates"))
