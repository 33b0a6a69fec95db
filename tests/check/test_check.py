"""Real ranks that check their nodes; a second node is a host name and mounts of its own."""

import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from headrace.check.bandwidth import pairings
from headrace.check.folders import probe_folder, try_folder, try_sources
from headrace.check.look import cpus_of, extension_facts, has_kernels
from headrace.check.meeting import expected_hosts
from headrace.cli import main
from headrace.errors import UserError
from headrace.training.distributed import free_port

ROOT = Path(__file__).parents[2]
CHECK = ROOT / "launch" / "check.py"
SKEWED = Path(__file__).parent / "workers" / "skewed_clock.py"


@dataclass(frozen=True)
class Rank:
    """How one rank is started."""

    words: tuple[str, ...]
    host: str = ""
    """A name of its own."""
    mount: str = ""
    """A folder in whose place it finds an empty disk."""
    environment: tuple[tuple[str, str], ...] = ()


def start(ranks: list[Rank], size: int | None = None) -> list[subprocess.CompletedProcess]:
    """Run ranks, all to their end."""
    port = free_port()
    processes = []
    for number, rank in enumerate(ranks):
        inside = f"hostname {rank.host} && " if rank.host else ""
        inside += f"mount -t tmpfs tmpfs {rank.mount} && " if rank.mount else ""
        own = ["unshare", "--user", "--map-root-user", "--uts", "--mount", "sh", "-c"]
        command = [sys.executable, *rank.words]
        if inside:
            command = [*own, f'{inside}exec "$@"', "sh", *command]
        environment = {
            **os.environ, "RANK": str(number), "WORLD_SIZE": str(size or len(ranks)),
            "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
            "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", **dict(rank.environment),
        }  # fmt: skip
        processes.append(
            subprocess.Popen(
                command, env=environment, cwd=ROOT, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )
        )  # fmt: skip
    finished = []
    for process in processes:
        out, err = process.communicate(timeout=120)
        finished.append(subprocess.CompletedProcess(process.args, process.returncode, out, err))
    return finished


@pytest.fixture(scope="session")
def namespaces():
    """Skips where nobody may have a host name of his own."""
    own = ["unshare", "--user", "--map-root-user", "--uts", "--mount", "hostname", "probe"]
    if subprocess.run(own, capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody have a host name of his own")


def findings_of(report: dict) -> list[tuple[str, str]]:
    return [(each["kind"], f"{each['where']}: {each['what']}") for each in report["findings"]]


@pytest.mark.slow
def test_two_good_nodes(namespaces, small_corpus, tmp_path):
    """No mistake and no fault; warnings may be true of this machine."""
    path = small_corpus.write_config(tmp_path / "run.json", tmp_path / "runs" / "new")
    words = (str(CHECK), "--ds_config", str(path), "--json", "--wait", "60")
    first, second = start([Rank(words), Rank(words, host="other")])
    assert first.returncode == second.returncode == 0, first.stdout + second.stderr
    assert second.stdout == ""
    report = json.loads(first.stdout)
    assert {kind for kind, _ in findings_of(report)} <= {"warning"}
    assert [each["host"] for each in report["ranks"]] == [socket.gethostname(), "other"]
    mine, others = (each["measured"] for each in report["ranks"])
    assert abs(others["skew"][0]) <= others["skew"][1] + 0.01, "it is one clock"
    assert others["folder"]["seconds"] is not None
    assert others["folder"]["problem"] is None
    assert not others["folder"]["locks_apart"]
    assert len(mine["all_ranks"]) == 3
    assert min(mine["all_ranks"].values()) > 0
    assert mine["links"] > 0
    assert report["precision"].startswith("fp32")
    assert not (tmp_path / "runs").exists(), "what was not there before is removed"


@pytest.mark.slow
def test_all_that_is_wrong_with_a_node_is_said_with_its_name(namespaces, tmp_path):
    """Its clock is read wrongly; another code and another disk it really has."""
    code = tmp_path / "copy"
    shutil.copytree(ROOT / "src", code, ignore=shutil.ignore_patterns("__pycache__"))
    with (code / "headrace" / "counts.py").open("a") as file:
        file.write("# changed\n")
    folder = tmp_path / "run"
    folder.mkdir()
    words = (str(SKEWED), "0", str(folder))
    other = Rank(
        (str(SKEWED), "100", str(folder)), host="other", mount=str(folder),
        environment=(("PYTHONPATH", str(code)),),
    )  # fmt: skip
    first, second = start([Rank(words), other])
    assert first.returncode == second.returncode == 2, first.stderr + second.stderr
    found = findings_of(json.loads(first.stdout))
    assert ("warning", "other (rank 1): the clock is ahead of that of rank 0") in found
    assert (
        "mistake", "other (rank 1): the run folder: a file that rank 0 wrote is not seen",
    ) in found  # fmt: skip
    (versions,) = [text for kind, text in found if kind == "mistake" and "code" in text]
    assert versions.startswith("other (rank 1): headrace code is not ")
    assert list(folder.iterdir()) == []


def test_a_rank_that_is_not_there_is_named_and_not_waited_for_any_longer(
    tmp_path, capsys, monkeypatch
):
    variables = {"RANK": "0", "WORLD_SIZE": "3", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
    for name, value in {**variables, "MASTER_PORT": str(free_port())}.items():
        monkeypatch.setenv(name, value)
    assert main(["check", "--folder", str(tmp_path), "--wait", "2"]) == 1
    printed = capsys.readouterr().out
    assert "a node that is not known (ranks 1-2): not there after 2 seconds" in printed


@pytest.mark.extended
@pytest.mark.slow
def test_a_rank_that_ends_in_the_middle_is_named(namespaces, tmp_path):
    words = (str(SKEWED), "0", str(tmp_path))
    first, _ = start([Rank(words), Rank((str(SKEWED), "never", str(tmp_path)), host="other")])
    assert first.returncode == 1
    found = findings_of(json.loads(first.stdout))
    assert ("fault", "other (rank 1): it arrived, and did not finish: it ended, or hangs") in found


@pytest.mark.extended
@pytest.mark.slow
def test_a_rank_that_does_not_reach_rank_0_says_so(tmp_path):
    words = (str(CHECK), "--folder", str(tmp_path), "--wait", "4")
    elsewhere = (("MASTER_PORT", "9"),)
    first, second = start([Rank(words), Rank(words, environment=elsewhere)])
    assert (first.returncode, second.returncode) == (1, 1)
    assert "rank 0 is not reached at 127.0.0.1:9 within 4 seconds" in second.stderr
    assert "Traceback" not in second.stderr


@pytest.mark.extended
@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["torchrun", "deepspeed"])
def test_launchers_start_it(launcher, tmp_path):
    program = str(Path(sys.executable).parent / launcher)
    options = ["--nproc-per-node=2"] if launcher == "torchrun" else ["--num_gpus=2"]
    command = [program, *options, str(CHECK), "--folder", str(tmp_path), "--wait", "60"]
    finished = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "2 ranks on 1 node" in finished.stdout


def test_a_folder_that_cannot_be_made_is_a_mistake(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["check", "--folder", str(tmp_path / "file" / "run"), "--json"]) == 2
    report = json.loads(capsys.readouterr().out)
    (finding,) = [each for each in report["findings"] if each["kind"] == "mistake"]
    assert finding["what"] == "the run folder: it cannot be written to"
    assert "Not a directory" in finding["value"]


def test_locks_that_are_not_known_elsewhere_are_noticed(tmp_path):
    with probe_folder(tmp_path / "run") as (probe, content):
        seen = try_folder(probe, content, 1, 1.0, alone=False)
        assert (seen.problem, seen.locks_apart) == (None, False)
        stale = try_folder(probe, "something else", 2, 0.1, alone=False)
        assert stale.seconds is None
        (probe / "of-rank-0").unlink()
        (probe / "of-rank-0").write_text(content)  # the same file without the lock
        assert try_folder(probe, content, 3, 1.0, alone=False).locks_apart
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("count", range(2, 10))
def test_everybody_is_paired_with_everybody_once(count):
    rounds = pairings(count)
    for pairs in rounds:
        members = [member for pair in pairs for member in pair]
        assert len(members) == len(set(members)) == count - count % 2
    met = {frozenset(pair) for pairs in rounds for pair in pairs}
    assert len(met) == sum(map(len, rounds)) == count * (count - 1) / 2


def test_kernels_are_those_of_the_generation_or_any_older_ptx():
    assert has_kernels((7, 0), ["sm_70", "sm_80"])
    assert has_kernels((8, 6), ["sm_80"]), "binary code runs on later ones of its generation"
    assert not has_kernels((7, 0), ["sm_75", "sm_80", "sm_90", "compute_90"]), "CUDA 13 and V100"
    assert has_kernels((12, 0), ["sm_80", "compute_90"])
    assert has_kernels((9, 0), ["sm_90a"])


def test_an_extension_that_does_not_load_is_found_out(tmp_path):
    assert extension_facts(tmp_path / "none", loads=True).built == ()
    folder = tmp_path / "deepspeed_shm_comm"
    folder.mkdir()
    (folder / "lock").touch()
    (folder / "deepspeed_shm_comm.so").write_bytes(b"\x7fELF and no more")
    facts = extension_facts(tmp_path, loads=True)
    assert facts.built == ("deepspeed_shm_comm",)
    assert facts.error is not None
    assert 0 <= facts.locks["deepspeed_shm_comm"] < 60
    assert extension_facts(tmp_path, loads=False).error is None


def test_lists_of_cpus():
    assert list(cpus_of("0-2,8\n")) == [0, 1, 2, 8]
    assert list(cpus_of("\n")) == []


def test_where_ranks_should_be_is_not_known_without_a_step():
    assert expected_hosts({}, 3) == [None] * 3


def test_shards_that_cannot_be_read_are_a_mistake(small_corpus, tmp_path):
    assert try_sources([small_corpus.source("en", "train")], 5) is None
    error = try_sources([str(tmp_path / "nowhere"), small_corpus.source("en", "train")], 0)
    assert isinstance(error, UserError)
    assert "nowhere" in str(error)
