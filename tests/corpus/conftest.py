"""Commands that are killed while they write shards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence

import pytest

KILLED = """
import os, signal, sys
from headrace.cli import main
from headrace.shards import ShardWriter

write, written = ShardWriter.write, 0

def deadly(self, sample):
    global written
    written += 1
    if written == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, sample)

ShardWriter.write = deadly
main(sys.argv[2:])
"""


@pytest.fixture(scope="session")
def kill_at_sample() -> Callable[[int, Sequence[str]], None]:
    """Runs a command that is killed before it writes the sample of this number, from 1."""

    def run(number: int, command: Sequence[str]) -> None:
        process = subprocess.run(
            [sys.executable, "-c", KILLED, str(number), *command],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            check=False,
        )
        assert process.returncode == -signal.SIGKILL

    return run
