"""Progress for people: a bar on a terminal, now and then a line in the log of a batch job."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm

from headrace.training.callbacks import Record


class Console:
    """Shows steps, loss, learning rate, speed, memory and the time that is left.

    A bar is drawn where standard error is a terminal; elsewhere lines are printed, which end with
    a line feed and have no other control characters.
    """

    def __init__(self, title: str, scores: Mapping[str, str], *, seconds: float = 10.0) -> None:
        """Show nothing yet.

        Args:
            title: of the branch.
            scores: as records name them, with titles.  The first one is printed after a
                validation; of a source that lacks it, the next it has.
            seconds: from one line to the next, at least; bars move all the time.
        """
        self.title = title
        self.scores = scores
        self.seconds = seconds
        self.bar: tqdm[Any] | None = None
        self._steps = self._first = 0
        self._started = self._printed = 0.0

    def on_start(self, record: Record, first_step: int) -> None:
        """Open the bar at the step from which training goes on."""
        self._steps, self._first = record["steps"], first_step
        self._started, self._printed = time.monotonic(), -self.seconds
        if sys.stderr.isatty():
            self.bar = tqdm(
                total=self._steps,
                initial=first_step,
                desc=self.title,
                unit="step",
                dynamic_ncols=True,
            )

    def on_step(self, record: Record, *, logged: bool) -> None:
        """Move the bar on by one step, or print a line if it is time for one."""
        if self.bar is not None:
            self.bar.update(1)
            if logged:
                self.bar.set_postfix_str(_figures(record))
            return
        now, step = time.monotonic(), record["step"]
        due = now - self._printed >= self.seconds or step == self._steps
        if logged and due:
            self._printed = now
            left = (now - self._started) / (step - self._first) * (self._steps - step)
            print(
                f"{self.title}: step {step}/{self._steps} ({step / self._steps:.0%}), "
                f"{_figures(record)}, {tqdm.format_interval(left)} left",
                flush=True,
            )

    def on_validation(self, record: Record) -> None:
        """Print one line with the loss and the score, above the bar if there is one."""
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
        sys.stdout.flush()

    def close(self) -> None:
        """Close the bar."""
        if self.bar is not None:
            self.bar.close()


def _figures(record: Record) -> str:
    memory = record["memory_allocated"] or record["memory_resident"]
    return (
        f"loss {record['loss']:.4f}, lr {record['learning_rate']:.2e}, "
        f"{record['tokens_per_s']:,.0f} tokens/s, {memory / 1e9:.1f} GB"
    )
