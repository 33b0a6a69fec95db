"""Looking around on this machine, as one rank."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import platform
import re
import resource
import shutil
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import psutil
import torch
import xxhash

import headrace
from headrace.check.facts import Device, Extensions, Facts, Limits, Network, Threads
from headrace.training.extensions import SHARED_MEMORY_OP, extensions_dir

_PACKAGES = ("headrace", "torch", "deepspeed", "transformers", "tokenizers", "numpy")
_INTERFACE_VARIABLES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
_DRIVER = Path("/proc/driver/nvidia/version")
_NUMA = Path("/sys/devices/system/node")
_SHARED = "/dev/shm"


def look(rank: int, local_rank: int, main_address: str) -> Facts:
    """Return what this rank sees; nothing is changed, and nobody else is asked."""
    device = _device(local_rank)
    return Facts(
        rank=rank,
        local_rank=local_rank,
        host=socket.gethostname(),
        versions=_versions(),
        device=device,
        network=_network(main_address),
        limits=_limits(),
        threads=_threads(),
        extensions=extension_facts(extensions_dir(), loads=device.kind == "cpu"),
    )


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "headrace code": _digest_of_code()}
    for name in _PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    if torch.version.cuda is not None:
        versions["cuda"] = torch.version.cuda
    if torch.cuda.is_available():
        with suppress(Exception):  # a build without NCCL
            nccl = torch.cuda.nccl.version()  # type: ignore[no-untyped-call]
            versions["nccl"] = ".".join(map(str, nccl))
    with suppress(OSError):
        match = re.search(r"Kernel Module[^\d]*([\d.]+)", _DRIVER.read_text(encoding="utf-8"))
        if match:
            versions["driver"] = match[1]
    return versions


def _digest_of_code() -> str:
    """Of this package's modules: nodes with copies of their own may have others."""
    digest = xxhash.xxh3_64()
    for path in sorted(Path(headrace.__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:8]


def _device(local_rank: int) -> Device:
    installed = len([path for path in Path("/dev").glob("nvidia*") if path.name[6:].isdecimal()])
    count = torch.cuda.device_count()
    if not torch.cuda.is_available() or local_rank >= count:
        kind = "cuda" if torch.cuda.is_available() else "cpu"
        return Device(kind, index=local_rank, count=count, installed=installed)
    facts = torch.cuda.get_device_properties(local_rank)
    capability = (int(facts.major), int(facts.minor))
    free, total = torch.cuda.mem_get_info(local_rank)
    return Device(
        kind="cuda",
        index=local_rank,
        count=count,
        installed=installed,
        name=facts.name,
        capability=capability,
        has_kernels=has_kernels(capability, torch.cuda.get_arch_list()),
        free_bytes=free,
        total_bytes=total,
        uuid=str(getattr(facts, "uuid", None)),
        numa=_numa_of_device(facts),
    )


def has_kernels(capability: tuple[int, int], built: Sequence[str]) -> bool:
    """Whether code was built that a GPU runs: binary of its generation, or any older PTX.

    Args:
        capability: of the GPU.
        built: as :func:`torch.cuda.get_arch_list` has it: ``sm_80``, ``compute_90``.
    """
    for name in built:
        kind, _, digits = name.partition("_")
        match = re.match(r"(\d+)(\d)", digits)
        if match is None:
            continue
        made = (int(match[1]), int(match[2]))
        if kind == "compute" and made <= capability:
            return True
        if kind == "sm" and made[0] == capability[0] and made[1] <= capability[1]:
            return True
    return not built


def _numa_of_device(facts: object) -> int | None:
    bus, device = (getattr(facts, f"pci_{part}_id", None) for part in ("bus", "device"))
    if bus is None or device is None:  # torch before 2.8
        return None
    domain = getattr(facts, "pci_domain_id", 0)
    path = Path(f"/sys/bus/pci/devices/{domain:04x}:{bus:02x}:{device:02x}.0/numa_node")
    with suppress(OSError, ValueError):
        number = int(path.read_text(encoding="ascii"))
        return number if number >= 0 else None
    return None


def _network(main_address: str) -> Network:
    states = {name: found.isup for name, found in psutil.net_if_stats().items()}
    own = None
    with suppress(OSError):
        own = socket.gethostbyname(socket.gethostname())
    chosen = {name: os.environ[name] for name in _INTERFACE_VARIABLES if os.environ.get(name)}
    return Network(states, _route_to(main_address), own, chosen)


def _route_to(address: str) -> str | None:
    """The interface by which an address is reached; nothing is sent."""
    with suppress(OSError):
        family, _, _, _, target = socket.getaddrinfo(address, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(target)
            own = probe.getsockname()[0]
        for name, found in psutil.net_if_addrs().items():
            if any(each.address.partition("%")[0] == own for each in found):
                return str(name)
    return None


def _limits() -> Limits:
    shared = os.statvfs(_SHARED) if Path(_SHARED).is_dir() else None
    return Limits(
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        locked_bytes=resource.getrlimit(resource.RLIMIT_MEMLOCK)[0],
        shared_bytes=shared.f_blocks * shared.f_frsize if shared else 0,
        shared_free_bytes=shared.f_bavail * shared.f_frsize if shared else 0,
        has_infiniband=any(Path("/sys/class/infiniband").glob("*")),
    )


def _threads() -> Threads:
    cpus = tuple(sorted(os.sched_getaffinity(0)))
    numa_of = {}
    for node in _NUMA.glob("node[0-9]*"):
        with suppress(OSError, ValueError):
            for cpu in cpus_of((node / "cpulist").read_text(encoding="ascii")):
                numa_of[str(cpu)] = int(node.name.removeprefix("node"))
    mine = {str(cpu): numa_of[str(cpu)] for cpu in cpus if str(cpu) in numa_of}
    return Threads(cpus, mine, os.environ.get("OMP_NUM_THREADS"))


def cpus_of(text: str) -> Iterable[int]:
    """Expand the kernel's lists of CPUs: ``0-2,8``."""
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def extension_facts(folder: Path, *, loads: bool) -> Extensions:
    """What a folder of compiled extensions has.

    Args:
        folder: it need not be there.
        loads: load the one that CPU ranks use, as DeepSpeed does.
    """
    built = sorted(path.parent.name for path in folder.glob("*/*.so"))
    error = None
    if loads and SHARED_MEMORY_OP in built:
        error = _load(SHARED_MEMORY_OP, folder / SHARED_MEMORY_OP / f"{SHARED_MEMORY_OP}.so")
    compiler = shutil.which(os.environ.get("CXX", "c++")) is not None
    return Extensions(str(folder), tuple(built), _locks(folder), error, compiler)


def _locks(folder: Path) -> Mapping[str, float]:
    """Lock files of torch's builds, and their age in seconds."""
    found = {}
    for path in folder.glob("*/lock"):
        with suppress(OSError):  # it has just been removed
            found[path.parent.name] = max(0.0, time.time() - path.stat().st_mtime)
    return found


def _load(name: str, path: Path) -> str | None:
    """Why a compiled module cannot be loaded; None if it can."""
    try:
        spec = importlib.util.spec_from_file_location(
            name, path, loader=importlib.machinery.ExtensionFileLoader(name, str(path))
        )
        assert spec is not None
        importlib.util.module_from_spec(spec)
    except ImportError as error:  # made for another torch, Python or C library
        return str(error)
    return None
