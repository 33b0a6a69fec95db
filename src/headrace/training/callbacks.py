"""What happens around the steps of a branch: progress bar, metrics file, TensorBoard.

A callback sees records (plain dicts, the lines of ``metrics.jsonl``); the loop knows nothing of
where they go.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from filelock import FileLock
from tqdm import tqdm

Record = dict[str, Any]


class Callback(Protocol):
    """Listens to one branch of a stage, on the main rank."""

    def on_start(self, record: Record, first_step: int) -> None:
        """Take the facts of the branch; training goes on at ``first_step``."""

    def on_step(self, record: Record, *, logged: bool) -> None:
        """Take a finished step; ``logged`` says whether it is one that is written down."""

    def on_validation(self, record: Record) -> None:
        """Take the scores of a validation."""

    def close(self) -> None:
        """End, also after an error."""


class Callbacks:
    """All callbacks of a branch as one; a context manager that closes them."""

    def __init__(self, members: Sequence[Callback]) -> None:
        self.members = members

    def __enter__(self) -> Callbacks:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for member in self.members:
            member.close()

    def on_start(self, record: Record, first_step: int) -> None:
        """Pass on to every callback."""
        for member in self.members:
            member.on_start(record, first_step)

    def on_step(self, record: Record, *, logged: bool) -> None:
        """Pass on to every callback."""
        for member in self.members:
            member.on_step(record, logged=logged)

    def on_validation(self, record: Record) -> None:
        """Pass on to every callback."""
        for member in self.members:
            member.on_validation(record)


class ProgressBar:
    """A bar with loss, learning rate, tokens a second and time left; none where nobody looks."""

    def __init__(self, title: str, scores: Mapping[str, str]) -> None:
        """``scores`` are as records name them, with titles.

        The first one is printed after a validation; of a source that lacks it, the next it has.
        """
        self.title = title
        self.scores = scores
        self.bar: tqdm[Any] | None = None

    def on_start(self, record: Record, first_step: int) -> None:
        """Open the bar at the step from which training goes on."""
        self.bar = tqdm(
            total=record["steps"],
            initial=first_step,
            desc=self.title,
            unit="step",
            disable=None,
            dynamic_ncols=True,
        )

    def on_step(self, record: Record, *, logged: bool) -> None:
        """Move the bar on by one step."""
        if self.bar is None:
            return
        self.bar.update(1)
        if logged:
            self.bar.set_postfix_str(
                f"loss {record['loss']:.4f}, lr {record['learning_rate']:.2e}, "
                f"{record['tokens_per_s']:,.0f} tokens/s"
            )

    def on_validation(self, record: Record) -> None:
        """Print one line with the loss and the score above the bar."""
        means = []
        left = list(record["metrics"].values())
        for name, title in self.scores.items():
            values = [scores[name] for scores in left if name in scores]
            if values:
                means.append(f", {title} {sum(values) / len(values):.4f}")
            left = [scores for scores in left if name not in scores]
        mark = " (best so far)" if record["best"] else ""
        tqdm.write(
            f"{self.title}: epoch {record['epoch']:g}, validation loss {record['loss']:.4f}"
            f"{''.join(means)}{mark}"
        )

    def close(self) -> None:
        """Close the bar."""
        if self.bar is not None:
            self.bar.close()


class MetricsFile:
    """Writes ``metrics.jsonl``, one JSON object a line.

    Branches that are trained side by side by several jobs share the file: a lock guards it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self.lock = FileLock(path.with_name(f".{path.name}.lock"))

    def on_start(self, record: Record, first_step: int) -> None:
        """Drop the lines that a killed run wrote after the step from which training goes on."""
        branch = (record["stage"], record["branch"])

        def stays(line: Record) -> bool:
            if (line["stage"], line["branch"]) != branch:
                return True
            return first_step > 0 and line["kind"] != "start" and int(line["step"]) <= first_step

        with self.lock:
            kept = [line for line in _complete_lines(self.path) if stays(line)]
            temporary = self.path.with_suffix(".partial")
            text = "".join(json.dumps(line) + "\n" for line in [*kept, record])
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(self.path)

    def on_step(self, record: Record, *, logged: bool) -> None:
        """Write a logged step."""
        if logged:
            self._write(record)

    def on_validation(self, record: Record) -> None:
        """Write a validation."""
        self._write(record)

    def close(self) -> None:
        """Nothing to do: every line is on its way to disk when it is written."""

    def _write(self, record: Record) -> None:
        with self.lock, self.path.open("ab+") as stream:
            if stream.tell():
                stream.seek(-1, os.SEEK_END)
                if stream.read(1) != b"\n":  # a killed job of another branch tore its last line
                    stream.write(b"\n")
            stream.write(json.dumps(record).encode() + b"\n")


def _complete_lines(path: Path) -> list[Record]:
    """Read the lines of a metrics file; the last one may be torn by a crash and is left out."""
    if not path.exists():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            continue
    return lines


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
        if not logged:
            return
        for name in ("loss", "learning_rate", "gradient_norm", "tokens_per_s", "loss_scale"):
            if record[name] is not None:
                self.writer.add_scalar(f"train/{name}", record[name], record["step"])
        for group, rate in record["learning_rates"].items():
            self.writer.add_scalar(f"learning_rate/{group}", rate, record["step"])

    def on_validation(self, record: Record) -> None:
        """Write the loss and the scores of each language."""
        self.writer.add_scalar("validation/loss", record["loss"], record["step"])
        for language, scores in record["metrics"].items():
            for name, value in scores.items():
                self.writer.add_scalar(f"validation_{name}/{language}", value, record["step"])

    def close(self) -> None:
        """Flush and close."""
        if self.writer is not None:
            self.writer.close()
