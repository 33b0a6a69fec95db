"""The training of one branch: the step, and what happens around it."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed

from headrace.errors import DivergedError, SaveError, StopRequested
from headrace.stream.batching import Batches
from headrace.stream.feistel import derive_key
from headrace.stream.loader import Prefetcher
from headrace.stream.state import StreamState
from headrace.tasks.task import Task
from headrace.training.anomalies import Anomalies, Verdict
from headrace.training.anomaly_log import AnomalyLog
from headrace.training.callbacks import Callbacks, Record
from headrace.training.checkpoint_marker import step_of
from headrace.training.checkpoints import Checkpoints
from headrace.training.data import BatchMaker, RankBatch
from headrace.training.distributed import World, on_any_rank
from headrace.training.epoch_end import EpochEnd
from headrace.training.packed_inputs import PackedInputs
from headrace.training.param_groups import ParameterGroups
from headrace.training.penalty import Penalty
from headrace.training.progress import Progress, StepSums
from headrace.training.signals import StopFlag
from headrace.training.stages import Branch
from headrace.training.takedowns import Takedowns
from headrace.training.throughput import Meter
from headrace.training.watch.activity import Activity
from headrace.training.watch.stragglers import Pace, Stragglers
from headrace.training.withheld import Gradients, withhold_step

logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class BranchTrainer:
    """Trains one branch of a stage with an engine that is already made."""

    engine: Any
    """DeepSpeed engine."""
    groups: ParameterGroups
    """What the engine trains, and at which learning rates."""
    branch: Branch
    task: Task
    world: World
    seed: int
    plan: Batches
    batches: BatchMaker
    total_steps: int
    checkpoints: Checkpoints
    log_every: int
    callbacks: Callbacks
    stop_flag: StopFlag
    epoch_end: EpochEnd | None = None
    """Validates and exports; None: neither."""
    takedowns: Takedowns = field(default_factory=Takedowns)
    """Says whether documents were removed that the batches still have."""
    pack_inputs: PackedInputs | None = None
    """Makes the network's arguments of packed rows; None: batches are not packed."""
    penalty: Penalty | None = None
    """Holds weights near earlier ones; None: they are free."""
    meter: Meter = field(default_factory=Meter)
    """Takes the times of the steps."""
    anomalies: Anomalies = field(default_factory=Anomalies)
    """Says which steps are not applied."""
    anomaly_log: AnomalyLog | None = None
    """Where these are written down; None: such a step ends the run."""
    gradients: Gradients | None = None
    """Gives the gradient norm before the step, for ``anomalies`` that need it."""
    activity: Activity = field(default_factory=Activity)
    """Where this rank notes what it does, for those who watch it."""
    pace: Pace = field(default_factory=Pace)
    """Takes the times of this rank's own part of the steps."""
    stragglers: Stragglers = field(default_factory=Stragglers)
    """Compares those of all ranks."""
    progress: Progress = field(default_factory=Progress)
    first_step: int = field(default=0, init=False)
    """From where this start goes on."""

    def fit(self, start_record: Record) -> Progress:
        """Train from the newest complete checkpoint, or from the start, to the last step.

        Raises:
            StopRequested: after a stop signal, once a checkpoint is saved.
            SaveError: after a stop signal, if it cannot be saved.
            DivergedError: if a step is not as it should be, and the run is to end then.
        """
        self.activity.enter("loading a checkpoint", slow=True)
        self._resume()
        first = self.first_step = self.progress.step
        self.takedowns.start(first)
        self.callbacks.on_start(start_record, first)
        self.engine.train()  # a model that was loaded from a folder comes in evaluation mode
        if self.progress.validation_due:
            self._save(self._end_epoch())
        elif first == 0 and self.branch.start_folder is not None:
            # the model of the earlier stage is a candidate too: training may only make it worse
            self._end_epoch()
        while self.progress.step < self.total_steps:
            with Prefetcher(self.batches.make, self.progress.step, self.total_steps) as batches:
                for batch in self._arriving(batches):
                    learning_rate = self.groups.set_learning_rates(
                        self.engine.optimizer, batch.step, self.total_steps
                    )
                    sums, verdict = self.train_step(batch)
                    if verdict.action == "rollback":
                        if self._roll_back(sums, verdict):
                            self.callbacks.restart(start_record, self.progress.step)
                            break  # the batches come anew from there
                        verdict = replace(verdict, action="skip")
                    self._account(batch, sums, verdict, learning_rate)
                    self._after_step(sums)
        self.checkpoints.finish()
        return self.progress

    def _arriving(self, batches: Iterable[RankBatch]) -> Iterator[RankBatch]:
        """Note that this rank waits for its data, and for how long."""
        iterator = self.pace.each(self.meter.each(batches))
        while True:
            self.activity.enter("data", self.progress.step + 1)
            batch = next(iterator, None)
            if batch is None:
                return
            yield batch

    def train_step(self, batch: RankBatch) -> tuple[StepSums, Verdict]:
        """Take one optimizer step, unless its loss or gradient is not as it should be.

        The gradient is that of the mean loss over all labels of the global batch (of tokens, or of
        samples), however it was divided: the sum over ranks and micro-batches of (summed loss /
        labels).
        DeepSpeed divides by the ranks and by the accumulation steps, which is undone beforehand.
        A step whose samples are all quarantined changes nothing, on any rank.

        The one collective of a step is made before the optimizer acts, so that all ranks judge by
        the same numbers.
        """
        total = torch.zeros((), dtype=torch.float64, device=self.world.device)
        parts = batch.micro_batches if batch.samples else ()
        if parts:
            self._seed_dropout(batch.step)
        divisor_of_deepspeed = self.world.size * len(batch.micro_batches)
        scale = divisor_of_deepspeed / max(1, batch.labelled_tokens)
        for number, tensors in enumerate(parts, 1):
            inputs: Mapping[str, Any] = {
                name: tensor.to(self.world.device, non_blocking=True)
                for name, tensor in tensors.items()
            }
            if self.pack_inputs is not None:
                inputs = self.pack_inputs(inputs)
            with self.meter.computing():
                self._enter("forward", batch)
                with self.pace.forward():
                    loss_sum, _ = self.task.loss_sum(self.engine, inputs, training=True)
                self._enter("backward", batch)
                self.engine.backward(loss_sum * scale)
                if number < len(parts):
                    self.engine.step()  # counts the micro-batch
                elif self.penalty is not None:
                    self.penalty.add_to_gradients()
            total += loss_sum.detach()
        self._enter("sum over ranks", batch)
        sums = self._sum_over_ranks(total, batch)
        if not parts:
            return sums, Verdict()
        verdict = self.anomalies.judge(batch.step + 1, sums.loss, sums.gradient_norm)
        self._enter("optimizer", batch)
        with self.meter.computing():
            if verdict.applied:
                self.engine.step()
            else:
                withhold_step(self.engine)
        return sums, verdict

    def _enter(self, phase: str, batch: RankBatch) -> None:
        """Note a phase of a step; in the first one kernels are compiled and buffers made."""
        self.activity.enter(phase, batch.step + 1, slow=batch.step == self.first_step)

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
        nothing = torch.zeros_like(loss_sum)
        measured = self.gradients is not None and batch.samples > 0
        squares = self.gradients.squared_norm() if self.gradients and measured else nothing
        penalty = nothing if self.penalty is None else self.penalty.value
        here: list[float] = [
            batch.computed_tokens,
            batch.attention_pairs,
            self.stop_flag.received is not None or self.takedowns.look(),
            self.checkpoints.is_due_by_time(),
            self.checkpoints.is_written,
        ]
        if self.world.size > 1:
            own_seconds = [0.0] * self.world.size
            own_seconds[self.world.rank] = self.pace.take()
            here += own_seconds
        # what the host knows goes to the device in one copy
        sums = torch.cat([torch.stack([loss_sum, penalty, squares]), loss_sum.new_tensor(here)])
        if self.world.size > 1:
            torch.distributed.all_reduce(sums)
        loss, penalty, squares, computed_tokens, pairs, stops, save, written, *own_seconds = (
            sums.tolist()
        )
        loss /= max(1, batch.labelled_tokens)
        return StepSums(
            loss=loss,
            computed_tokens=int(computed_tokens),
            attention_pairs=int(pairs),
            stop=stops > 0,
            penalty=penalty,
            save=save > 0,
            written=int(written),
            gradient_norm=math.sqrt(squares) if measured else None,
            own_seconds=tuple(own_seconds),
        )

    def _account(
        self, batch: RankBatch, sums: StepSums, verdict: Verdict, learning_rate: float
    ) -> None:
        progress = self.progress
        seconds = self.meter.end_step(
            samples=batch.samples,
            tokens=batch.real_tokens,
            labels=batch.labelled_tokens,
            pairs=sums.attention_pairs,
        )
        self.stragglers.add(sums.own_seconds, seconds)
        progress.step = batch.step + 1
        progress.real_tokens += batch.real_tokens
        progress.computed_tokens += sums.computed_tokens
        progress.samples += batch.samples
        progress.seconds += seconds
        due = progress.step % self.log_every == 0 or progress.step == self.total_steps
        scale = self.engine.optimizer.loss_scale if self.engine.fp16_enabled() else None
        gradient_norm = sums.gradient_norm
        if gradient_norm is None:
            gradient_norm = self.engine.get_global_grad_norm()
        if batch.samples and not (verdict.applied and self.engine.was_step_applied()):
            progress.skipped_steps += 1
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
            "skipped_steps": progress.skipped_steps,
            "time": time.time(),
        }
        if due:
            record |= self.meter.take_window() | self.stragglers.take_window()
        self.callbacks.on_step(record, logged=due and batch.samples > 0)
        if not verdict.applied and not verdict.known:
            self._record(verdict, [progress.step], sums)
        self._stop_if_diverged(batch, verdict)

    def _stop_if_diverged(self, batch: RankBatch, verdict: Verdict) -> None:
        """End a run whose step is not as it should be, if its config says so.

        DeepSpeed drops gradients that are not finite, with ZeRO or in 16 bits, and tells nobody:
        in fp16 that is how a loss scale is found.
        """
        reason = verdict.reason if verdict.action == "stop" else None
        dropped = batch.samples and verdict.applied and not self.engine.was_step_applied()
        if dropped and not self.engine.fp16_enabled():
            reason = "the gradient norm is not finite"
        if reason is not None:
            self.checkpoints.finish()
            raise DivergedError(
                f"{self.branch.title}: step {self.progress.step} was not applied: {reason}. "
                "Lower the learning rate, set gradient_clipping, or let headrace.anomalies skip "
                "such steps"
            )

    def _record(
        self, verdict: Verdict, steps: Sequence[int], sums: StepSums, back_to: int | None = None
    ) -> None:
        """Write down steps that are not applied."""
        if self.world.is_main:
            logger.warning(
                "%s: step %d is not applied (%s): %s",
                self.branch.title,
                steps[-1],
                verdict.action,
                verdict.reason,
            )
        if self.anomaly_log is not None:
            self.anomaly_log.write(
                verdict, steps, loss=sums.loss, gradient_norm=sums.gradient_norm, back_to=back_to
            )

    def _roll_back(self, sums: StepSums, verdict: Verdict) -> bool:
        """Go back to the last checkpoint, from where the bad step is left out.

        Returns:
            False where there is no checkpoint: then the step is skipped, and no more.
        """
        self.checkpoints.finish()
        newest = self.checkpoints.agree_on_newest()
        if newest is None:
            return False
        bad = self.progress.step + 1
        back_to = step_of(newest)
        first = max(back_to + 1, bad - self.anomalies.settings.steps_before)
        self._record(verdict, range(first, bad + 1), sums, back_to)
        with self.meter.paused():
            self._load(newest)
            if self.progress.validation_due:
                self._end_epoch()
        return True

    def _after_step(self, sums: StepSums) -> None:
        """Validate at the end of an epoch, save when it is due, stop when it was asked for."""
        step = self.progress.step
        epoch_ends = self.plan.ends_epoch(step) or step == self.total_steps
        stop, saved, loss = sums.stop, True, None
        with self.meter.paused():
            if sums.written == self.world.size:
                self.activity.enter("saving", slow=True)
                self.checkpoints.finish()
            if epoch_ends:
                try:
                    loss = self._end_epoch()
                except StopRequested:
                    stop = True  # the checkpoint says that the validation is due
            if epoch_ends or stop or sums.save or self.checkpoints.is_due(step):
                saved = self._save(loss)
                stop = on_any_rank(stop or self.stop_flag.asked, self.world)
        if stop and (step < self.total_steps or self.progress.validation_due):
            if not (saved and self.checkpoints.finish()):
                raise SaveError(
                    f"stopped by a signal after step {step} of {self.branch.title}, but the "
                    "checkpoint could not be saved, see the warning above: the same command goes "
                    "on from the one before"
                )
            reason = "since documents were removed" if self.takedowns.asked else "by a signal"
            raise StopRequested(
                f"stopped {reason} after step {step} of {self.branch.title}; a checkpoint is "
                "saved, start the same command again to go on"
            )

    def _end_epoch(self) -> float | None:
        """Return the validation loss, if there is any: see :meth:`EpochEnd.run`."""
        return None if self.epoch_end is None else self.epoch_end.run(self.progress)

    def _save(self, validation_loss: float | None) -> bool:
        self.activity.enter("saving", slow=True)
        state = {
            "progress": asdict(self.progress),
            "stream": StreamState.at(
                self.plan, self.progress.step, self.batches.left_out
            ).to_json(),
            "learning_rates": [group["lr"] for group in self.engine.optimizer.param_groups],
            "anomalies": self.anomalies.state(),
            "throughput": self.meter.state(),
            "tombstones": self.takedowns.epochs,
        }
        return self.checkpoints.save(
            self.engine, self.progress.step, state, validation_loss=validation_loss
        )

    def _resume(self) -> None:
        self.checkpoints.clean()
        newest = self.checkpoints.agree_on_newest()
        if newest is not None:
            self._load(newest)
        elif self.anomaly_log is not None:
            self.anomaly_log.start(self.anomalies, 0)

    def _load(self, newest: Path) -> None:
        state = self.checkpoints.load(self.engine, newest)
        StreamState.from_json(state["stream"], str(newest)).check(self.plan, str(newest))
        self.takedowns.check(state.get("tombstones", {}), str(newest))
        self.progress = Progress(**state["progress"])
        if "throughput" in state:
            self.meter.load(state["throughput"])
        self.groups.check(self.engine.optimizer, state.get("learning_rates"))
        if "anomalies" in state:
            self.anomalies.load(state["anomalies"])
        if self.anomaly_log is not None:
            self.anomaly_log.start(self.anomalies, self.progress.step)
