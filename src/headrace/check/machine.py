"""What follows from what each rank sees of its machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_address

from headrace.check.facts import Facts
from headrace.check.finding import Finding, Kind, first_ranks, found, kind_where
from headrace.errors import Problem

OPEN_FILES = 4096
"""Fewer can be too few: shards, encoded arrays and libraries, for each worker."""
SHARED_BYTES = 1 << 30
"""Of /dev/shm: NCCL, gloo and workers exchange data through it."""
SHARED_BYTES_OF_RANK = 66 << 20
"""That a rank of the shared-memory op maps; without it the kernel ends the process."""
LOCKED_BYTES = 1 << 30
"""InfiniBand locks what it sends."""
FREE_SHARE = 0.9
"""Of a GPU's memory; less is free where another process is on it."""
FRESH_LOCK = 120.0
"""Seconds for which a build may be under way."""
_UNLIMITED = -1


def of_machines(facts: Sequence[Facts]) -> list[Finding]:
    """Everything that is wrong with versions, devices, networks, limits, threads, extensions."""
    looks: tuple[Callable[[Sequence[Facts]], Iterable[Finding]], ...] = (
        of_versions, of_devices, of_networks, of_limits, of_threads, of_extensions,
    )  # fmt: skip
    return [finding for each in looks for finding in each(facts)]


def of_versions(facts: Sequence[Facts]) -> Iterable[Finding]:
    """Ranks that have other versions than most; of equally many, than rank 0."""
    names = dict.fromkeys(name for each in facts for name in each.versions)
    for name in names:
        values = [each.versions.get(name) for each in facts]
        if len(set(values)) == 1:
            continue
        counts = Counter(values)
        most = max(counts, key=lambda value: (counts[value], value == values[0]))
        for value in counts:
            if value != most:
                odd = [each for each in facts if each.versions.get(name) == value]
                kind = Kind.WARNING if name == "driver" else Kind.MISTAKE
                yield found(
                    kind, f"{name} is not {most or 'missing'}, as elsewhere", odd, value or "none",
                    "Use one environment on all nodes: a folder that all of them see, or the same "
                    "modules",
                )  # fmt: skip


def of_devices(facts: Sequence[Facts]) -> Iterable[Finding]:
    """GPUs that are missing, shared, taken, too old for this torch, or not all the same."""
    with_gpu = [each for each in facts if each.device.kind == "cuda"]
    without = [each for each in facts if each.device.kind != "cuda"]
    if with_gpu and without:
        yield found(
            Kind.FAULT, "torch sees no GPU here, and does on other nodes", without, None,
            "Look at the driver with nvidia-smi",
        )  # fmt: skip
    elif hidden := [each for each in without if each.device.installed]:
        yield found(
            Kind.WARNING, "the node has GPUs, and torch sees none", hidden,
            f"{hidden[0].device.installed} GPUs",
            "Ask for them, with --gres=gpu:N; if that is so, torch is not built for the driver",
        )  # fmt: skip
    if beyond := [each for each in with_gpu if each.device.index >= each.device.count]:
        yield found(
            kind_where(beyond, facts), "more ranks than GPUs", beyond,
            f"{beyond[0].device.count} GPUs",
            "Make HEADRACE_RANKS_PER_NODE and --gres the same number",
        )  # fmt: skip
    used = [each for each in with_gpu if each not in beyond]
    by_device: dict[str, list[Facts]] = {}
    for each in used:
        by_device.setdefault(f"{each.host} {each.device.uuid}", []).append(each)
    for sharing in by_device.values():
        if len(sharing) > 1:
            yield found(
                Kind.MISTAKE, "these ranks share one GPU", sharing, sharing[0].device.name,
                "Start one rank for each GPU, and let every rank see its own",
            )  # fmt: skip
    if old := [each for each in used if not each.device.has_kernels]:
        yield found(
            Kind.MISTAKE, "this torch has no code for the GPU", old,
            f"{old[0].device.name}, compute capability {_dotted(old[0].device.capability)}",
            "Install a torch that has: constraints/v100.txt for V100",
        )  # fmt: skip
    for each in used:
        free, total = each.device.free_bytes, each.device.total_bytes
        if free < FREE_SHARE * total:
            yield found(
                Kind.FAULT, "another process has memory of the GPU", [each],
                f"{free / 1e9:.1f} of {total / 1e9:.1f} GB free",
                f"Look who, with nvidia-smi; --sbatch=--exclude={each.host} leaves the node out",
            )  # fmt: skip
    models = Counter((each.device.name, each.device.capability) for each in used)
    if len(models) > 1:
        (most, _), *_ = models.most_common()
        odd = [each for each in used if (each.device.name, each.device.capability) != most]
        yield found(
            Kind.WARNING, f"other GPUs than {most[0]}", odd, odd[0].device.name,
            "All ranks go at the pace of the slowest; --sbatch=--constraint=… chooses one kind",
        )  # fmt: skip


def of_networks(facts: Sequence[Facts]) -> Iterable[Finding]:
    """Interfaces that are asked for and not there, and names that lead nowhere."""
    nodes = first_ranks(facts)
    for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        for value in dict.fromkeys(each.network.chosen.get(variable) for each in nodes):
            asking = [each for each in nodes if each.network.chosen.get(variable) == value]
            absent = [] if value is None else [e for e in asking if not _is_there(variable, e)]
            if absent:
                first = absent[0].network
                there = ", ".join(name for name, up in first.interfaces.items() if up)
                remedy = f"Set it to one of {there}"
                if first.route is not None:
                    remedy += f"; rank 0 is reached by {first.route}"
                yield found(
                    kind_where(absent, facts), f"{variable}: there is no such interface that is up",
                    absent, value, remedy,
                )  # fmt: skip
    if len(nodes) > 1 and all(each.device.kind == "cpu" for each in facts):
        unchosen = [each for each in nodes if "GLOO_SOCKET_IFNAME" not in each.network.chosen]
        lost = [each for each in unchosen if not _is_reachable(each.network.own_address)]
        if lost:
            route = lost[0].network.route or "NAME"
            yield found(
                kind_where(lost, facts),
                "the node's own name leads to no address that other nodes reach", lost,
                lost[0].network.own_address, f"Set GLOO_SOCKET_IFNAME={route} in the site profile",
            )  # fmt: skip


def _is_there(variable: str, facts: Facts) -> bool:
    """Whether what a variable chooses is up: NCCL takes beginnings of names, gloo whole ones."""
    text = facts.network.chosen[variable]
    up = [name for name, is_up in facts.network.interfaces.items() if is_up]
    if variable == "GLOO_SOCKET_IFNAME":
        return all(name in up for name in text.split(","))
    names = text.lstrip("^=").split(",")
    if text.startswith("^"):
        return any(not name.startswith(tuple(names)) for name in up)
    exact = text.startswith("=")
    return any(name in names if exact else name.startswith(tuple(names)) for name in up)


def _is_reachable(address: str | None) -> bool:
    return address is not None and not ip_address(address).is_loopback


def of_limits(facts: Sequence[Facts]) -> Iterable[Finding]:
    """Limits under which jobs fail late."""
    nodes = first_ranks(facts)
    few = [each for each in nodes if _UNLIMITED < each.limits.open_files < OPEN_FILES]
    if few:
        yield found(
            Kind.WARNING, "few files may be open at a time", few, str(few[0].limits.open_files),
            f"Put `ulimit -n {OPEN_FILES * 4}` before the start, or ask for LimitNOFILE of slurmd",
        )  # fmt: skip
    for each in nodes:
        ranks = sum(other.host == each.host for other in facts)
        if each.device.kind == "cpu" and ranks > 1 and each.extensions.built:
            needed = ranks * SHARED_BYTES_OF_RANK
            if each.limits.shared_free_bytes < needed:
                yield found(
                    kind_where([each], facts), "/dev/shm is too full or too small", [each],
                    f"{each.limits.shared_free_bytes / 1e6:,.0f} MB free, {needed / 1e6:,.0f} MB "
                    "are needed",
                    "Remove what earlier jobs left in /dev/shm, or make it larger",
                )  # fmt: skip
                continue
        if each.limits.shared_bytes < SHARED_BYTES:
            yield found(
                Kind.WARNING, "/dev/shm is small", [each],
                f"{each.limits.shared_bytes / 1e6:,.0f} MB",
                "Start the container with more: --shm-size=8g, or --ipc=host",
            )  # fmt: skip
    locked = [
        each for each in nodes
        if each.device.kind == "cuda" and each.limits.has_infiniband
        and _UNLIMITED < each.limits.locked_bytes < LOCKED_BYTES
    ]  # fmt: skip
    if locked:
        yield found(
            Kind.WARNING, "little memory may be locked, which InfiniBand needs", locked,
            f"{locked[0].limits.locked_bytes / 1e6:,.1f} MB",
            "Ask for LimitMEMLOCK=infinity of slurmd: NCCL takes a slower way otherwise",
        )  # fmt: skip


def of_threads(facts: Sequence[Facts]) -> Iterable[Finding]:
    """Ranks that get in each other's way on the CPUs."""
    alone = [each for each in facts if len(each.threads.cpus) == 1]
    if alone:
        yield found(
            Kind.WARNING, "a single CPU: loading data and computing take turns", alone, None,
            "Ask for --cpus-per-task, and give it to srun as well",
        )  # fmt: skip
    by_place: dict[tuple[str, tuple[int, ...]], list[Facts]] = {}
    for each in facts:
        by_place.setdefault((each.host, each.threads.cpus), []).append(each)
    for (_, cpus), ranks in by_place.items():
        wanted = sum(int(asked) for each in ranks if (asked := _first_number(each)) is not None)
        if wanted > len(cpus):
            yield found(
                Kind.WARNING, "more threads than CPUs", ranks,
                f"OMP_NUM_THREADS: {wanted} in all, {len(cpus)} CPUs",
                "Leave OMP_NUM_THREADS out: ranks then share the CPUs",
            )  # fmt: skip
    wide = [
        each for (_, _), ranks in by_place.items() if len(ranks) > 1
        for each in ranks if len(each.threads.numa_nodes) > 1
    ]  # fmt: skip
    if wide:
        yield found(
            Kind.WARNING, "ranks share the CPUs of several NUMA nodes, and are not bound", wide,
            None, "Let srun start the ranks, with --cpus-per-task and --cpu-bind=cores",
        )  # fmt: skip
    far = [
        each for each in facts
        if each.device.numa is not None and each.threads.numa_nodes
        and each.device.numa not in each.threads.numa_nodes
    ]  # fmt: skip
    if far:
        yield found(
            Kind.WARNING, "the CPUs are far from the GPU: on another NUMA node", far,
            f"GPU: {far[0].device.numa}", "Ask for --gpus-per-task=1 --gpu-bind=closest",
        )  # fmt: skip


def _first_number(facts: Facts) -> int | None:
    """Threads of the outer level: OMP_NUM_THREADS may be a list."""
    first = (facts.threads.asked or "").partition(",")[0]
    return int(first) if first.isdecimal() else None


def of_extensions(facts: Sequence[Facts]) -> Iterable[Finding]:
    """Extensions that are not built, do not load, or that a dead build has locked."""
    nodes = first_ranks(facts)
    broken = [each for each in nodes if each.extensions.error is not None]
    if broken:
        yield found(
            kind_where(broken, facts), "a compiled extension cannot be loaded", broken,
            broken[0].extensions.error,
            f"Remove {broken[0].extensions.folder}, and run: {_BUILD}",
        )  # fmt: skip
    locked: dict[str, list[Facts]] = {}
    for each in nodes:
        for name, age in each.extensions.locks.items():
            # of its own op training removes the lock itself
            if age > FRESH_LOCK and name != "deepspeed_shm_comm":
                locked.setdefault(f"{each.extensions.folder}/{name}/lock", []).append(each)
    for path, there in locked.items():
        yield found(
            Kind.MISTAKE, "a build has left its lock, for which every job would wait", there,
            path, "Remove the file, unless something is being compiled",
        )  # fmt: skip
    everything = set().union(*(each.extensions.built for each in nodes))
    cold = [each for each in nodes if everything - set(each.extensions.built)]
    if cold:
        yield found(
            Kind.WARNING, "extensions that other nodes have are not compiled here", cold,
            cold[0].extensions.folder, "Let TORCH_EXTENSIONS_DIR be a folder that all nodes see",
        )  # fmt: skip
    on_cpu = [each for each in nodes if each.device.kind == "cpu" and each.extensions.has_compiler]
    if on_cpu and not everything:
        problem = Problem(
            "nothing is compiled yet: the first job does it, and leaves a lock if it is killed",
            on_cpu[0].extensions.folder, None, f"Run: {_BUILD}",
        )  # fmt: skip
        yield Finding(Kind.WARNING, problem, ())


_BUILD = "python -m headrace.training.extensions"


def _dotted(capability: tuple[int, int] | None) -> str:
    return "unknown" if capability is None else f"{capability[0]}.{capability[1]}"
