"""What becomes of a job when its command has ended: a pure function of all its starts so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.counts import counted
from headrace.errors import EXIT_DONE, EXIT_FAULT, EXIT_REQUEUE, EXIT_USER_ERROR

LONGEST_WAIT = 3600
"""Seconds before a start after a fault, at most."""


@dataclass(frozen=True)
class Limits:
    """How often a job is started again."""

    idle_starts: int = 5
    """So many starts in a row without progress end it, whatever the reason."""
    retries: int = 3
    """Starts after faults, since the last progress."""
    retry_seconds: int = 60
    """Wait before the first of them; each further one doubles it."""


@dataclass(frozen=True)
class End:
    """How the command of a start ended."""

    code: int
    """0, 1, 2 or 75, see :func:`exit_code_of_ranks`."""
    asked: bool
    """Whether the job passed a stop signal on, as it does before its time limit, and no rank
    reported a fault of its own after that (a disk that is full, for one)."""
    progress: Mapping[str, Any]
    """Progress after it."""


@dataclass(frozen=True)
class Start:
    """One start of a job."""

    progress: Mapping[str, Any]
    """Progress before it."""
    end: End | None
    """None: the job was killed (pre-emption, a lost node, a time limit without a signal)."""


@dataclass(frozen=True)
class Decision:
    """What to do with a job."""

    again: bool
    """Whether to start it again."""
    reason: str
    exit_code: int = EXIT_DONE
    """Of the batch script, if the job is not started again."""
    wait_seconds: int = 0
    """Before it is started again."""


def exit_code_of_ranks(code: int, ranks: Mapping[int, int]) -> int:
    """Return the one exit code that the ranks mean.

    A launcher reports the highest code, or 1, or that of a rank that it has killed itself.

    Args:
        code: exit code of the launcher.
        ranks: exit codes of ranks, as far as they are known and not 0.
    """
    if code == EXIT_DONE:
        return EXIT_DONE
    if EXIT_USER_ERROR in ranks.values():
        return EXIT_USER_ERROR
    if ranks.get(0) == EXIT_REQUEUE:  # all ranks have agreed, the checkpoint is complete
        return EXIT_REQUEUE
    if not ranks and code in (EXIT_USER_ERROR, EXIT_REQUEUE):
        return code
    return EXIT_FAULT


def has_own_fault(ranks: Mapping[int, int]) -> bool:
    """Whether a rank ended with a fault, and was not just killed in the middle of its work."""
    return any(code < 128 and code not in (EXIT_DONE, EXIT_REQUEUE) for code in ranks.values())


def idle_starts(starts: Sequence[Start]) -> int:
    """Return how many starts in a row, up to the last, have made no progress."""
    count = 0
    for number in reversed(range(len(starts))):
        start = starts[number]
        if start.end is not None:
            after = start.end.progress
        elif number + 1 < len(starts):
            after = starts[number + 1].progress
        else:
            continue  # it is under way
        if after != start.progress:
            break
        count += 1
    return count


def no_progress(starts: Sequence[Start], limits: Limits) -> str | None:
    """Return why a job is not to be started again whatever its last exit code was, if so."""
    count = idle_starts(starts)
    if count < limits.idle_starts:
        return None
    return f"no progress in {counted(count, 'start')} in a row"


def decide(starts: Sequence[Start], limits: Limits) -> Decision:
    """Return what becomes of a job whose last start has ended.

    0 is the end, 2 a mistake that a start would only repeat.  After 75 the job is started again,
    and after any other code if it had been asked to stop.  The rest are faults: they are tried
    again after a while, a few times.
    """
    end = starts[-1].end
    if end is None:
        raise ValueError("the last start has not ended")
    if end.code == EXIT_DONE:
        return Decision(False, "finished")
    if end.code == EXIT_USER_ERROR:
        return Decision(False, "the input is wrong: see the log", EXIT_USER_ERROR)
    idle = no_progress(starts, limits)
    if idle is not None:
        return Decision(False, idle, EXIT_FAULT)
    if end.code == EXIT_REQUEUE:
        return Decision(True, "stopped with a checkpoint")
    if end.asked:
        return Decision(True, "asked to stop, and ended without a new checkpoint")
    faults = _faults(starts)
    if faults > limits.retries:
        reason = f"{counted(faults, 'fault')} without progress in between"
        return Decision(False, reason, EXIT_FAULT)
    wait = min(LONGEST_WAIT, limits.retry_seconds * 2 ** (faults - 1))
    reason = f"a fault, start {faults} of {limits.retries} after one"
    return Decision(True, reason, wait_seconds=wait)


def is_to_be_checked(before: Sequence[Start]) -> bool:
    """Whether nodes are checked ahead of a start: of the first one, and of those behind a fault."""
    if not before:
        return True
    end = before[-1].end
    return end is not None and end.code == EXIT_FAULT and not end.asked


def _faults(starts: Sequence[Start]) -> int:
    """Faults since the last progress; a start that made progress and then failed is the first."""
    count = 0
    for start in reversed(starts):
        if start.end is not None and start.end.code == EXIT_FAULT and not start.end.asked:
            count += 1
        if start.end is not None and start.end.progress != start.progress:
            break
    return count
