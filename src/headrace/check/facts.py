"""What one rank sees of its machine: plain data, which travels to rank 0 as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Device:
    """Where a rank would compute."""

    kind: str
    """``cpu`` or ``cuda``."""
    index: int = 0
    """That of this rank on its node."""
    count: int = 0
    """GPUs that the rank sees."""
    installed: int = 0
    """GPUs that the node has, by its device files."""
    name: str = ""
    capability: tuple[int, int] | None = None
    has_kernels: bool = True
    """Whether this torch was built for it."""
    free_bytes: int = 0
    total_bytes: int = 0
    uuid: str | None = None
    numa: int | None = None
    """NUMA node that it is attached to; None: not known."""


@dataclass(frozen=True)
class Network:
    """Interfaces and names of a node."""

    interfaces: Mapping[str, bool]
    """Name -> whether it is up."""
    route: str | None
    """The interface by which rank 0 is reached; None: not known."""
    own_address: str | None
    """What the node's own name stands for; None: nothing."""
    chosen: Mapping[str, str]
    """Of GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME, those that are set."""


@dataclass(frozen=True)
class Limits:
    """What the system allows."""

    open_files: int
    """-1: any number."""
    locked_bytes: int
    """-1: any number."""
    shared_bytes: int
    """Size of /dev/shm."""
    shared_free_bytes: int
    has_infiniband: bool


@dataclass(frozen=True)
class Threads:
    """CPUs that a rank may use, and how many threads would."""

    cpus: tuple[int, ...]
    numa_of: Mapping[str, int]
    """CPU of the node, as text -> NUMA node; empty: not known."""
    asked: str | None
    """OMP_NUM_THREADS."""

    @property
    def numa_nodes(self) -> set[int]:
        """Of the CPUs that the rank may use."""
        return {self.numa_of[str(cpu)] for cpu in self.cpus if str(cpu) in self.numa_of}


@dataclass(frozen=True)
class Extensions:
    """The folder of compiled extensions."""

    folder: str
    built: tuple[str, ...]
    """Names of extensions that are complete."""
    locks: Mapping[str, float]
    """Extension whose build has a lock file -> age in seconds."""
    error: str | None
    """Why the one that this rank would load does not; None: it does, or is not there."""
    has_compiler: bool


@dataclass(frozen=True)
class Facts:
    """What one rank sees."""

    rank: int
    local_rank: int
    host: str
    versions: Mapping[str, str]
    """Of programs and libraries, by name."""
    device: Device
    network: Network
    limits: Limits
    threads: Threads
    extensions: Extensions

    def to_json(self) -> str:
        """As text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Facts:
        """From what :meth:`to_json` made, read as JSON."""
        device, threads, extensions = data["device"], data["threads"], data["extensions"]
        capability = device["capability"]
        device["capability"] = None if capability is None else tuple(capability)
        threads["cpus"] = tuple(threads["cpus"])
        extensions["built"] = tuple(extensions["built"])
        return cls(
            **{
                **data,
                "device": Device(**device),
                "network": Network(**data["network"]),
                "limits": Limits(**data["limits"]),
                "threads": Threads(**threads),
                "extensions": Extensions(**extensions),
            }
        )
