"""What a rank is doing: noted by the training code, read by the thread that watches it.

Nothing here looks at a clock: how long a rank has been at something is counted by the thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Moment:
    """One point of a rank's way through a run."""

    phase: str
    """What is done, for people: ``data``, ``forward and backward``, ``saving`` ..."""
    branch: str | None = None
    """Stage and branch."""
    step: int | None = None
    """Number of the optimizer step, from 1; None outside steps."""
    slow: bool = False
    """Whether it may take long without a sign of progress."""
    endless: bool = False
    """Whether it may take as long as it likes: nobody can say how long, and it shows nothing."""
    position: int = 0
    """How many phases this rank has entered.  All ranks enter the same phases in the same order,
    so that a rank with a smaller number is behind."""
    ticks: int = 0
    """Signs of progress within the phase; ranks may differ in them."""

    def __str__(self) -> str:
        step = "" if self.step is None else f" of step {self.step}"
        branch = "" if self.branch is None else f" ({self.branch})"
        return f"{self.phase}{step}{branch}"


class Activity:
    """The moment a rank is at.

    One thread writes it, the main one; others may read `now` at any time and see a whole moment.
    """

    def __init__(self) -> None:
        self.now = Moment("starting")
        self._branch: str | None = None

    def enter(
        self, phase: str, step: int | None = None, *, slow: bool = False, endless: bool = False
    ) -> None:
        """Begin a phase, which every rank does at this point of its way."""
        self.now = Moment(phase, self._branch, step, slow, endless, self.now.position + 1)

    def tick(self) -> None:
        """Say that the phase goes on."""
        self.now = replace(self.now, ticks=self.now.ticks + 1)

    @contextmanager
    def training(self, branch: str) -> Iterator[None]:
        """Name the branch in all phases that begin in the block."""
        self._branch = branch
        try:
            yield
        finally:
            self._branch = None
