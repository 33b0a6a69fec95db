"""A real SLURM of two nodes, each with a network of its own, and jobs on it."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SBIN = f"{os.environ['PATH']}:/usr/sbin:/sbin"


@pytest.fixture(scope="session")
def cluster_module():
    """`slurm/cluster.py`."""
    spec = importlib.util.spec_from_file_location("cluster", ROOT / "slurm" / "cluster.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Slurm:
    """Asks a cluster, and waits for what is to happen on it."""

    cluster: object

    @contextmanager
    def chosen(self) -> Iterator[None]:
        """Meanwhile SLURM's commands, and those of this project, find this cluster."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.cluster.environment.items():
                patch.setenv(name, value)
            yield

    def run(self, *words: str) -> str:
        return self.cluster.run(*words)

    def write_profile(self, path: Path, *lines: str) -> Path:
        """A site profile for this cluster: jobs need this Python, and one thread a rank."""
        python = Path(sys.executable).parent
        own = [f'PATH="{python}:{os.environ["PATH"]}"', "OMP_NUM_THREADS=1", *lines]
        path.write_text("\n".join(own) + "\n")
        return path

    def facts(self, number: str) -> dict[str, str]:
        """What SLURM knows of a job."""
        text = self.run("scontrol", "show", "job", "--oneliner", number).splitlines()[0]
        return dict(re.findall(r"(\w+)=(\S*)", text))

    def wait(self, until, what: str, *, log: Path | None = None, seconds: float = 300):
        """Wait until a condition is true, and return what it returned."""
        end = time.monotonic() + seconds
        while not (found := until()):
            if time.monotonic() > end:
                logs = sorted(log.glob("*.log")) if log else []
                printed = "\n".join(path.read_text() for path in logs)
                pytest.fail(f"{what} did not happen\n{self.run('squeue')}\n{printed}")
            time.sleep(0.1)
        return found

    def wait_for_end(self, number: str, folder: Path, *, seconds: float = 300) -> dict[str, str]:
        """Wait until a job is over for good, and return what SLURM knows of it."""

        def over():
            facts = self.facts(number)
            going = ("PENDING", "RUNNING", "COMPLETING", "REQUEUED", "CONFIGURING")
            return None if facts["JobState"] in going else facts

        what = f"the end of job {number}"
        return self.wait(over, what, log=folder / "slurm", seconds=seconds)


@pytest.fixture(scope="session")
def slurm(cluster_module, tmp_path_factory):
    """The cluster; `submit` and the others of this process find it."""
    folder = tmp_path_factory.mktemp("slurm")
    with running(cluster_module, folder, feature="v100-32g") as found, found.chosen():
        yield found


@pytest.fixture(scope="module")
def three_nodes(cluster_module, tmp_path_factory):
    """Another cluster, for tests that change its nodes."""
    with running(cluster_module, tmp_path_factory.mktemp("three"), nodes=3) as found:
        yield found


@contextmanager
def running(cluster_module, folder: Path, **options) -> Iterator[Slurm]:
    """A cluster, while it is up."""
    reason = cluster_module.missing()
    if reason is not None:
        pytest.skip(reason)
    cluster = cluster_module.Cluster(folder, **options)
    cluster.start()
    try:
        yield Slurm(cluster)
    finally:
        cluster.stop()


@pytest.fixture(scope="session")
def ssh(slurm, tmp_path_factory):
    """A folder for PATH, with an ssh that reaches the nodes by their names; nobody else's files.

    Each node has an sshd of its own, in its network and with its mounts.
    """
    if shutil.which("pdsh") is None or shutil.which("sshd", path=SBIN) is None:
        pytest.skip("no pdsh or no sshd: scripts/install_slurm.sh --with-pdsh installs them")
    folder = tmp_path_factory.mktemp("ssh")
    for name in ("id", "host"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(command, check=True)
    Path("/run/sshd").mkdir(exist_ok=True)
    (folder / "sshd_config").write_text(
        f"HostKey {folder}/host\nAuthorizedKeysFile {folder}/id.pub\nStrictModes no\n"
        "PermitRootLogin prohibit-password\nPasswordAuthentication no\nUsePAM no\n"
    )
    daemons, hosts = [], []
    sshd = shutil.which("sshd", path=SBIN)
    for node in slurm.cluster.nodes:
        words = [sshd, "-D", "-f", str(folder / "sshd_config"), "-E", str(folder / f"{node}.log")]
        daemons.append(subprocess.Popen([*slurm.cluster.inside(node), *words]))
        hosts.append(f"Host {node}\n  HostName {slurm.cluster.address(node)}\n")
    (folder / "config").write_text(
        "".join(hosts) + f"Host *\n  IdentityFile {folder}/id\n  IdentitiesOnly yes\n"
        "  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  LogLevel ERROR\n"
    )
    (folder / "bin").mkdir()
    program = folder / "bin" / "ssh"
    program.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {folder}/config "$@"\n')
    program.chmod(0o755)

    def answers(node):
        command = [str(program), node, "hostname"]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip() == node

    try:
        for node in slurm.cluster.nodes:
            slurm.wait(lambda node=node: answers(node), f"an answer of sshd on {node}", seconds=60)
        yield folder / "bin"
    finally:
        for daemon in daemons:
            daemon.terminate()
            daemon.wait()


@pytest.fixture
def at_root(monkeypatch):
    """Jobs are submitted from the root of the repository."""
    monkeypatch.chdir(ROOT)
