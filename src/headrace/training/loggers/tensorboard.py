"""TensorBoard events of a branch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from headrace.training.callbacks import Record
from headrace.training.loggers.scalars import scalars


class TensorBoard:
    """Writes TensorBoard events, one folder a branch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.writer: Any = None

    def on_start(self, record: Record, first_step: int) -> None:
        """Open the event file; events after the first step are from a killed run and are hidden."""
        from torch.utils.tensorboard import SummaryWriter

        purge = first_step + 1 if first_step else 0
        self.writer = SummaryWriter(str(self.folder), purge_step=purge)

    def on_step(self, record: Record, *, logged: bool) -> None:
        """Write the numbers of a logged step."""
        if logged:
            self._write(record)

    def on_validation(self, record: Record) -> None:
        """Write the loss and the scores of each language."""
        self._write(record)

    def close(self) -> None:
        """Flush and close."""
        if self.writer is not None:
            self.writer.close()

    def _write(self, record: Record) -> None:
        for name, value in scalars(record).items():
            self.writer.add_scalar(name, value, record["step"])
