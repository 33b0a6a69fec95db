"""What share of its time a job that fails now and then trains: drawn at random, many times.

Every draw is the life of one job, start by start.  A start ends with the failure that is drawn for
it, with the signal ahead of the time limit, or with the end of the training; all that happens
until then follows from the interval between checkpoints.  So a start is a handful of operations on
arrays, with an element for each draw and interval, however many checkpoints it has.

Like training itself: checkpoints lie at multiples of the interval, and at the end; the signal is
answered with one more.  A failure takes what was not saved with it, or, while a checkpoint is
written in the background, what was saved in the one before.  Starting can fail like training;
while a failure is noticed and while the job is queued nothing fails.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.planning.failures import Job, Saving

Floats = NDArray[np.float64]

MOST_TIME = 10
"""A draw is broken off after so many times the work: its goodput is below a tenth."""
_ROUNDING = 1e-9
"""Of the interval: what is nearer to a whole number of intervals is that number."""


@dataclass(frozen=True)
class Outcome:
    """All draws of one interval; arrays have an element for each, times are in seconds."""

    interval: float
    useful: Floats
    """Training that was kept."""
    saving: Floats
    """Standstill for checkpoints, and waiting for those that are being written."""
    lost: Floats
    """Training and saving that a failure took."""
    detecting: Floats
    queueing: Floats
    starting: Floats
    failures: Floats
    finished: NDArray[np.bool_]
    """False for draws that were broken off (``MOST_TIME``)."""

    @property
    def wall(self) -> Floats:
        """From the first start to the end."""
        parts = (self.saving, self.lost, self.detecting, self.queueing, self.starting)
        whole: Floats = np.sum(parts, axis=0) + self.useful
        return whole

    @property
    def goodput(self) -> Floats:
        """Share of the time from the first start to the end that is useful."""
        return self.useful / self.wall

    @property
    def of_held(self) -> Floats:
        """Share that is useful of the time for which the job has its nodes."""
        return self.useful / (self.wall - self.queueing)

    @property
    def mean(self) -> float:
        """Mean goodput of the draws."""
        return float(self.goodput.mean())

    def quantile(self, share: float) -> float:
        """Goodput that a share of the draws stays below."""
        return float(np.quantile(self.goodput, share))


def standard_gaps(seed: int, start: int, draws: int) -> Floats:
    """Return the times until the failure of a start, one for each draw, with a mean of 1.

    Those of a draw are the same for every interval, so that intervals are compared under the same
    failures.
    """
    return np.random.default_rng([seed, start]).standard_exponential(draws)


def simulate(
    job: Job, saving: Saving, intervals: Sequence[float], *, draws: int, seed: int
) -> list[Outcome]:
    """Draw the lives of a job for each of several intervals between checkpoints.

    Args:
        job: its times.
        saving: what a checkpoint takes.
        intervals: seconds of training between checkpoints, all positive.
        draws: lives for each interval.
        seed: the same one gives the same draws.

    Returns:
        What came out, in the order of the intervals.

    Raises:
        ValueError: if the job is told to stop before it has started.
    """
    if job.signal_at is not None and job.signal_at <= job.start:
        raise ValueError("the job is told to stop before it has started")
    every = np.repeat(np.asarray(intervals, dtype=np.float64), draws)
    sums = {name: np.zeros(len(every)) for name in _SUMS}
    finished = np.zeros(len(every), dtype=bool)
    active = np.arange(len(every))
    for number in itertools.count():
        gaps = job.mtbf * standard_gaps(seed, number, draws)[active % draws]
        ends = _start(job, saving, every[active], sums["useful"][active], gaps)
        again = ~ends.finishes
        fails = ends.fails
        added: dict[str, Floats] = {
            "useful": ends.gained,
            "saving": ends.saving,
            "lost": ends.lost,
            "starting": ends.starting,
            "detecting": np.where(fails, job.detect, 0.0),
            "queueing": np.where(again, job.requeue, 0.0),
            "failures": fails.astype(np.float64),
        }
        for name, values in added.items():
            sums[name][active] += values
        finished[active] = ends.finishes
        wall = sum(sums[name][active] for name in _SUMS if name != "failures")
        active = active[again & (wall < MOST_TIME * job.work)]
        if not len(active):
            break
    parts = {name: values.reshape(-1, draws) for name, values in sums.items()}
    return [
        Outcome(
            interval=float(interval),
            finished=finished.reshape(-1, draws)[number],
            **{name: values[number] for name, values in parts.items()},
        )
        for number, interval in enumerate(intervals)
    ]


_SUMS = ("useful", "saving", "lost", "detecting", "queueing", "starting", "failures")


@dataclass(frozen=True)
class _Ends:
    """How one start of several draws ended; arrays have an element for each."""

    gained: Floats
    saving: Floats
    lost: Floats
    starting: Floats
    fails: NDArray[np.bool_]
    finishes: NDArray[np.bool_]


@dataclass(frozen=True)
class _Course:
    """How a start would go without a failure.

    The training is cut into pieces, each with a checkpoint behind it.  Of all pieces but the first
    and the last the end follows from their number.
    """

    start: float
    saving: Saving
    every: Floats
    first: Floats
    """Training of the first piece."""
    pieces: Floats
    """How many."""
    last: Floats
    """Training of the last piece."""

    @classmethod
    def of(cls, start: float, saving: Saving, every: Floats, kept: Floats, work: float) -> _Course:
        """``kept`` is the training that is done: the first piece ends at the next multiple."""
        left = work - kept
        first = np.minimum((np.floor(kept / every + _ROUNDING) + 1) * every - kept, left)
        pieces = 1 + np.ceil(np.maximum(0, (left - first) / every - _ROUNDING))
        last = np.where(pieces > 1, left - first - (pieces - 2) * every, first)
        return cls(start, saving, every, first, pieces, last)

    @property
    def period(self) -> Floats:
        """From one checkpoint to the next: training waits for the one that is being written."""
        return np.asarray(np.maximum(self.every, self.saving.write) + self.saving.stall)

    def saved_at(self, number: Floats) -> Floats:
        """When so many checkpoints, but not all, have been taken and training goes on."""
        first = self.start + self.first + self.saving.stall
        return np.where(number > 0, first + (number - 1) * self.period, self.start)

    def saved_by(self, time: Floats | float) -> Floats:
        """How many checkpoints have been taken by then, without the last."""
        first = self.start + self.first + self.saving.stall
        number = np.floor((time - first) / self.period + _ROUNDING) + 1
        clipped: Floats = np.clip(number, 0, self.pieces - 1)
        return clipped

    def trained(self, number: Floats) -> Floats:
        """Training before so many checkpoints, but not all."""
        return np.where(number > 0, self.first + (number - 1) * self.every, 0.0)

    def due(self, number: Floats) -> Floats:
        """When the checkpoint behind so many is taken."""
        piece = np.where(number == 0, self.first, self.every)
        piece = np.where(number == self.pieces - 1, self.last, piece)
        ready = self.saved_at(number) + np.where(number > 0, self.saving.write, 0.0)
        return np.asarray(np.maximum(self.saved_at(number) + piece, ready))

    @property
    def finish(self) -> Floats:
        """When the last checkpoint counts."""
        return self.due(self.pieces - 1) + self.saving.whole


def _start(job: Job, saving: Saving, every: Floats, kept: Floats, gaps: Floats) -> _Ends:
    """One start of several draws.

    Args:
        job: its times.
        saving: what a checkpoint takes.
        every: interval of each draw.
        kept: training that each has behind it.
        gaps: from the start to its failure, for each.
    """
    course = _Course.of(job.start, saving, every, kept, job.work)
    left = job.work - kept
    end, planned = course.finish, left
    if job.signal_at is not None:
        end, planned = _stopped(course, job.signal_at, left)
    fails = gaps < end
    counted = course.trained(course.saved_by(gaps - saving.write))
    gained = np.where(fails, counted, planned)
    taken = course.saved_by(gaps)
    standstill = taken * saving.stall
    standstill += np.maximum(taken - 1, 0) * np.maximum(saving.write - every, 0)
    starting = np.where(fails, np.minimum(gaps, job.start), job.start)
    saved = np.where(fails, standstill, end - job.start - planned)
    lost = np.where(fails, np.maximum(0, gaps - starting - saved - gained), 0.0)
    return _Ends(gained, saved, lost, starting, fails, ~fails & (planned >= left))


def _stopped(course: _Course, signal: float, left: Floats) -> tuple[Floats, Floats]:
    """When starts that are told to stop end, and the training that they have done until then.

    A checkpoint that is being taken is the last; else one more is taken, as soon as the one before
    is written.
    """
    number = course.saved_by(signal)
    before, due = course.saved_at(number), course.due(number)
    is_last = number == course.pieces - 1
    piece = np.where(number == 0, course.first, np.where(is_last, course.last, course.every))
    trained = course.trained(number) + np.minimum(np.maximum(0, signal - before), piece)
    written = before + np.where(number > 0, course.saving.write, 0.0)
    taken = np.where(signal >= due, due, np.maximum(signal, written))
    finishes = is_last & (signal >= due)
    end = np.where(finishes, course.finish, taken + course.saving.whole)
    return end, np.where(finishes, left, trained)
