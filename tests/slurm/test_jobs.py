"""The life of jobs on a real SLURM; in place of training, ranks that do as they are told."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from headrace.slurm.batch import Batch
from headrace.slurm.controller import Controller
from headrace.slurm.directives import Options
from headrace.slurm.overview import overview
from headrace.slurm.records import read_record
from headrace.slurm.site import read_site
from headrace.slurm.submission import submit

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
WORKER = ROOT / "tests" / "slurm" / "workers" / "as_planned.py"
PROFILE = (
    'HEADRACE_DIRECTIVES="--ntasks-per-node=1 --time=10"', "HEADRACE_RETRIES=1",
    "HEADRACE_RETRY_SECONDS=1",
)  # fmt: skip


@dataclass(frozen=True)
class Jobs:
    """Jobs that were submitted together, each behind the one before."""

    folder: Path
    numbers: tuple[str, ...]

    def record(self, task: int | None = None, job: int = 0):
        number = self.numbers[job]
        return read_record(self.folder, number if task is None else f"{number}_{task}")

    def codes(self, **which):
        """Exit codes of all starts; None: killed."""
        starts = self.record(**which).starts
        return [None if start.end is None else start.end.code for start in starts]

    def log(self) -> str:
        return "".join(path.read_text() for path in sorted((self.folder / "slurm").glob("*.log")))

    def log_of_rank(self, rank: int) -> str:
        """Of the last start."""
        return (self.folder / "slurm" / "ranks" / self.numbers[0] / f"{rank}.log").read_text()

    def has_started(self, start: int, task: int | None = None) -> bool:
        name = self.record(task=task).name
        return (self.folder / "slurm" / f"{name}-start-{start}-rank-0").exists()


def start(slurm, folder, *plans, tasks=0, nodes=1, profile=(), sbatch=()):
    """Submit a job for each plan, the first as an array if it has tasks."""
    folder.mkdir()
    site = slurm.write_profile(folder.with_suffix(".env"), *PROFILE, *profile)
    batches = [
        Batch(
            "command", f"part{number}", folder,
            (str(folder), "python", str(WORKER), str(folder), plan),
            on_ranks=True,
            tasks=() if number else tuple((one, f"task {one}") for one in range(1, tasks + 1)),
        )
        for number, plan in enumerate(plans)
    ]  # fmt: skip
    options = Options(nodes=nodes, sbatch=sbatch)
    with slurm.chosen():
        submitted = submit(batches, read_site(site), options, Controller())
    return Jobs(folder, tuple(job.number for job in submitted))


@pytest.fixture(scope="module")
def shaken(three_nodes, tmp_path_factory):
    """On another cluster: a job that loses one of its nodes, and one that loses its node to others.

    Begun before the jobs of the other tests: the greater part of their time is waiting too.
    """
    folder = tmp_path_factory.mktemp("shaken")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        jobs = {
            "cut off": start(
                three_nodes, folder / "cut_off", "sleep,done", nodes=2,
                sbatch=("--nodelist=n[1-2]",),
            ),
            "pre-empted": start(
                three_nodes, folder / "preempted", "sleep,done", sbatch=("--nodelist=n3",)
            ),
        }  # fmt: skip
    for job in jobs.values():
        three_nodes.wait(lambda job=job: job.has_started(1), "a start", log=job.folder / "slurm")
    three_nodes.cluster.cut("n2")
    three_nodes.run(
        "sbatch", "--partition=urgent", "--nodelist=n3", "--exclusive", "--output=/dev/null",
        "--wrap=sleep 1",
    )  # fmt: skip
    return jobs


@pytest.fixture(scope="module")
def jobs(slurm, shaken, tmp_path_factory):
    """The jobs of most tests, which run side by side: the greater part of their time is waiting."""
    folder = tmp_path_factory.mktemp("jobs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)

        def begin(name, *plans, **options):
            return start(slurm, folder / name, *plans, **options)

        return {
            "stopped": begin("stopped", "wait,done", nodes=2, profile=["HEADRACE_CHECK=yes"]),
            "requeued": begin("requeued", "sleep,done", nodes=2),
            "mistaken": begin("mistaken", "mistake", "done"),
            "faulty": begin("faulty", "fault,broken", nodes=2),
            "idle": begin("idle", "idle,idle,done", profile=["HEADRACE_IDLE_STARTS=2"]),
            "forbidden": begin("forbidden", "wait,done", "done", profile=["HEADRACE_REQUEUE=no"]),
            "refused": begin(
                "refused", "done", profile=["HEADRACE_CHECK=yes", "GLOO_SOCKET_IFNAME=ib0"]
            ),
            "array": begin("array", "wait,done/done/done/done", "done", tasks=4),
            "limited": begin("limited", "wait,done", sbatch=("--time=3", "--signal=B:USR1@110")),
        }


def ask_to_stop(slurm, jobs, task=None):
    """As SLURM does before the time limit: USR1 to the batch script alone."""
    slurm.wait(lambda: jobs.has_started(1, task), "the first start", log=jobs.folder / "slurm")
    number = jobs.numbers[0] if task is None else f"{jobs.numbers[0]}_{task}"
    slurm.run("scancel", "--batch", "--signal=USR1", number)


def test_a_job_that_is_asked_to_stop_saves_and_goes_on(slurm, jobs):
    job = jobs["stopped"]
    ask_to_stop(slurm, job)
    facts = slurm.wait_for_end(job.numbers[0], job.folder)
    assert (facts["JobState"], facts["Restarts"]) == ("COMPLETED", "1")
    assert job.codes() == [75, 0]
    assert job.record().numbers == [job.numbers[0]] * 2
    log = job.log()
    assert "rank 0 on n1, start 1: wait" in log
    assert "rank 1" not in log, "each other rank has a log of its own"
    assert job.log_of_rank(1) == "=== rank 1 on n2\nrank 1 on n2, start 2: done\n"
    assert "not started again: finished" in log
    assert log.count("2 ranks on 2 nodes") == 1, "the nodes were checked ahead of the first start"
    assert "fault:" not in log


def test_a_job_whose_nodes_are_not_fit_does_not_begin(slurm, jobs):
    job = jobs["refused"]
    facts = slurm.wait_for_end(job.numbers[0], job.folder)
    assert (facts["JobState"], facts["ExitCode"]) == ("FAILED", "2:0")
    assert not job.has_started(1)
    seen = overview(job.folder, Controller())
    assert [(one.state, one.starts) for one in seen.jobs] == [("stopped", 1)]
    what = "GLOO_SOCKET_IFNAME: there is no such interface that is up (value: ib0)"
    assert seen.error[0].startswith(f"mistake: n1 (rank 0): {what}. Set it to one of")


def test_a_node_whose_rank_does_not_arrive_is_named(slurm, tmp_path):
    script = f"test $SLURM_PROCID = 1 || exec {sys.executable} launch/check.py --wait 3"
    command = ["srun", "--nodes=2", "--ntasks=2", "bash", "-c", f"{script} --folder {tmp_path}"]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "fault: n2 (rank 1): not there after 3 seconds" in finished.stdout
    assert "--sbatch=--exclude=n2" in finished.stdout
    assert "n1: task 0: Exited with exit code 1" in finished.stderr


def test_a_users_mistake_is_not_repeated_and_ends_the_chain(slurm, jobs):
    job = jobs["mistaken"]
    facts = slurm.wait_for_end(job.numbers[0], job.folder)
    assert (facts["JobState"], facts["ExitCode"], facts["Restarts"]) == ("FAILED", "2:0", "0")
    assert job.codes() == [2]
    after = slurm.wait_for_end(job.numbers[1], job.folder)
    assert (after["JobState"], after["Reason"]) == ("CANCELLED", "DependencyNeverSatisfied")
    states = [(seen.state, seen.detail) for seen in overview(job.folder, Controller()).jobs]
    assert states == [
        ("stopped", "the input is wrong: see the log"),
        ("gone", "taken out of the queue before it started"),
    ]


def test_faults_are_tried_again_but_not_for_ever(slurm, jobs):
    job = jobs["faulty"]
    facts = slurm.wait_for_end(job.numbers[0], job.folder)
    assert (facts["JobState"], facts["ExitCode"], facts["Restarts"]) == ("FAILED", "1:0", "1")
    assert job.codes() == [1, 1]
    assert job.record().last["reason"] == "2 faults without progress in between"


def test_the_log_of_a_job_shows_what_another_rank_printed_before_it_failed(slurm, jobs):
    job = jobs["faulty"]
    slurm.wait_for_end(job.numbers[0], job.folder)
    log = job.log()
    file = job.folder / "slurm" / "ranks" / job.numbers[0] / "1.log"
    _, heading, rest = log.partition(f"=== rank 1 on n2: exit code 1, see {file}\n")
    assert heading
    assert "ValueError: the disk is broken at start 2\n=== rank 0 on n1: exit code 1" in rest
    assert "\r" not in log
    assert "10%" not in log, "of a bar the last state counts"
    error, where = overview(job.folder, Controller()).error
    assert error == "rank 1 on n2: ValueError: the disk is broken at start 2"
    assert where.endswith(f"-{job.numbers[0]}.log")


def test_a_job_without_progress_stops_and_says_so(slurm, jobs):
    job = jobs["idle"]
    facts = slurm.wait_for_end(job.numbers[0], job.folder)
    assert (facts["JobState"], facts["Restarts"]) == ("FAILED", "1")
    assert "not started again: no progress in 2 starts in a row" in job.log()


def test_a_job_that_is_requeued_in_mid_run_is_started_again(slurm, jobs):
    job = jobs["requeued"]
    slurm.wait(lambda: job.has_started(1), "the first start", log=job.folder / "slurm")
    slurm.run("scontrol", "requeue", job.numbers[0])
    facts = slurm.wait_for_end(job.numbers[0], job.folder)
    assert (facts["JobState"], facts["Restarts"]) == ("COMPLETED", "1")
    assert job.codes() == [None, 0]


def test_where_requeue_is_forbidden_a_successor_goes_on_and_is_waited_for(slurm, jobs):
    job = jobs["forbidden"]
    ask_to_stop(slurm, job)
    slurm.wait(lambda: len(job.record().numbers) == 2, "the successor", log=job.folder / "slurm")
    first, successor = job.record().numbers
    assert first == job.numbers[0] != successor
    assert slurm.wait_for_end(successor, job.folder)["JobState"] == "COMPLETED"
    assert job.codes() == [75, 0]
    after = slurm.wait_for_end(job.numbers[1], job.folder)
    assert after["JobState"] == "COMPLETED"
    assert after["StartTime"] >= slurm.facts(successor)["EndTime"]


def test_a_task_of_an_array_is_requeued_alone_and_the_chain_waits_for_it(slurm, jobs):
    job = jobs["array"]
    ask_to_stop(slurm, job, task=1)
    after = slurm.wait_for_end(job.numbers[1], job.folder)
    assert after["JobState"] == "COMPLETED"
    tasks = (1, 2, 3, 4)
    assert [job.codes(task=task) for task in tasks] == [[75, 0], [0], [0], [0]]
    restarts = [slurm.facts(f"{job.numbers[0]}_{task}")["Restarts"] for task in tasks]
    assert restarts == ["1", "0", "0", "0"]
    seen = overview(job.folder, Controller()).jobs
    assert [(one.title, one.state, one.starts) for one in seen[:4]] == [
        ("task 1", "finished", 2), *((f"task {task}", "finished", 1) for task in tasks[1:]),
    ]  # fmt: skip


def test_slurm_asks_a_job_to_stop_before_its_time_limit(slurm, jobs):
    """From 10 to 70 seconds after its start: SLURM may be a minute early."""
    job = jobs["limited"]
    facts = slurm.wait_for_end(job.numbers[0], job.folder)
    assert (facts["JobState"], facts["Restarts"]) == ("COMPLETED", "1")
    assert job.codes() == [75, 0]
    assert "asked to stop: the ranks save a checkpoint" in job.log()


def test_a_job_that_is_preempted_is_started_again(three_nodes, shaken):
    job = shaken["pre-empted"]
    facts = three_nodes.wait_for_end(job.numbers[0], job.folder)
    assert (facts["JobState"], facts["Restarts"]) == ("COMPLETED", "1")
    assert job.codes() == [None, 0]


def test_a_job_that_loses_a_node_is_started_again(three_nodes, shaken):
    """SLURM notices after its SlurmdTimeout, of 20 s here."""
    job = shaken["cut off"]

    def requeued():
        return three_nodes.facts(job.numbers[0])["Restarts"] == "1"

    three_nodes.wait(requeued, "the requeue", log=job.folder / "slurm")
    three_nodes.cluster.join("n2")
    facts = three_nodes.wait_for_end(job.numbers[0], job.folder)
    assert (facts["JobState"], facts["Restarts"]) == ("COMPLETED", "1")
    assert job.codes()[-1] == 0
