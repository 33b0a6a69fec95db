"""Launching real ranks, and reading what they wrote."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WORKERS = Path(__file__).parent / "workers"


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def launch_command(script: Path, *arguments: str, ranks: int = 2) -> list[str]:
    launcher = str(Path(sys.executable).parent / "deepspeed")
    return [
        launcher, "--num_gpus", str(ranks), "--master_port", str(free_port()),
        str(script), *arguments,
    ]  # fmt: skip


class Launcher:
    """Starts real ranks on the CPU, those of commands with DeepSpeed's launcher as users do."""

    def __init__(self, forked_ranks) -> None:
        self.forked_ranks = forked_ranks
        self.environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}

    def run(self, script: Path, *arguments: str, ranks: int = 2) -> subprocess.CompletedProcess:
        """Run to the end: a command with the launcher, a worker of the tests without it."""
        if script.parent == WORKERS:
            return self.run_ranks(script, *arguments, ranks=ranks)
        return subprocess.run(
            launch_command(script, *arguments, ranks=ranks),
            env=self.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=500,
        )

    def run_alone(self, worker: Path, *arguments: str) -> subprocess.CompletedProcess:
        """Run a worker that starts its ranks itself."""
        return self._run_forked(worker, arguments, [self.environment])

    def run_ranks(
        self, script: Path, *arguments: str, ranks: int = 2
    ) -> subprocess.CompletedProcess:
        """Run to the end without the launcher, for tests of what the ranks do.

        They are forked from a process that has the libraries; the launcher is two more that import
        DeepSpeed.  When one rank fails, the others are soon killed; the exit code is that rank's.
        """
        common = {
            "WORLD_SIZE": str(ranks), "LOCAL_SIZE": str(ranks),
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()),
        }  # fmt: skip
        environments = [
            {**self.environment, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            for rank in range(ranks)
        ]
        return self._run_forked(script, arguments, environments)

    def _run_forked(
        self, script: Path, arguments: Sequence[str], environments: list[dict[str, str]]
    ) -> subprocess.CompletedProcess:
        words = [str(script), *arguments]
        with tempfile.NamedTemporaryFile("r") as output:
            codes = self.forked_ranks.run(words, environments, ROOT, Path(output.name), 500)
            printed = output.read()
        if None in codes and not any(codes):
            raise subprocess.TimeoutExpired(words, 500, printed)
        code = next((code for code in codes if code), 0)
        return subprocess.CompletedProcess(words, code, printed, "")

    def start(self, script: Path, *arguments: str, log: Path) -> subprocess.Popen:
        with log.open("w") as stream:
            return subprocess.Popen(
                launch_command(script, *arguments),
                env=self.environment,
                cwd=ROOT,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )


@pytest.fixture(scope="session")
def launcher(forked_ranks) -> Launcher:
    return Launcher(forked_ranks)


@pytest.fixture(scope="session")
def train_script() -> Path:
    return ROOT / "launch" / "train.py"


@pytest.fixture(scope="session")
def read_losses():
    """Losses of a run by stage, branch and step, in full precision."""

    def read(run_folder: Path) -> dict[tuple, float]:
        lines = (Path(run_folder) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        records = [json.loads(line) for line in lines]
        return {
            (record["stage"], record["branch"], record["step"], record["kind"]): record["loss"]
            for record in records
            if record["kind"] in {"train", "validation"}
        }

    return read


@pytest.fixture(scope="session")
def flip():
    """Flips a bit in a member of a shard."""

    def change(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[700] ^= 4
        path.write_bytes(data)

    return change
