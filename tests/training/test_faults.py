"""The fault matrix: real processes that are killed, and real disks that are full."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

WORKER = Path(__file__).parent / "workers" / "faulty_runs.py"
STAGES = [
    {"name": "multilingual", "max_steps": 10},
    {
        "name": "monolingual", "for_each": "language", "languages": ["zh"],
        "start_from": "multilingual", "max_steps": 6,
    },
]  # fmt: skip
MOMENTS = {
    0: [("gradients are there", 8), ("checkpoint is written", 30), ("validation", 2)],
    1: [("optimizer", 5), ("file is forced to disk", 2), ("folder is renamed", 1), ("engine", 2)],
    2: [("optimizer", 5), ("checkpoint is written", 40), ("result", 2)],
    3: [("step begins", 5), ("checkpoint is written", 50), ("file is forced to disk", 9)],
}
"""In a step, in a save, in a validation and at a change of stage; by ZeRO stage."""


@pytest.fixture(scope="module")
def go(small_corpus, tmp_path_factory):
    """Runs jobs in one process, which forks one for each start."""

    def run(jobs, *, prefix=(), folder=None):
        folder = folder or tmp_path_factory.mktemp("faults")
        config = small_corpus.write_config(
            folder / "run.json",
            folder / "unused",
            **{"headrace.stages": STAGES, "headrace.checkpoint.every_steps": 3},
        )
        for job in jobs:
            job |= {"config": str(config), "output": str(folder / job["name"])}
        (folder / "jobs.json").write_text(json.dumps(jobs))
        finished = subprocess.run(
            [*prefix, sys.executable, WORKER, folder / "jobs.json", folder / "found.json"],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=3000,
        )
        assert finished.returncode == 0, finished.stderr[-3000:]
        found = json.loads((folder / "found.json").read_text())
        runs = {job["name"]: runs for job, runs in zip(jobs, found, strict=True)}
        return runs, finished.stderr

    return run


def at_zero(stage, *, asynchronous=False):
    return [
        f"zero_optimization.stage={stage}",
        f"headrace.checkpoint.asynchronous={json.dumps(asynchronous)}",
    ]


@pytest.fixture(scope="module")
def killed(go):
    """A run that is left alone, and a killed one, at some ZeRO stages; 2 and 3 save in threads."""

    def run(stages):
        jobs = []
        for zero in stages:
            jobs.append({"name": f"alone-{zero}", "set": at_zero(zero)})
            setting = at_zero(zero, asynchronous=zero > 1)
            job = {"name": f"killed-{zero}", "set": setting, "kills": MOMENTS[zero]}
            jobs.append({**job, "flip": zero == 0})
        return go(jobs)

    return functools.cache(run)


def check(run, alone, read_losses):
    assert run["starts"][-1][1] == 0
    assert all(code == -9 for _, code in run["starts"][:-1])
    expected = read_losses(alone["output"])
    assert len(expected) > 16
    assert read_losses(run["output"]) == expected
    weights = [
        (Path(folder) / "monolingual" / "zh" / "export" / "model.safetensors").read_bytes()
        for folder in (run["output"], alone["output"])
    ]
    assert weights[0] == weights[1]


@pytest.mark.parametrize(
    ("zero", "stages"),
    [
        (0, (0, 3)),
        (3, (0, 3)),
        pytest.param(1, (1, 2), marks=pytest.mark.extended),
        pytest.param(2, (1, 2), marks=pytest.mark.extended),
    ],
)
def test_a_run_that_is_killed_anywhere_has_the_same_losses_and_weights(
    killed, zero, stages, read_losses
):
    runs, log = killed(stages)
    (run,), (alone,) = runs[f"killed-{zero}"], runs[f"alone-{zero}"]
    assert len(run["starts"]) == 1 + len(MOMENTS[zero])
    check(run, alone, read_losses)
    if zero == 0:  # its newest checkpoint was damaged after the first kill
        assert "step-000006 is damaged and is left out: state/" in log
        assert "is not as it was written" in log
        assert "step-000003 is looked at instead" in log


@pytest.mark.extended
@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("zero", range(4))
def test_thirty_moments_by_chance(go, zero, asynchronous, read_losses):
    setting = at_zero(zero, asynchronous=asynchronous)
    jobs = [
        {"name": "alone", "set": at_zero(zero)},
        {"name": "killed", "set": setting, "random_kills": 30, "seed": zero},
    ]
    found, _ = go(jobs)
    assert sum(len(run["starts"]) - 1 for run in found["killed"]) >= 30
    for run in found["killed"]:
        check(run, found["alone"][0], read_losses)


@pytest.mark.extended
@pytest.mark.parametrize("zero", [0, 2, 3])
def test_one_of_two_ranks_is_killed(go, zero, read_losses):
    setting = [*at_zero(zero, asynchronous=True), "train_micro_batch_size_per_gpu=4"]
    jobs = [
        {"name": "alone", "set": setting, "ranks": 2},
        {"name": "killed", "set": setting, "ranks": 2, "random_kills": 6, "seed": zero},
    ]
    found, _ = go(jobs)
    for run in found["killed"]:
        check(run, found["alone"][0], read_losses)


@pytest.fixture(scope="module")
def full(go, tmp_path_factory, small_disk_at):
    """Runs whose checkpoints lie on a real disk that is too small for all of them."""
    folder = tmp_path_factory.mktemp("full")
    prefix = small_disk_at(folder / "small", "2000k")
    jobs = [
        {"name": "known", "set": ["headrace.checkpoint.keep_last=50"]},
        {"name": "blind", "set": ["headrace.checkpoint.keep_last=50"], "blind": True},
        {"name": "thread", "blind": True,
         "set": ["headrace.checkpoint.keep_last=50", *at_zero(1, asynchronous=True)]},
        {"name": "stopped", "set": ["headrace.checkpoint.keep_last=50"], "stop_after": 8},
        {"name": "alone"},
    ]  # fmt: skip
    for job in jobs[:-1]:
        branch = folder / job["name"] / "multilingual" / "all"
        branch.mkdir(parents=True)
        job["make"] = str(folder / "small" / job["name"])
        (branch / "checkpoints").symlink_to(job["make"])
    return go(jobs, prefix=prefix, folder=folder)


@pytest.mark.parametrize("name", ["known", "blind", "thread"])
def test_a_full_disk_costs_checkpoints_and_no_run(full, name, read_losses):
    runs, log = full
    (run,), (alone,) = runs[name], runs["alone"]
    assert [code for _, code in run["starts"]] == [0]
    if name != "thread":  # at another ZeRO stage
        assert read_losses(run["output"]) == read_losses(alone["output"])
    lines = [line for line in log.splitlines() if f"/{name}" in line and "is not saved" in line]
    assert lines
    reason = "the disk has not enough space" if name == "known" else "No space left on device"
    assert [reason in line for line in lines] == [True] * len(lines), lines
    assert "bytes needed" in lines[0]
    assert "the newest one is step-" in lines[0]


def test_a_stop_whose_checkpoint_cannot_be_saved_is_a_fault(full):
    runs, log = full
    assert [code for _, code in runs["stopped"][0]["starts"]] == [1]
    assert "SaveError: stopped by a signal after step" in log
    assert any("/stopped" in line and "is not saved" in line for line in log.splitlines())
