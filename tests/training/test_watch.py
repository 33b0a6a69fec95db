"""Real ranks that stall, are stopped or killed, and what the others say and do."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from headrace.training.watch.files import FOLDER, heartbeats_of, jobs_of

pytestmark = pytest.mark.slow

WORKER = Path(__file__).parent / "workers" / "watched_ranks.py"
FAULTS = [
    "sleeps", "is stopped", "is suspended", "is killed", "leaves", "leaves as the main rank",
    "holds the lock", "fails", "has a jumping clock", "is fine",
]  # fmt: skip
PATIENCE = 150


class Pairs:
    """What is left of the pairs of ranks after their faults."""

    def __init__(self, folder):
        self.folder = folder

    def codes(self, name):
        return json.loads((self.folder / "codes.json").read_text())[name]

    def log(self, name, rank):
        return (self.folder / f"{name}-{rank}.log").read_text()

    def job(self, name):
        (job,) = jobs_of(self.folder / name)
        return job

    def wait(self, condition):
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, "the ranks have not come so far"
            time.sleep(0.02)

    def pids_at_step(self, name, step):
        """Those of both ranks, once they have begun a step."""
        found = []

        def there():
            beats = [beat for job in jobs_of(self.folder / name) for beat in heartbeats_of(job)]
            found[:] = [beat.pid for beat in beats if (beat.step or 0) >= step]
            return len(found) == 2

        self.wait(there)
        return found

    def has_ended(self, name, rank):
        try:
            return self.codes(name)[rank] is not None
        except FileNotFoundError:
            return False


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("watched")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    parent = subprocess.Popen([sys.executable, str(WORKER), str(folder), *FAULTS], env=environment)
    pairs = Pairs(folder)
    try:
        suspended = pairs.pids_at_step("is suspended", 10)
        for pid in suspended:
            os.kill(pid, signal.SIGSTOP)
        _, stopped = pairs.pids_at_step("is stopped", 11)
        os.kill(stopped, signal.SIGSTOP)
        os.kill(pairs.pids_at_step("is killed", 11)[1], signal.SIGKILL)
        pairs.wait(lambda: pairs.has_ended("is stopped", 0))
        os.kill(stopped, signal.SIGKILL)  # nobody else can
        (folder / "go on").touch()
        for pid in suspended:  # for longer than a hang would take
            os.kill(pid, signal.SIGCONT)
        assert parent.wait(PATIENCE) == 0
    finally:
        for child in psutil.Process(parent.pid).children() if parent.poll() is None else ():
            child.kill()
        parent.kill()
        parent.wait()
    return pairs


def test_a_rank_that_sleeps_is_named_and_the_run_ends(pairs):
    assert pairs.codes("sleeps") == [1, 1]
    said = pairs.log("sleeps", 0) + pairs.log("sleeps", 1)
    assert said.count("headrace: ") == 1
    assert "rank 1 on " in said
    assert "has been in data of step 10 (a/b)" in said
    assert "watched_ranks.py" in said
    assert "rank 0 waits in the all-reduce of sum over ranks of step 10 (a/b)" in said
    assert "Start the same command again" in said


def test_each_rank_leaves_its_stacks_behind(pairs):
    stacks = [(pairs.job("sleeps") / f"rank-{rank}.stack").read_text() for rank in range(2)]
    assert "all_reduce" in stacks[0]
    assert "all_reduce" not in stacks[1]
    for text in stacks:
        assert "no progress: rank 1" in text
        assert "in train" in text  # the function of the main thread that does not go on


def test_a_stopped_rank_is_named_with_its_state(pairs):
    assert pairs.codes("is stopped") == [1, -signal.SIGKILL]
    said = pairs.log("is stopped", 0)
    assert said.count("headrace: ") == 1
    assert "no progress: rank 1 on " in said
    assert "has shown no heartbeat for" in said
    assert "its process is stopped" in said
    assert "rank 0 waits in the all-reduce" in said


def test_a_rank_whose_interpreter_stands_still_is_named_and_shows_where(pairs):
    assert pairs.codes("holds the lock") == [1, 1]
    assert "rank 1 on " in pairs.log("holds the lock", 0)
    assert "has shown no heartbeat for" in pairs.log("holds the lock", 0)
    stack = (pairs.job("holds the lock") / "rank-1.stack").read_text()
    assert stack.startswith("Timeout (")  # written by the thread that needs no lock
    assert "in train" in stack.partition("no progress")[0]


@pytest.mark.parametrize(("fault", "code"), [("is killed", -signal.SIGKILL), ("leaves", 3)])
def test_a_rank_that_is_gone_ends_the_others(pairs, fault, code):
    """Without a launcher, and without the words of torch and gloo."""
    assert pairs.codes(fault) == [1, code]
    said = pairs.log(fault, 0)
    assert "rank 1 on " in said
    assert "is gone, last seen in " in said
    assert said.count("headrace: ") == len(said.strip().splitlines()) == 1


def test_the_main_rank_is_missed_as_any_other(pairs):
    assert pairs.codes("leaves as the main rank") == [3, 1]
    assert pairs.log("leaves as the main rank", 1).count("headrace: rank 0 on ") == 1


@pytest.mark.parametrize("fault", ["is suspended", "has a jumping clock"])
def test_neither_a_suspended_job_nor_a_clock_that_jumps_is_a_hang(pairs, fault):
    assert pairs.codes(fault) == [0, 0]
    assert pairs.log(fault, 0) == pairs.log(fault, 1) == ""


def test_a_rank_that_fails_speaks_for_itself(pairs):
    assert pairs.codes("fails") == [1, 1]
    assert "ValueError: the data of this rank is odd" in pairs.log("fails", 1)
    assert pairs.log("fails", 0) == ""


def test_a_job_that_ends_well_leaves_nothing(pairs):
    assert pairs.codes("is fine") == [0, 0]
    assert pairs.log("is fine", 0) == pairs.log("is fine", 1) == ""
    assert not (pairs.folder / "is fine").exists()


def test_a_job_that_ends_badly_leaves_its_last_heartbeats(pairs):
    last = {beat.rank: beat for beat in heartbeats_of(pairs.job("is killed"))}
    assert set(last) == {0, 1}
    assert last[1].step >= 11
    assert pairs.job("is killed").parent == pairs.folder / "is killed" / FOLDER
