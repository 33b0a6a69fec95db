"""What is asked of SLURM's controller, through its commands."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from headrace.errors import HeadraceError
from headrace.slurm.directives import value_of
from headrace.slurm.records import NAME_VARIABLE

SUBMITTED_VARIABLE = "HEADRACE_SUBMITTED"
"""A job finds the words of ``sbatch`` here, by which it can submit a successor."""
TRIES = 30
"""Of a job's request to a controller that does not answer."""
PAUSE_SECONDS = 10
"""Between them."""
ANSWER_SECONDS = 120
"""A command of SLURM that takes longer is given up."""
_NOT_REACHED = re.compile(r"unable to contact|connection refused", re.IGNORECASE)
"""Only these requests are made again: others may have been carried out."""


class SlurmError(HeadraceError):
    """SLURM refuses a request, or does not answer."""


@dataclass(frozen=True)
class QueuedJob:
    """A job as ``squeue`` has it."""

    number: str
    """``123``, or ``123_4`` in an array."""
    state: str
    reason: str
    """Why it waits."""
    start: str
    """When it has started, or is expected to; ``N/A`` where SLURM has no idea."""
    left: str
    """Until its time limit."""
    nodes: str


class Controller:
    """Asks the controller.

    Args:
        tries: how often, while it does not answer: a job waits for one that is restarted.
    """

    def __init__(self, *, tries: int = 1) -> None:
        self.tries = tries

    def submit(self, words: Sequence[str], environment: Mapping[str, str]) -> str:
        """Submit a job and return its number.

        Args:
            words: what follows ``sbatch``.
            environment: further variables of the job, which has those of this process as well.
        """
        printed = self._ask(["sbatch", "--parsable", *words], {**_outside(), **environment})
        return printed.strip().splitlines()[-1].partition(";")[0]

    def test(self, words: Sequence[str]) -> str:
        """Return what SLURM says of a job without submitting it; where it is not there, that.

        Raises:
            SlurmError: if SLURM would refuse it.
        """
        if shutil.which("sbatch") is None:
            return "not tested: SLURM is not here"
        return self._ask(["sbatch", "--test-only", *words], _outside(), both=True).strip()

    def requeue(self, number: str, wait_seconds: int) -> None:
        """Requeue a running job, this one as well, which SLURM then ends at once."""
        self._ask(["scontrol", "requeue", number])
        if wait_seconds:
            # best effort: the job is started again without the wait if SLURM is faster
            with suppress(SlurmError):
                self._ask(
                    ["scontrol", "update", f"JobId={number}", f"StartTime=now+{wait_seconds}"]
                )

    def submit_successor(self, name: str, wait_seconds: int, exclude: Sequence[str]) -> str:
        """Submit a job again, under another number, and return that.

        Raises:
            SlurmError: for a job that was not submitted by ``slurm/submit``, too.
        """
        words = successor_words(os.environ, exclude)
        if wait_seconds:
            words = [f"--begin=now+{wait_seconds}", *words]
        return self.submit(words, {NAME_VARIABLE: name})

    def test_successor(self, exclude: Sequence[str]) -> None:
        """Ask whether a job could be started without some nodes.

        Raises:
            SlurmError: if it could not: no others are left, for one.
        """
        self.test(successor_words(os.environ, exclude))

    def let_wait_for(self, number: str, successor: str) -> None:
        """Let all jobs that wait for a job wait for its successor as well."""
        own = number.partition("_")[0]
        listed = self._ask(["squeue", "--noheader", "--states=PENDING", "--format=%i|%E"])
        for line in listed.splitlines():
            job, _, text = line.strip().partition("|")
            dependency = re.sub(r"\([a-z]+\)", "", text)
            if re.search(rf":{own}(_\*|_\d+)?\b", dependency):
                both = f"{dependency.replace('_*', '')},afterok:{successor}"
                self._ask(["scontrol", "update", f"JobId={job}", f"Dependency={both}"])

    def signal_steps(self, number: str, name: str) -> None:
        """Send a signal to all processes of a job but its batch script."""
        with suppress(SlurmError):  # no step yet; it is sent again
            self._ask(["scancel", f"--signal={name}", number])

    def queue(self) -> list[QueuedJob]:
        """Return this user's jobs that wait or run."""
        form = "--format=%i|%T|%r|%S|%L|%N"
        listed = self._ask(["squeue", "--noheader", "--array", "--me", form])
        return [QueuedJob(*line.strip().split("|", 5)) for line in listed.splitlines()]

    def accounting(self, numbers: Sequence[str]) -> dict[str, str]:
        """Return states of jobs that have ended; empty where no accounting is kept."""
        words = ["--noheader", "--parsable2", "--allocations", "--format=JobID,State"]
        try:
            listed = self._ask(["sacct", *words, f"--jobs={','.join(numbers)}"])
        except SlurmError:
            return {}
        rows = (line.split("|") for line in listed.splitlines() if "|" in line)
        return {row[0]: row[1].partition(" ")[0] for row in rows}

    def _ask(
        self,
        words: Sequence[str],
        environment: Mapping[str, str] | None = None,
        *,
        both: bool = False,
    ) -> str:
        for attempt in range(1, self.tries + 1):
            try:
                asked = subprocess.run(
                    words, env=environment, capture_output=True, text=True, timeout=ANSWER_SECONDS
                )
            except FileNotFoundError:
                raise SlurmError(f"there is no program {words[0]} here") from None
            except subprocess.TimeoutExpired:
                problem = f"no answer in {ANSWER_SECONDS} s"
                raise SlurmError(f"{shlex.join(words[:2])}: {problem}") from None
            if asked.returncode == 0:
                return asked.stdout + (asked.stderr if both else "")
            if attempt == self.tries or not _NOT_REACHED.search(asked.stderr):
                break
            time.sleep(PAUSE_SECONDS)
        said = " ".join(asked.stderr.split()) or f"exit code {asked.returncode}"
        raise SlurmError(f"{shlex.join(words[:2])}: {said}")


def _outside() -> dict[str, str]:
    """The environment without the variables of the job that this may be part of.

    They would be taken for options of the new one.
    """
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("SLURM_") or name == "SLURM_CONF"
    }


def successor_words(environment: Mapping[str, str], exclude: Sequence[str]) -> list[str]:
    """Return what follows ``sbatch`` to submit a job again.

    Args:
        environment: of the job.
        exclude: nodes that it is not to be given, beside those that it has excluded itself.

    Raises:
        SlurmError: for a job that was not submitted by ``slurm/submit``.
    """
    text = environment.get(SUBMITTED_VARIABLE)
    if text is None:
        raise SlurmError("only jobs that slurm/submit has submitted can submit a successor")
    words = [word for word in json.loads(text) if not word.startswith("--dependency=")]
    task = environment.get("SLURM_ARRAY_TASK_ID")
    if task is not None:
        words = [f"--array={task}" if word.startswith("--array=") else word for word in words]
    if exclude:
        script = next(at for at, word in enumerate(words) if word.endswith(".sbatch"))
        own = value_of(words[:script], "--exclude", "-x")
        names = ",".join([*([own] if own else []), *exclude])
        words.insert(script, f"--exclude={names}")  # of several the last counts
    return words
