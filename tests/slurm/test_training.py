"""Real training on the two nodes of a real SLURM."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.cli import main
from headrace.slurm.controller import Controller
from headrace.slurm.overview import overview
from headrace.slurm.records import read_records
from headrace.training.distributed import free_port

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
CHANGES = {
    "headrace.checkpoint.every_steps": 5,
    "headrace.stages.0.epochs": 15,
    "headrace.data.validation": {},
    "headrace.stages.0.keep_best": "last",
    "headrace.stages.1.keep_best": "last",
}
"""Long enough to be stopped in the middle: 285 steps and no validation."""


@pytest.fixture(scope="module")
def config(small_corpus, tmp_path_factory):
    """Writes configs that are the same but for the folder."""
    folder = tmp_path_factory.mktemp("slurm_training")

    def write(name, **changes):
        path = folder / f"{name}.json"
        return small_corpus.write_config(path, folder / name, **{**CHANGES, **changes})

    return write


@pytest.fixture(scope="module")
def profile(slurm, tmp_path_factory):
    """Nodes with a rank each, started by srun; each has a /dev/shm of its own for copies."""
    path = tmp_path_factory.mktemp("profile") / "site.env"
    return slurm.write_profile(
        path, 'HEADRACE_DIRECTIVES="--ntasks-per-node=1 --time=30"',
        f"HEADRACE_LOCAL_SCRATCH=/dev/shm/{path.parent.name}",
    )  # fmt: skip


@pytest.fixture(scope="module")
def losses_of_ranks(forked_ranks):
    """Trains by two ranks on this machine that nobody stops; no SLURM is around them."""

    def train(path):
        log = path.with_suffix(".log")
        common = {
            **os.environ, "OMP_NUM_THREADS": "1", "WORLD_SIZE": "2", "LOCAL_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()),
        }  # fmt: skip
        ranks = [{**common, "RANK": rank, "LOCAL_RANK": rank} for rank in "01"]
        words = [str(ROOT / "launch" / "train.py"), "--ds_config", str(path)]
        assert forked_ranks.run(words, ranks, ROOT, log, 550) == [0, 0], log.read_text()
        return losses_of(path.with_suffix(""))

    return train


@pytest.fixture(scope="module")
def losses_without_a_stop(config, losses_of_ranks):
    return losses_of_ranks(config("uninterrupted"))


@pytest.fixture(scope="module")
def of_the_first_stage(losses_without_a_stop):
    return {key: loss for key, loss in losses_without_a_stop.items() if key[0] == "multilingual"}


def losses_of(run: Path) -> dict[tuple[str, str, int], float]:
    """Losses of a run by stage, branch and step, in full precision."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    return {
        (event["stage"], event["branch"], event["step"]): event["loss"]
        for event in events
        if event["kind"] == "train"
    }


def submit(capsys, *words):
    """Submit as a user does; returns the numbers of the jobs."""
    capsys.readouterr()
    assert main(["submit", *map(str, words)]) == 0
    lines = capsys.readouterr().out.splitlines()
    return [line.split()[1].rstrip(":") for line in lines if line.startswith("job ")]


def steps_of(run: Path) -> list[int]:
    """Steps in the metrics file so far."""
    try:
        lines = (run / "metrics.jsonl").read_text().splitlines()
    except FileNotFoundError:
        return []
    events = [json.loads(line) for line in lines if line.endswith("}")]
    return [event["step"] for event in events if event["kind"] == "train"]


def wait_for_step(slurm, run, step):
    what = f"step {step} of {run}"
    slurm.wait(lambda: max(steps_of(run), default=0) >= step, what, log=run / "slurm")


def ends(run):
    """Exit codes of all starts of the only job of a run; None: killed."""
    (record,) = read_records(run)
    return [None if start.end is None else start.end.code for start in record.starts]


def test_a_run_of_two_stages_that_is_asked_to_stop_ends_as_if_it_never_was(
    slurm, config, profile, losses_without_a_stop, capsys, at_root
):
    path = config("stopped")
    run = path.with_suffix("")
    (number,) = submit(capsys, "train", path, "--site", profile, "--nodes", 2)
    wait_for_step(slurm, run, 3)
    slurm.run("scancel", "--batch", "--signal=USR1", number)  # as SLURM does before the limit
    facts = slurm.wait_for_end(number, run)
    assert (facts["JobState"], facts["Restarts"]) == ("COMPLETED", "1")
    assert ends(run) == [75, 0]
    assert losses_of(run) == losses_without_a_stop
    seen = overview(run, Controller())
    assert [(job.state, job.starts) for job in seen.jobs] == [("finished", 2)]
    assert seen.finished == ("monolingual/en", "monolingual/zh", "multilingual")
    (log,) = (run / "slurm").glob("*.log")
    assert "read from this node: 9 of 9 encoded shards" in log.read_text()


@pytest.mark.extended
def test_a_run_that_is_requeued_in_mid_step_ends_as_if_it_never_was(
    slurm, config, profile, of_the_first_stage, capsys, at_root
):
    path = config("requeued")
    run = path.with_suffix("")
    (number,) = submit(
        capsys, "train", path, "--stage", "multilingual", "--site", profile, "--nodes", 2
    )
    wait_for_step(slurm, run, 12)
    slurm.run("scontrol", "requeue", number)
    assert slurm.wait_for_end(number, run)["JobState"] == "COMPLETED"
    assert ends(run) == [None, 0]
    assert losses_of(run) == of_the_first_stage


@pytest.mark.extended
def test_a_run_is_stopped_by_time_limits_until_it_is_finished(
    slurm, config, profile, losses_of_ranks, capsys, at_root
):
    """SLURM itself sends the signal: 10 to 70 seconds after each start."""
    changes = {"headrace.stages.0.epochs": 150, "headrace.stages.1.languages": ["en"]}
    path = config("limited", **changes)
    run = path.with_suffix("")
    (number,) = submit(
        capsys, "train", path, "--site", profile, "--nodes", 2,
        "--time", "3", "--sbatch=--signal=B:USR1@110",
    )  # fmt: skip
    assert slurm.wait_for_end(number, run, seconds=1200)["JobState"] == "COMPLETED"
    *stopped, last = ends(run)
    assert len(stopped) >= 1
    assert set(stopped) == {75}
    assert last == 0
    assert losses_of(run) == losses_of_ranks(config("unlimited", **changes))


@pytest.mark.extended
def test_torchrun_on_each_node_gives_the_same_losses(
    slurm, config, of_the_first_stage, capsys, at_root, tmp_path
):
    profile = slurm.write_profile(
        tmp_path / "site.env",
        'HEADRACE_DIRECTIVES="--ntasks-per-node=1 --time=30"', "HEADRACE_LAUNCH=torchrun",
    )  # fmt: skip
    path = config("torchrun")
    run = path.with_suffix("")
    (number,) = submit(
        capsys, "train", path, "--stage", "multilingual", "--site", profile, "--nodes", 2
    )
    wait_for_step(slurm, run, 3)
    slurm.run("scancel", "--batch", "--signal=USR1", number)
    assert slurm.wait_for_end(number, run)["JobState"] == "COMPLETED"
    assert ends(run) == [75, 0], "torch.distributed.run itself ends with 1"
    assert losses_of(run) == of_the_first_stage


@pytest.mark.extended
def test_deepspeed_over_pdsh_and_ssh_gives_the_same_losses(
    slurm, ssh, config, of_the_first_stage, at_root, tmp_path
):
    """DeepSpeed looks for the address of the first node by ssh, and starts both nodes by pdsh."""
    path = config("pdsh")
    (tmp_path / "hostfile").write_text("".join(f"{node} slots=1\n" for node in ("n1", "n2")))
    names = ("OMP_NUM_THREADS", "TORCH_EXTENSIONS_DIR", "PATH")
    given = {name: os.environ[name] for name in names if name in os.environ}
    (tmp_path / "variables").write_text(
        "".join(f"{name}={value}\n" for name, value in {**given, "OMP_NUM_THREADS": "1"}.items())
    )
    finished = subprocess.run(
        [
            str(Path(sys.executable).parent / "deepspeed"),
            "--hostfile", str(tmp_path / "hostfile"), "--master_port", "29600",
            "launch/train.py", "--ds_config", str(path), "--stage", "multilingual",
        ],
        env={
            **os.environ, "PATH": f"{ssh}:{os.environ['PATH']}",
            "DS_ENV_FILE": str(tmp_path / "variables"),
        },
        capture_output=True, text=True,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "n2: " in finished.stdout + finished.stderr, "pdsh says which node a line is from"
    assert losses_of(path.with_suffix("")) == of_the_first_stage


@pytest.mark.extended
def test_the_chain_of_a_run_from_its_first_stage_to_its_report(
    slurm, config, profile, small_corpus, capsys, at_root
):
    validation = {name: small_corpus.source(name, "dev") for name in ("en", "zh")}
    path = config(
        "chain", **{"headrace.stages.0.epochs": 1, "headrace.data.validation": validation}
    )
    run = path.with_suffix("")
    numbers = submit(capsys, "chain", path, "--site", profile, "--nodes", 2)
    assert len(numbers) == 4
    assert slurm.wait_for_end(numbers[-1], run)["JobState"] == "COMPLETED"
    assert {job.state for job in overview(run, Controller()).jobs} == {"finished"}
    scores = json.loads((run / "evaluation.json").read_text())
    assert scores
    results = json.loads((run / "results.json").read_text())["stages"]
    assert {result["branch"] for result in results} == {"all", "en", "zh"}
    assert (run / "report.html").stat().st_size > 1000


@pytest.mark.extended
def test_a_wrong_input_that_only_the_ranks_see_is_not_repeated(
    slurm, config, profile, small_corpus, capsys, at_root, tmp_path
):
    shutil.copytree(small_corpus.source("en", "train"), tmp_path / "en")
    changes = {
        "headrace.data.train": {"en": str(tmp_path / "en")},
        "headrace.data.cache_dir": str(tmp_path / "encoded"),
        "headrace.stages.1.languages": ["en"],
    }
    path = config("broken", **changes)
    run = path.with_suffix("")
    words = ["train", path, "--stage", "multilingual", "--site", profile, "--sbatch=--hold"]
    (number,) = submit(capsys, *words, "--nodes", 2)
    shard = min((tmp_path / "en").glob("*.tar"))
    data = bytearray(shard.read_bytes())
    data[700] ^= 4  # in a member
    shard.write_bytes(data)
    slurm.run("scontrol", "release", number)
    facts = slurm.wait_for_end(number, run)
    assert (facts["ExitCode"], facts["Restarts"]) == ("2:0", "0")
    assert ends(run) == [2]
    (log,) = (run / "slurm").glob("*.log")
    assert "error: " in log.read_text()
    assert "Traceback" not in log.read_text()
