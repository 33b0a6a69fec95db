"""The program of a batch script: runs a command on the job's nodes, and decides what comes next.

    python -m headrace.slurm.job [--ranks] [--folder DIR] -- COMMAND...

SLURM sends USR1 to the batch script before the time limit (``--signal=B:USR1@300``).  It is passed
on to the ranks, which agree on a step, save a checkpoint and end with exit code 75.  Then the job
requeues itself; where that is forbidden, it submits a successor, which the jobs that wait for this
one wait for as well.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from headrace.errors import EXIT_DONE, EXIT_FAULT, EXIT_USER_ERROR, UserError
from headrace.slurm import rank_logs
from headrace.slurm.controller import TRIES, Controller, SlurmError
from headrace.slurm.decision import (
    Decision,
    End,
    Start,
    decide,
    exit_code_of_ranks,
    has_own_fault,
    is_to_be_checked,
    no_progress,
)
from headrace.slurm.launch import launch_command
from headrace.slurm.records import job_name, job_number, read_record, write_event
from headrace.slurm.site import Site, find_site, read_site
from headrace.slurm.work import Work, check_command, described, work_of

REPEAT_SECONDS = 20
"""A stop signal is sent again after so long: a rank may not have listened yet."""
KILL_SECONDS = 300
"""SLURM ends a batch script that has requeued its job well within this time."""
SITE_VARIABLE = "HEADRACE_SITE"


class Job:
    """This job: its work, its site and its record."""

    def __init__(self, work: Work, site: Site) -> None:
        self.work = work
        self.site = site
        self.number = job_number(os.environ)
        self.name = job_name(os.environ)
        self.controller = Controller(tries=TRIES)
        self.asked = False
        """Whether SLURM has sent USR1."""
        self.ended = False
        """Whether SLURM is about to end this job: cancelled, or pre-empted."""
        self.faulty: list[str] = []
        """Nodes that the check of this start has named."""

    def listen(self) -> None:
        """Take note of signals from now on."""
        signal.signal(signal.SIGUSR1, self._ask)
        signal.signal(signal.SIGTERM, self._end)

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True

    def _end(self, _number: int, _frame: FrameType | None) -> None:
        self.ended = True

    def carry_out(self, words: Sequence[str], *, ranks: bool) -> int:
        """Run the command, and do what follows from its end.

        Returns:
            The exit code of the batch script.
        """
        before = read_record(self.work.folder, self.name).starts
        reason = no_progress(before, self.site.limits)
        if reason is not None:
            return self._stop(Decision(False, reason, EXIT_FAULT))
        progress = self.work.progress()
        self._say(f"start {len(before) + 1}: {described(progress)}")
        self._note("start", nodes=os.environ["SLURM_JOB_NODELIST"], progress=progress)
        commands = [list(words)]
        if ranks and self.site.check and is_to_be_checked(before):
            commands.insert(0, check_command(words, self.work))
        for command in commands:
            code, asked = self._run(launch_command(command, os.environ, self.site, ranks=ranks))
            if code != EXIT_DONE or self.ended:
                break
        if self.ended:
            self._say("SLURM ends this job: cancelled, pre-empted, requeued or out of time")
            self._note("ended")
            return EXIT_FAULT
        end = End(code, asked, self.work.progress())
        self._note("end", exit_code=code, asked=asked, progress=end.progress)
        self._say(f"exit code {code}: {described(end.progress)}")
        limits = replace(self.site.limits, retries=0) if self.work.once else self.site.limits
        decision = decide([*before, Start(progress, end)], limits)
        return self._again(decision) if decision.again else self._stop(decision)

    def _run(self, command: Sequence[str]) -> tuple[int, bool]:
        """Run a command; its exit code, and whether it was asked to stop and has no other fault."""
        folder = rank_logs.folder_of(self.work.folder, self.name).absolute()
        rank_logs.make_folder(folder)
        process = subprocess.Popen(command, env={**os.environ, rank_logs.VARIABLE: str(folder)})
        sent: float | None = None
        while True:
            try:
                code = process.wait(timeout=0.5)
                break
            except subprocess.TimeoutExpired:
                pass
            if self.asked and (sent is None or time.monotonic() - sent > REPEAT_SECONDS):
                if sent is None:
                    self._say("asked to stop: the ranks save a checkpoint")
                self.controller.signal_steps(self.number, "USR1")
                sent = time.monotonic()
        self.faulty = rank_logs.faulty_nodes(folder)
        ended = rank_logs.take_ended(folder)
        if shown := rank_logs.ends_of_logs(folder, ended):
            print(shown, flush=True)
        codes = {each.rank: each.code for each in ended}
        return exit_code_of_ranks(code, codes), self.asked and not has_own_fault(codes)

    def _stop(self, decision: Decision) -> int:
        self._say(f"not started again: {decision.reason}")
        self._note("stop", reason=decision.reason, exit_code=decision.exit_code)
        return decision.exit_code

    def _again(self, decision: Decision) -> int:
        """Requeue this job, or submit its successor.

        SLURM takes no exclusion of nodes from a job that runs, and one that has requeued itself is
        ended before it could ask: a job that leaves out nodes goes on under another number.
        """
        excluded = read_record(self.work.folder, self.name).excluded
        new = self._excluded_now(excluded)
        self._say(f"to be started again in {decision.wait_seconds} s: {decision.reason}")
        self._note("again", reason=decision.reason, wait_seconds=decision.wait_seconds, exclude=new)
        if self.site.requeue and not new:
            try:
                self.controller.requeue(self.number, decision.wait_seconds)
            except SlurmError as error:
                self._say(f"SLURM does not requeue this job ({error}): a successor is submitted")
            else:
                time.sleep(KILL_SECONDS)
                return EXIT_FAULT
        try:
            successor = self.controller.submit_successor(
                self.name, decision.wait_seconds, [*excluded, *new]
            )
            self.controller.let_wait_for(self.number, successor)
        except SlurmError as error:
            return self._stop(Decision(False, f"it cannot be started again: {error}", EXIT_FAULT))
        self._say(f"job {successor} goes on")
        return EXIT_DONE  # jobs that wait for this one wait for the successor too

    def _excluded_now(self, before: Sequence[str]) -> list[str]:
        """Faulty nodes that the next start is to do without, if SLURM has enough others."""
        new = [node for node in self.faulty if node not in before]
        if not new:
            return []
        named = ", ".join(new)
        try:
            self.controller.test_successor([*before, *new])
        except SlurmError as error:
            self._say(f"{named} may be given to this job again: {error}")
            return []
        self._say(f"left out from now on: {named}")
        return new

    def _note(self, kind: str, **facts: Any) -> None:
        """Write an event down; a job does not end because that is not possible."""
        try:
            write_event(self.work.folder, self.name, kind, job=self.number, **facts)
        except OSError as error:
            self._say(f"not written down ({error}): {kind}")

    def _say(self, text: str) -> None:
        print(f"[job {self.number}, {time.strftime('%F %T')}] {text}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command under the care of its job."""
    parser = argparse.ArgumentParser(prog="python -m headrace.slurm.job", description=__doc__)
    parser.add_argument("--ranks", action="store_true", help="a process for each rank")
    parser.add_argument("--folder", type=Path, help="folder of the results of the command")
    parser.add_argument("command", nargs="+")
    parsed = parser.parse_args(arguments)
    try:
        site = read_site(find_site(os.environ.get(SITE_VARIABLE, "generic")))
        job = Job(work_of(parsed.command, parsed.folder), site)
    except UserError as error:
        for problem in error.problems:
            print(f"error: {problem}", file=sys.stderr)
        return EXIT_USER_ERROR
    job.listen()
    return job.carry_out(parsed.command, ranks=parsed.ranks)


if __name__ == "__main__":
    sys.exit(main())
