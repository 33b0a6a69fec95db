"""A trace of some steps by PyTorch's profiler."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from headrace.training.callbacks import Record

logger = logging.getLogger(__name__)

_ROWS = 30


class StepProfiler:
    """Profiles the main rank from the end of one step to the end of another.

    It writes ``trace.json.gz``, in the format of Chrome's trace viewer (https://ui.perfetto.dev
    reads it), and ``operators.txt``, the operators that take longest.
    """

    def __init__(self, folder: Path, first: int, last: int) -> None:
        """Profile nothing yet.

        Args:
            folder: where to write; it is made when there is something to write.
            first: first step that is profiled, counted from 1.
            last: last step that is profiled.
        """
        self.folder = folder
        self.first = first
        self.last = last
        self._profile: profile | None = None
        self._began = self._steps = 0

    def on_start(self, record: Record, first_step: int) -> None:
        """Begin, if the first step to come is one of those."""
        self._steps = record["steps"]
        if self.first > self._steps:
            logger.warning(
                "no step is profiled: there are %d, and profile_steps begins with %d",
                self._steps,
                self.first,
            )
        self._begin_before(first_step + 1)

    def on_step(self, record: Record, *, logged: bool) -> None:
        """Begin before the first of the steps, and write after the last."""
        step = record["step"]
        if self._profile is None:
            self._begin_before(step + 1)
        elif step >= self.last:
            self._write(step)
        else:
            self._profile.step()

    def on_validation(self, record: Record) -> None:
        """Nothing to do: a validation between the steps is in the trace too."""

    def close(self) -> None:
        """Write what there is of a training that ended before."""
        if self._profile is not None:
            self._write(self.last)

    def _begin_before(self, step: int) -> None:
        if not self.first <= step <= min(self.last, self._steps):
            return
        activities = [ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(ProfilerActivity.CUDA)
        self._profile = profile(activities=activities, record_shapes=True, profile_memory=True)
        self._profile.start()
        self._began = step

    def _write(self, step: int) -> None:
        assert self._profile is not None
        done, self._profile = self._profile, None
        done.stop()
        self.folder.mkdir(parents=True, exist_ok=True)
        done.export_chrome_trace(str(self.folder / "trace.json.gz"))
        device = "cuda" if torch.cuda.is_available() else "cpu"
        table = done.key_averages().table(sort_by=f"self_{device}_time_total", row_limit=_ROWS)
        (self.folder / "operators.txt").write_text(table + "\n", encoding="utf-8")
        logger.info("profile of steps %d to %d: %s", self._began, step, self.folder)
