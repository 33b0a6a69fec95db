"""A corpus that workers on the nodes of a job build."""

import json
import os
import random
import subprocess
from pathlib import Path

import pytest
import yaml
from xxhash import xxh3_128_hexdigest

from headrace.cli import main
from headrace.slurm.records import read_record
from headrace.slurm.work import check_command, work_of

ROOT = Path(__file__).parents[2]
COMMAND = [
    "bash", "slurm/dask_rank.sh", "OUT", "python", "-m", "headrace.cli", "build",
    "--recipe", "recipe.yaml", "--output", "OUT",
]  # fmt: skip
SOURCE = {
    "id": "s",
    "title": "Test",
    "custodian": "The library",
    "licence": "CC0-1.0",
    "consent_basis": "open licence",
    "jurisdiction": "EU",
    "region": "Europe",
}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """Thirty parts in two languages."""
    folder = tmp_path_factory.mktemp("recipe")
    words = [f"word{number}" for number in range(200)]
    for part in range(30):
        dice = random.Random(part)
        rows = [
            {"id": n, "language": ("en", "de")[n % 2], "text": " ".join(dice.choices(words, k=30))}
            for n in range(40)
        ]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{part:02}.jsonl").write_text(lines)
    path = folder / "recipe.yaml"
    source = {**SOURCE, "files": [f"{folder}/*.jsonl"]}
    sections = {"privacy": None, "limits": {"part": "8 kB"}, "output": {"samples_per_shard": 100}}
    content = {"name": "test", "version": "1", "sources": [source], **sections}
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="module")
def local(recipe, tmp_path_factory):
    """What a build on one machine writes."""
    out = tmp_path_factory.mktemp("local") / "out"
    command = ["build", "--recipe", str(recipe), "--output", str(out), "--workers", "1"]
    assert main(command) == 0
    return tree(out)


def tree(folder):
    """Every file and the hash of its bytes, but for the logs of jobs."""
    return {
        str(path.relative_to(folder)): xxh3_128_hexdigest(path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.relative_to(folder).parts[0] != "slurm"
    }


def submit(slurm, recipe, out, capsys, *profile):
    """Submit a build on both nodes; the number of the job."""
    lines = ('HEADRACE_DIRECTIVES="--ntasks-per-node=1 --time=10"', "HEADRACE_RETRY_SECONDS=1")
    site = slurm.write_profile(out.with_suffix(".env"), *lines, *profile)
    with slurm.chosen():
        assert main(["submit", "build", str(recipe), "--output", str(out), "--nodes", "2",
                     "--site", str(site)]) == 0  # fmt: skip
    shown = capsys.readouterr().out
    return shown.partition("\njob ")[2].partition(":")[0]


@pytest.mark.slow
def test_a_corpus_that_nodes_of_a_job_build_has_the_bytes_of_a_local_one(
    slurm, at_root, recipe, local, tmp_path, capsys
):
    out = tmp_path / "out"
    number = submit(slurm, recipe, out, capsys)
    facts = slurm.wait_for_end(number, out)
    log = "".join(path.read_text() for path in (out / "slurm").glob("*.log"))
    assert facts["JobState"] == "COMPLETED", log
    assert "test 1" in log, "the summary"
    assert tree(out) == local
    assert not list((out / "slurm").glob("scheduler-*")), "it is gone with its scheduler"


@pytest.mark.slow
@pytest.mark.extended
def test_a_build_that_is_asked_to_stop_is_started_again_and_goes_on(
    slurm, at_root, recipe, local, tmp_path, capsys
):
    out = tmp_path / "out"
    number = submit(slurm, recipe, out, capsys)
    ledger = out / ".build" / "parts.jsonl"
    slurm.wait(
        lambda: ledger.exists() and len(ledger.read_text().splitlines()) > 2, "three parts",
        log=out / "slurm",
    )  # fmt: skip
    slurm.run("scancel", "--batch", "--signal=USR1", number)
    slurm.wait(lambda: len(read_record(out, number).starts) == 2, "another start")
    facts = slurm.wait_for_end(number, out)
    assert facts["JobState"] == "COMPLETED"
    assert [start.end.code for start in read_record(out, number).starts] == [75, 0]
    assert tree(out) == local


def test_nodes_are_checked_without_what_starts_the_workers():
    command = check_command(COMMAND, work_of(COMMAND))
    assert command == ["python", "-m", "headrace.cli", "check", "--folder", "OUT"]


def test_a_rank_starts_a_worker_for_each_of_its_cpus(tmp_path):
    """`nproc` answers with OMP_NUM_THREADS where that is set, as sites do."""
    program = tmp_path / "python"
    program.write_text('#!/bin/sh\necho "$@" >> "$0.log"\n')
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "RANK": "1"}
    for more, cpus in (({}, len(os.sched_getaffinity(0))), ({"SLURM_CPUS_PER_TASK": "7"}, 7)):
        (tmp_path / "python.log").unlink(missing_ok=True)
        subprocess.run(
            ["bash", "slurm/dask_rank.sh", str(tmp_path), "true"],
            env={**environment, "OMP_NUM_THREADS": "1", **more}, cwd=ROOT, check=True,
        )  # fmt: skip
        # what it starts is printed nowhere else
        assert f"--nworkers {cpus} " in (tmp_path / "python.log").read_text()
