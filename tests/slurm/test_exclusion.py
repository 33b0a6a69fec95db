"""A node that the check finds faulty is left out when its job is started again."""

import json
import subprocess
from pathlib import Path

import pytest

from headrace.slurm.batch import Batch
from headrace.slurm.controller import SUBMITTED_VARIABLE, Controller, SlurmError, successor_words
from headrace.slurm.directives import Options
from headrace.slurm.overview import overview
from headrace.slurm.rank_logs import faulty_nodes, leave_faulty
from headrace.slurm.records import read_record, write_event
from headrace.slurm.site import read_site
from headrace.slurm.submission import submit

WORKER = Path(__file__).parent / "workers" / "as_planned.py"
WORDS = ["--nodes=2", "--exclude=n[7-8]", "--dependency=afterok:3", "slurm/train.sbatch", "a.json"]


def submitted(*words, **more):
    return {SUBMITTED_VARIABLE: json.dumps(words), **more}


def test_a_successor_is_what_was_submitted_without_the_excluded_nodes():
    words = successor_words(submitted(*WORDS), ["n2", "n5"])
    assert words == [
        "--nodes=2", "--exclude=n[7-8]", "--exclude=n[7-8],n2,n5", "slurm/train.sbatch", "a.json",
    ]  # fmt: skip
    assert successor_words(submitted("a.sbatch"), ["n2"]) == ["--exclude=n2", "a.sbatch"]
    assert successor_words(submitted("a.sbatch"), []) == ["a.sbatch"]


def test_a_successor_of_a_task_is_that_task_alone():
    environment = submitted("--array=1-4%2", "a.sbatch", SLURM_ARRAY_TASK_ID="3")
    assert successor_words(environment, []) == ["--array=3", "a.sbatch"]


def test_a_job_that_was_submitted_by_hand_has_no_successor():
    with pytest.raises(SlurmError, match="only jobs that slurm/submit has submitted"):
        successor_words({}, ["n2"])


def test_a_check_leaves_the_names_for_its_job_alone(tmp_path):
    leave_faulty({}, ["n2"])
    leave_faulty({"HEADRACE_RANKS": str(tmp_path)}, [])
    assert faulty_nodes(tmp_path) == []
    leave_faulty({"HEADRACE_RANKS": str(tmp_path)}, ["n2", "n3"])
    assert faulty_nodes(tmp_path) == ["n2", "n3"]


def test_a_record_has_all_nodes_that_were_excluded(tmp_path):
    for nodes in (["n2"], [], ["n3", "n2"]):
        write_event(tmp_path, "7", "again", reason="a fault", wait_seconds=0, exclude=nodes)
    write_event(tmp_path, "7", "again", reason="as before there were exclusions", wait_seconds=0)
    record = read_record(tmp_path, "7")
    assert record.excluded == ["n2", "n3"]
    assert record.unreadable == 0


def test_slurm_says_whether_it_has_other_nodes(slurm, at_root, monkeypatch):
    words = ["--nodes=1", "--time=10", "slurm/train.sbatch", "run.json"]
    monkeypatch.setenv(SUBMITTED_VARIABLE, json.dumps(words))
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "5")
    Controller().test_successor(["n2"])
    with pytest.raises(SlurmError, match="not available"):
        Controller().test_successor(["n1", "n2"])


@pytest.mark.slow
@pytest.mark.extended
def test_a_job_goes_on_without_the_node_that_a_check_has_named(three_nodes, at_root, tmp_path):
    """On one of three nodes the network has another name than the profile says."""
    rename = "ip link set eth0 down && ip link set eth0 name eth9 && ip link set eth9 up"
    subprocess.run([*three_nodes.cluster.inside("n2"), "sh", "-c", rename], check=True)
    profile = three_nodes.write_profile(
        tmp_path / "site.env", 'HEADRACE_DIRECTIVES="--ntasks-per-node=1 --time=10"',
        "HEADRACE_CHECK=yes", "HEADRACE_RETRY_SECONDS=1", "GLOO_SOCKET_IFNAME=eth0",
    )  # fmt: skip
    folder = tmp_path / "job"
    arguments = (str(folder), "python", str(WORKER), str(folder), "done,done")
    batch = Batch("command", "job", folder, arguments, on_ranks=True)
    with three_nodes.chosen():
        (job,) = submit([batch], read_site(profile), Options(nodes=2), Controller())
    three_nodes.wait(
        lambda: len(read_record(folder, job.number).numbers) == 2, "the successor",
        log=folder / "slurm",
    )  # fmt: skip
    record = read_record(folder, job.number)
    facts = three_nodes.wait_for_end(record.numbers[1], folder)
    assert (facts["JobState"], facts["NodeList"], facts["ExcNodeList"]) == (
        "COMPLETED", "n[1,3]", "n2",
    )  # fmt: skip
    assert [start.end.code for start in read_record(folder, job.number).starts] == [1, 0]
    assert record.excluded == ["n2"]
    log = "".join(path.read_text() for path in (folder / "slurm").glob("*.log"))
    assert "fault: n2 (rank 1): GLOO_SOCKET_IFNAME: there is no such interface" in log
    assert "left out from now on: n2" in log
    assert "start 1: done" not in log, "nothing began on the faulty node"
    with three_nodes.chosen():
        assert [seen.state for seen in overview(folder, Controller()).jobs] == ["finished"]
