"""SLURM's variables as those of a process group."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.slurm.ranks import (
    adopt_step,
    cpus_of_rank,
    first_host,
    port_of,
    tasks_per_node,
)

STEP = {
    "SLURM_JOB_ID": "4711", "SLURM_STEP_ID": "0", "SLURM_PROCID": "3", "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1", "SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NODELIST": "n[1-2]",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
}  # fmt: skip


def test_a_task_of_a_step_gets_its_rank():
    environment = dict(STEP)
    adopt_step(environment)
    added = {name: value for name, value in environment.items() if name not in STEP}
    assert added == {
        "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2",
        "LOCAL_SIZE": "2", "MASTER_ADDR": "n1", "MASTER_PORT": str(port_of(4711, 0)),
    }  # fmt: skip


def test_a_task_with_one_device_of_its_own_has_it_as_number_0():
    environment = STEP | {"CUDA_VISIBLE_DEVICES": "1"}
    adopt_step(environment)
    assert environment["LOCAL_RANK"] == "0"
    environment = STEP | {"CUDA_VISIBLE_DEVICES": "0,1"}
    adopt_step(environment)
    assert environment["LOCAL_RANK"] == "1"


def test_an_address_that_is_set_stays():
    environment = STEP | {"MASTER_ADDR": "n2-ib0", "MASTER_PORT": "29500"}
    adopt_step(environment)
    assert (environment["MASTER_ADDR"], environment["MASTER_PORT"]) == ("n2-ib0", "29500")


@pytest.mark.parametrize(
    "environment",
    [
        STEP | {"RANK": "0"},
        {name: value for name, value in STEP.items() if name != "SLURM_STEP_ID"},
        STEP | {"SLURM_STEP_NUM_TASKS": "1"},
        {},
    ],
    ids=["a launcher", "a batch script", "a step of one task", "no SLURM"],
)
def test_elsewhere_nothing_is_changed(environment):
    before = dict(environment)
    adopt_step(environment)
    assert environment == before


@pytest.mark.parametrize(
    ("environment", "cpus", "own"),
    [
        ({}, 8, 8),
        ({"LOCAL_WORLD_SIZE": "4"}, 8, 2),
        ({"LOCAL_SIZE": "4"}, 2, 1),
        (STEP | {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "SLURM_CPUS_PER_TASK": "10"}, 10, 10),
        (STEP | {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "SLURM_CPUS_PER_TASK": "10"}, 40, 10),
        (STEP | {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}, 40, 20),
        (STEP | {"WORLD_SIZE": "16", "LOCAL_WORLD_SIZE": "4", "SLURM_CPUS_PER_TASK": "40"}, 40, 10),
    ],
    ids=[
        "alone", "deepspeed", "more ranks than CPUs", "srun, bound", "srun, not bound",
        "srun without a number of CPUs", "torchrun in a task a node",
    ],
)  # fmt: skip
def test_a_rank_uses_the_cpus_that_are_its_own(environment, cpus, own):
    assert cpus_of_rank(environment, cpus) == own


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("n1", "n1"),
        ("n[1-2]", "n1"),
        ("jean-zay-ia[801,805-807]", "jean-zay-ia801"),
        ("r[01-04,09]n[1-2],login", "r01n1"),
        ("alone,n[1-2]", "alone"),
    ],
)
def test_the_first_host_of_a_list(nodes, first):
    assert first_host(nodes) == first


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12))
def test_tasks_of_each_node(counts):
    runs: list[list[int]] = []
    for count in counts:
        if runs and runs[-1][0] == count:
            runs[-1][1] += 1
        else:
            runs.append([count, 1])
    text = ",".join(str(count) if times == 1 else f"{count}(x{times})" for count, times in runs)
    assert tasks_per_node(text) == counts
