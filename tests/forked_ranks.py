"""Runs ranks of scripts, forked from a process that has imported what training imports.

Each rank that starts anew takes eight seconds of a processor for that.  Started without arguments
this file is that process: a line of JSON on standard input is a request, a line on standard output
the answer.  :class:`ForkedRanks` starts it and asks it.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

import psutil

SECONDS_BEHIND_A_FAILURE = 30
"""For the other ranks to end by themselves."""


class ForkedRanks:
    """Starts the process when it is first needed."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._server: subprocess.Popen[str] | None = None

    def run(
        self, words: Sequence[str], environments: Sequence[Mapping[str, str]], folder: Path,
        output: Path, seconds: float,
    ) -> list[int | None]:  # fmt: skip
        """Run ranks to their end; when one has failed, the others are killed after a while.

        Args:
            words: the script and its arguments.
            environments: of each rank.
            folder: that they start in.
            output: a file for what they print.
            seconds: how long they may take.

        Returns:
            The exit code of each; None: it was killed.
        """
        if self._server is None:
            self._server = subprocess.Popen(
                [sys.executable, __file__], env=self._environment, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            )  # fmt: skip
        request = {
            "words": list(words), "environments": list(map(dict, environments)),
            "folder": str(folder), "output": str(output), "seconds": seconds,
        }  # fmt: skip
        try:
            self._server.stdin.write(json.dumps(request) + "\n")
            self._server.stdin.flush()
            return json.loads(self._server.stdout.readline())
        except BaseException:  # a time limit of the test: the answer is not to be the next one's
            for process in psutil.Process(self._server.pid).children(recursive=True):
                process.kill()
            self._server.kill()
            self._server.wait()
            self._server = None
            raise

    def kill(self) -> None:
        """End the ranks that run, by SIGKILL; another thread waits for them in :meth:`run`."""
        for process in psutil.Process(self._server.pid).children():
            process.kill()

    def close(self) -> None:
        """End the process."""
        if self._server is not None:
            self._server.stdin.close()
            self._server.wait()


def serve(answers: TextIO) -> dict | None:
    """Answer requests; in a forked rank, return the request, and its number as ``rank``."""
    for line in sys.stdin:
        request = json.loads(line)
        ranks: list[int] = []
        for rank in range(len(request["environments"])):
            if (child := os.fork()) == 0:
                return {**request, "rank": rank}
            ranks.append(child)
        print(json.dumps(wait_for(ranks, request["seconds"])), file=answers, flush=True)
    return None


def wait_for(ranks: Sequence[int], seconds: float) -> list[int | None]:
    """Wait for processes, and kill those that are left some time after one has failed."""
    codes: dict[int, int] = {}
    end = time.monotonic() + seconds
    while len(codes) < len(ranks) and time.monotonic() < end:
        for rank in ranks:
            if rank not in codes and (found := os.waitpid(rank, os.WNOHANG))[0]:
                codes[rank] = os.waitstatus_to_exitcode(found[1])
                if codes[rank]:
                    end = min(end, time.monotonic() + SECONDS_BEHIND_A_FAILURE)
        time.sleep(0.02)
    for rank in ranks:
        if rank not in codes:
            os.kill(rank, signal.SIGKILL)
            os.waitpid(rank, 0)
    return [codes.get(rank) for rank in ranks]


def become(request: dict) -> None:
    """Go on as the script: its environment, folder, arguments and output."""
    os.environ.clear()
    os.environ.update(request["environments"][request["rank"]])
    os.chdir(request["folder"])
    output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    empty = os.open(os.devnull, os.O_RDONLY)
    for old, new in ((empty, 0), (output, 1), (output, 2)):
        os.dup2(old, new)
    sys.argv = request["words"]
    sys.path[0] = str(Path(sys.argv[0]).parent)
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print

    import deepspeed  # noqa: F401
    import transformers.models.bert.modeling_bert  # noqa: F401

    import headrace.training.run  # noqa: F401

    if (own := serve(answers)) is not None:
        become(own)
