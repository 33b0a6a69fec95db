"""A job that fails now and then: its times, and the interval between checkpoints by formula.

M is the mean time between failures of the job: that of a node, divided by the nodes, since the
job ends with the first of them.  Failures are taken to come at random at any time alike
(exponential gaps), as in the formulas of Young and Daly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Saving:
    """What a checkpoint takes, in seconds."""

    stall: float
    """For which training stands still."""
    write: float = 0.0
    """From then on, while training goes on, until the checkpoint counts."""

    @property
    def whole(self) -> float:
        """Of a checkpoint that is waited for."""
        return self.stall + self.write


@dataclass(frozen=True)
class Job:
    """A job of SLURM that is started again until its training is finished; times in seconds."""

    work: float
    """Training alone, without saving: what is useful."""
    mtbf: float
    """Mean time between two failures of the job; infinite: there are none."""
    detect: float = 0.0
    """From a failure until the job has ended."""
    requeue: float = 0.0
    """From the end of a job until it is started again; no nodes are held meanwhile."""
    start: float = 0.0
    """From a start until training goes on: imports, index, model, checkpoint."""
    signal_at: float | None = None
    """From a start until the job is told to save and end, ahead of its time limit; None: never."""


def young_interval(stall: float, mtbf: float) -> float:
    """Return the best training time between checkpoints to first order: sqrt(2 x stall x M).

    Source: J. W. Young, A first order approximation to the optimum checkpoint interval,
    Communications of the ACM 17(9), 1974.

    Args:
        stall: seconds for which training stands still for a checkpoint.
        mtbf: M, in seconds.
    """
    return math.sqrt(2 * stall * mtbf)


def daly_interval(stall: float, mtbf: float) -> float:
    """Return the best training time between checkpoints to higher order.

    With x = stall / 2 M it is sqrt(2 x stall x M) (1 + sqrt(x)/3 + x/9) - stall where stall < 2 M,
    else M.  Source: J. T. Daly, A higher order estimate of the optimum checkpoint interval for
    restart dumps, Future Generation Computer Systems 22(3), 2006.

    Args:
        stall: seconds for which training stands still for a checkpoint.
        mtbf: M, in seconds.
    """
    if stall >= 2 * mtbf:
        return mtbf
    share = stall / (2 * mtbf)
    return young_interval(stall, mtbf) * (1 + math.sqrt(share) / 3 + share / 9) - stall


def best_interval(saving: Saving, mtbf: float) -> float:
    """Return Daly's interval, but no less than a checkpoint is written in.

    What the writing adds to the loss of a failure does not depend on the interval; but a checkpoint
    that is due before the one before is written waits for it.
    """
    return max(daly_interval(saving.stall, mtbf), saving.write)


def expected_goodput(job: Job, stall: float, interval: float) -> float:
    """Return the share of the time that is training by Daly's complete model.

    A piece of training and the checkpoint behind it take e^(start/M) (e^((piece + stall)/M) - 1)
    (M + detect + requeue) on average, with all its failures: the expectation is exact for
    checkpoints that are waited for, in jobs without a time limit.

    Args:
        job: its time limit is left out of account.
        stall: seconds for which training stands still for a checkpoint.
        interval: seconds of training between checkpoints.
    """
    pieces = max(1, math.ceil(job.work / interval - 1e-9))
    last = job.work - (pieces - 1) * interval
    if math.isinf(job.mtbf):
        return job.work / (job.start + job.work + pieces * stall)
    with np.errstate(over="ignore"):
        tries = (pieces - 1) * np.expm1((interval + stall) / job.mtbf)
        tries += np.expm1((last + stall) / job.mtbf)
        tries = tries * np.exp(job.start / job.mtbf) + np.expm1(job.start / job.mtbf)
    return float(job.work / (tries * (job.mtbf + job.detect + job.requeue)))
