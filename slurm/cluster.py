#!/usr/bin/env python3
"""A real SLURM on one machine, to try batch scripts where there is no cluster, and for the tests.

    scripts/install_slurm.sh
    slurm/cluster.py up FOLDER        # starts it; prints the variables that its commands need
    slurm/cluster.py down FOLDER

One controller and two nodes, each with a network, a host name and a /dev/shm of its own (kernel
namespaces), so that ranks meet over real addresses; all share the file system.  The nodes claim
CPUs and GPUs that need not exist.  Everything lies in FOLDER, but for the network links.  It needs
root and Debian's packages, and touches no SLURM that may be installed otherwise.  Only the
standard library is imported.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import zlib
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "ip", "nsenter", "unshare")
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
_CLUSTERS = 200
"""Clusters in several folders may be up at a time: names, addresses and ports depend on it."""

_SLURM_CONF = """
ClusterName=headrace
SlurmctldHost={host}({controller})
SlurmctldPort={port}
SlurmdPort=26918
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
# cred_expire is also the time for which a requeued job waits (120 s unless it is set)
AuthInfo=socket={folder}/munge/socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/{task_plugin}
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
PropagateResourceLimits=NONE
ReturnToService=2
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=5
MinJobAge=3600
SlurmctldTimeout=30
SlurmdTimeout=20
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1,sched_min_interval=0,batch_sched_delay=0
GresTypes=gpu
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=10
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=100 PreemptMode=OFF
"""


class Cluster:
    """Starts and stops the daemons; ``environment`` is what SLURM's commands need to find them."""

    def __init__(
        self,
        folder: Path,
        *,
        nodes: int = 2,
        cpus: int = 40,
        gpus: int = 4,
        feature: str = "",
        binds: bool = False,
    ) -> None:
        """Prepare a cluster.

        Args:
            folder: for all of its files.
            nodes: how many.
            cpus: of each; there need not be so many, unless tasks are bound to them.
            gpus: of each.
            feature: that nodes have, for ``--constraint``.
            binds: bind tasks to CPUs, as clusters do.
        """
        self.folder = folder
        self.nodes = tuple(f"n{number}" for number in range(1, nodes + 1))
        self.cpus = cpus
        self.gpus = gpus
        self.task_plugin = "affinity" if binds else "none"
        self.features = f"Feature={feature} " if feature else ""
        own = zlib.crc32(str(folder).encode()) % _CLUSTERS
        self.subnet = f"10.77.{own}"
        self.controller = f"{self.subnet}.254"
        self.port = 26000 + own
        self.links = f"hr{own}"

    @property
    def environment(self) -> dict[str, str]:
        """Variables for ``sbatch`` and the others."""
        return {"SLURM_CONF": str(self.folder / "etc" / "slurm.conf")}

    @property
    def _bridge(self) -> str:
        return f"{self.links}bridge"

    def _space(self, node: str) -> str:
        """Name of the network of a node."""
        return f"{self.links}-{node}"

    def run(self, *words: str) -> str:
        """Run a command of SLURM and return what it prints."""
        finished = subprocess.run(
            words, env={**os.environ, **self.environment, "PATH": _PATH},
            capture_output=True, text=True,
        )  # fmt: skip
        if finished.returncode:
            raise RuntimeError(f"{shlex.join(words)}: {finished.stderr.strip()}")
        return finished.stdout

    def start(self) -> None:
        """Start everything, and wait until all nodes are idle."""
        if self._started():
            raise RuntimeError(f"a cluster is up in {self.folder}: stop it first")
        for name in ("etc", "log", "state", "munge", "dev"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        for name in self.nodes:
            (self.folder / "spool" / name).mkdir(parents=True, exist_ok=True)
        for path in (self.folder, self.folder / "munge"):
            path.chmod(0o755)
        try:
            self._write_config()
            self._make_network()
            self._start_munge()
            self._start("slurmctld", ["slurmctld", "-c", "-f", self.environment["SLURM_CONF"]])
            for name in self.nodes:
                self._start_node(name)
            self._wait(self._all_idle, "the nodes did not become idle")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End all jobs and daemons, and take the network away."""
        started = self._started()
        if "slurmctld" in started:
            with contextlib.suppress(RuntimeError):
                self.run("scancel", "--user=root")
                self._wait(lambda: not self.run("squeue", "--noheader").strip(), "jobs are left")
        ending = []
        for name, pid in reversed(started.items()):
            # the number may be another program's by now
            with contextlib.suppress(OSError):
                comm = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
                if comm == name.partition(".")[0]:
                    os.kill(pid, signal.SIGTERM)
                    ending.append(Path(f"/proc/{pid}"))
        with contextlib.suppress(RuntimeError):
            self._wait(lambda: not any(process.exists() for process in ending), "daemons stay")
        (self.folder / "pids.json").unlink(missing_ok=True)
        for name in self.nodes:
            self._ip("netns", "del", self._space(name), check=False)
        self._ip("link", "del", self._bridge, check=False)
        for name in ("state", "spool", "munge", "dev"):
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def inside(self, node: str) -> list[str]:
        """The beginning of a command that runs on a node: its network, name and mounts."""
        pid = self._started()[f"slurmd.{node}"]
        return ["nsenter", f"--target={pid}", "--net", "--uts", "--ipc", "--mount", "--wd=."]

    def address(self, node: str) -> str:
        """Of a node on the network of the cluster."""
        return f"{self.subnet}.{self.nodes.index(node) + 1}"

    def cut(self, node: str) -> None:
        """Take a node off the network."""
        self._ip("-n", self._space(node), "link", "set", "eth0", "down")

    def join(self, node: str) -> None:
        """Bring it back."""
        self._ip("-n", self._space(node), "link", "set", "eth0", "up")

    def _all_idle(self) -> bool:
        states = self.run("sinfo", "--noheader", "-N", "-p", "main", "-o", "%T").split()
        return states == ["idle"] * len(self.nodes)

    def _write_config(self) -> None:
        etc = self.folder / "etc"
        host = socket.gethostname().partition(".")[0]
        conf = _SLURM_CONF.format(
            host=host,
            controller=self.controller,
            port=self.port,
            folder=self.folder,
            task_plugin=self.task_plugin,
        )
        lines = [conf.strip()]
        hosts = ["127.0.0.1 localhost", f"{self.controller} {host}"]
        for number, name in enumerate(self.nodes, start=1):
            hosts.append(f"{self.subnet}.{number} {name}")
            lines.insert(
                -2,
                f"NodeName={name} NodeAddr={self.subnet}.{number} NodeHostname={name} "
                f"CPUs={self.cpus} RealMemory=100000 Gres=gpu:{self.gpus} "
                f"{self.features}State=UNKNOWN",
            )
        (etc / "slurm.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (etc / "hosts").write_text("\n".join(hosts) + "\n", encoding="utf-8")
        devices = [self.folder / "dev" / f"nvidia{number}" for number in range(self.gpus)]
        for device in devices:
            if not device.exists():
                os.mknod(device, 0o666 | 0o020000, os.makedev(1, 3))  # as /dev/null
        nodes = ",".join(self.nodes)
        listed = ",".join(map(str, devices))
        (etc / "gres.conf").write_text(
            f"NodeName={nodes} Name=gpu File={listed}\n" if devices else "", encoding="utf-8"
        )

    def _make_network(self) -> None:
        self._ip("link", "add", self._bridge, "type", "bridge")
        self._ip("addr", "add", f"{self.controller}/24", "dev", self._bridge)
        self._ip("link", "set", self._bridge, "up")
        for number, name in enumerate(self.nodes, start=1):
            space, outer = self._space(name), f"{self.links}v{number}"
            self._ip("netns", "add", space)
            self._ip("link", "add", outer, "type", "veth", "peer", "name", "eth0", "netns", space)
            self._ip("link", "set", outer, "master", self._bridge, "up")
            self._ip("-n", space, "addr", "add", f"{self.subnet}.{number}/24", "dev", "eth0")
            for link in ("lo", "eth0"):
                self._ip("-n", space, "link", "set", link, "up")

    def _start_munge(self) -> None:
        munge = self.folder / "munge"
        (munge / "key").write_bytes(os.urandom(128))
        (munge / "key").chmod(0o600)
        self._start(
            "munged",
            [
                "munged", "--force", f"--key-file={munge}/key", f"--socket={munge}/socket",
                f"--pid-file={self.folder}/munged.pid", f"--seed-file={munge}/seed",
                f"--log-file={self.folder}/log/munged.log",
            ],
        )  # fmt: skip
        self._wait((munge / "socket").exists, "munge has no socket")

    def _start_node(self, name: str) -> None:
        hosts = shlex.quote(str(self.folder / "etc" / "hosts"))
        conf = shlex.quote(self.environment["SLURM_CONF"])
        inside = (
            f"hostname {name} && mount -t tmpfs tmpfs /dev/shm && mount --bind {hosts} /etc/hosts "
            f"&& exec slurmd -N {name} -f {conf}"
        )
        self._start(
            f"slurmd.{name}",
            [
                "nsenter", f"--net=/run/netns/{self._space(name)}",
                "unshare", "--mount", "--uts", "--ipc", "sh", "-c", inside,
            ],
        )  # fmt: skip

    def _start(self, name: str, words: list[str]) -> None:
        """Start a daemon, which leaves its process id in a file."""
        with (self.folder / "log" / f"{name}.out").open("wb") as log:
            subprocess.run(
                words, env={**os.environ, "PATH": _PATH}, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, check=True,
            )  # fmt: skip
        file = self.folder / f"{name}.pid"
        self._wait(lambda: file.exists() and file.read_text().strip().isdigit(), f"no {name}")
        pids = {**self._started(), name: int(file.read_text())}
        (self.folder / "pids.json").write_text(json.dumps(pids), encoding="utf-8")

    def _started(self) -> dict[str, int]:
        try:
            return dict(json.loads((self.folder / "pids.json").read_text(encoding="utf-8")))
        except FileNotFoundError:
            return {}

    def _wait(self, ready, problem: str, seconds: float = 30) -> None:  # type: ignore[no-untyped-def]
        end = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > end:
                raise RuntimeError(f"{problem}: see {self.folder / 'log'}")
            time.sleep(0.05)

    def _ip(self, *words: str, check: bool = True) -> None:
        subprocess.run(
            ["ip", *words], env={**os.environ, "PATH": _PATH}, check=check,
            stderr=None if check else subprocess.DEVNULL,
        )  # fmt: skip


def missing() -> str | None:
    """Why no cluster can be started here; None if one can."""
    absent = [name for name in PROGRAMS if shutil.which(name, path=_PATH) is None]
    if absent:
        return f"no {', '.join(absent)}: scripts/install_slurm.sh installs what is needed"
    if os.geteuid() != 0:
        return "a SLURM of one's own needs root"
    links = "ip link add probe type bridge && ip link add one type veth peer name other"
    allowed = subprocess.run(
        ["unshare", "--net", "--mount", "sh", "-c", links],
        env={**os.environ, "PATH": _PATH}, capture_output=True,
    )  # fmt: skip
    if allowed.returncode:
        return f"no namespaces here: {allowed.stderr.decode().strip()}"
    return None


def main() -> int:
    """Start or stop."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("action", choices=("up", "down"))
    parser.add_argument("folder", type=Path, help="an empty folder, or that of `up`")
    arguments = parser.parse_args()
    cluster = Cluster(arguments.folder.absolute())
    if arguments.action == "down":
        cluster.stop()
        return 0
    reason = missing()
    if reason is not None:
        print(reason, file=sys.stderr)
        return 2
    cluster.start()
    for name, value in cluster.environment.items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
