"""How the ranks of a job are started, and what CPUs they have on a SLURM that binds them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.slurm.launch import launch_command
from headrace.slurm.site import read_site

ROOT = Path(__file__).parents[2]
JOB = {"SLURM_JOB_NUM_NODES": "3", "SLURM_CPUS_PER_TASK": "8"}


def site(folder, *lines):
    path = folder / "site.env"
    path.write_text("\n".join(["HEADRACE_RANKS_PER_NODE=4", *lines]) + "\n")
    return read_site(path)


def test_ranks_are_bound_and_neighbours_are_on_one_socket(tmp_path):
    words = launch_command(["a", "b"], JOB, site(tmp_path), ranks=True)
    for option in (
        "--nodes=3", "--ntasks=12", "--cpus-per-task=8", "--cpu-bind=cores",
        "--distribution=block:block",
    ):  # fmt: skip
        assert option in words
    assert words[-4:] == ["bash", "slurm/rank.sh", "a", "b"]


def test_a_site_may_start_ranks_otherwise(tmp_path):
    chosen = site(tmp_path, 'HEADRACE_SRUN="--mpi=none"', "HEADRACE_LAUNCH=torchrun")
    words = launch_command(["a"], JOB, chosen, ranks=True)
    assert "--mpi=none" in words
    assert not [word for word in words if "bind" in word]
    assert "--ntasks=3" in words
    assert words[-4:] == ["bash", "slurm/node.sh", "4", "a"]


def test_a_single_process_is_no_rank(tmp_path):
    words = launch_command(["a"], JOB, site(tmp_path), ranks=False)
    assert "--ntasks=1" in words
    assert "--cpu-bind=cores" not in words


def test_a_node_shares_its_cpus_out_to_its_ranks():
    """`torchrun` alone would set OMP_NUM_THREADS to 1."""
    environment = {
        **os.environ, "SLURM_STEP_NUM_NODES": "1", "SLURM_NODEID": "0", "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "0", "SLURM_CPUS_PER_TASK": "9",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }  # fmt: skip
    for name in ("OMP_NUM_THREADS", "RANK", "HEADRACE_RANKS"):
        environment.pop(name, None)
    command = ["bash", "slurm/node.sh", "2", "bash", "-c", "echo threads $OMP_NUM_THREADS"]
    finished = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert finished.stdout.splitlines() == ["threads 4"] * 2, finished.stderr


@pytest.mark.slow
@pytest.mark.extended
def test_ranks_of_a_node_have_cores_of_their_own(cluster_module, tmp_path_factory, at_root):
    """On a SLURM that binds tasks; as many CPUs as there are here."""
    reason = cluster_module.missing()
    cpus = len(os.sched_getaffinity(0))
    if reason is not None or cpus < 2:
        pytest.skip(reason or "a single CPU")
    folder = tmp_path_factory.mktemp("binding")
    cluster = cluster_module.Cluster(folder, nodes=1, cpus=cpus, gpus=0, binds=True)
    own = site(folder, "HEADRACE_RANKS_PER_NODE=2")
    check = [sys.executable, "launch/check.py", "--folder", str(folder), "--json"]
    words = launch_command(check, {"SLURM_JOB_NUM_NODES": "1"}, own, ranks=True)
    environment = {**os.environ, **cluster.environment}
    environment.pop("OMP_NUM_THREADS", None)
    cluster.start()
    try:
        finished = subprocess.run(
            [words[0], "--cpus-per-task=1", *words[1:]],
            env=environment, capture_output=True, text=True,
        )  # fmt: skip
    finally:
        cluster.stop()
    assert finished.returncode == 0, finished.stderr
    report = json.loads(finished.stdout)
    first, second = (set(rank["threads"]["cpus"]) for rank in report["ranks"])
    assert len(first) == len(second) == 1
    assert first != second
