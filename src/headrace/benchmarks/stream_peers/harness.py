"""Runs one loader once, in a process of its own, and prints what it measured as a line of JSON.

``python harness.py LOADER TASK``, where LOADER is the name of a module beside this file and TASK
is JSON: ``action`` (``serve``, ``check``, ``save``, ``resume`` or ``convert``) and what the
loader and the action need.  Only the standard library is imported here, so that the import of the
loader can be timed.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import sys
import time
from hashlib import blake2b
from typing import Any

STARTED = time.perf_counter()
"""Before anything of the loader is imported."""

Task = dict[str, Any]


def serve(module: Any, task: Task) -> Task:
    """Serve for up to ``seconds``: time to the first batch, rate after it, CPU time, memory."""
    cpu_before, began = _cpu_seconds(), time.perf_counter()
    loader = module.Loader(task)
    batches = iter(loader)
    samples = first = len(next(batches))
    first_batch = time.perf_counter()
    until = first_batch + task["seconds"]
    complete = True
    for batch in batches:
        samples += len(batch)
        if time.perf_counter() > until:
            complete = False
            break
    ended = time.perf_counter()
    counted = getattr(loader, "counted", {})
    del batches, loader
    return {
        "first_batch_s": first_batch - began,
        "seconds": ended - first_batch,
        "samples": samples - first,
        "complete": complete,
        # Worker processes count once they have ended.
        "cpu_s": _cpu_seconds() - cpu_before,
        "cpu_samples": samples,
        **counted,
        **_memory(),
    }


def check(module: Any, task: Task) -> Task:
    """Serve a whole epoch and say what was served, and how the memory grew."""
    before = _memory()["anonymous_mib"]
    tenth = 0.0
    samples, payload_bytes, digest = 0, 0, 0
    for batch in module.Loader(task):
        for payload in batch:
            data = _as_bytes(payload)
            samples += 1
            payload_bytes += len(data)
            digest += _hash(data)
        if not tenth and samples >= task["samples"] / 10:
            tenth = _memory()["anonymous_mib"]
    return {
        "samples": samples,
        "payload_bytes": payload_bytes,
        "digest": str(digest % 2**64),
        "anonymous_before_mib": before,
        "anonymous_tenth_mib": tenth,
        **_memory(),
    }


def save(module: Any, task: Task) -> Task:
    """Serve this process's part and save the state at each of the ``stops``, which rise.

    A stop has ``at``, a number of samples, and the files for the hashes of what was ``served`` so
    far and for the ``state``.  Both are written at once: with ``kill`` the process ends itself by
    SIGKILL after the last one, so that nothing that is done at a normal exit can help.
    """
    loader = module.Loader(task)
    batches = iter(loader)
    served: list[int] = []
    found: list[Task] = []
    for stop in task["stops"]:
        while len(served) < stop["at"]:
            served += [_hash(_as_bytes(payload)) for payload in next(batches)]
        state = loader.save()
        _write(stop["served"], json.dumps(served).encode())
        _write(stop["state"], state)
        found.append({"samples": len(served), "state_bytes": len(state)})
    if task.get("kill"):
        os.kill(os.getpid(), signal.SIGKILL)
    return {"stops": found}


def resume(module: Any, task: Task) -> Task:
    """Go on from a saved state: time to the first batch, and the hashes of the ``remaining``."""
    began = time.perf_counter()
    loader = module.Loader(task)
    with open(task["state"], "rb") as file:  # noqa: PTH123  # pathlib would be one import more
        loader.load(file.read())
    batches = iter(loader)
    batch: list[Any] = next(batches, [])
    resumed = time.perf_counter()
    found = {"resume_s": resumed - began, **_memory()}
    if "served" in task:
        served: list[int] = []
        while batch and len(served) < task["remaining"]:  # some go on with the next epoch
            served += [_hash(_as_bytes(payload)) for payload in batch]
            batch = next(batches, [])
        _write(task["served"], json.dumps(served).encode())
        found["samples"] = len(served)
    return found


def convert(module: Any, task: Task) -> Task:
    """Make what the loader reads from the tars."""
    began = time.perf_counter()
    module.convert(task["tars"], task["folder"])
    return {"seconds": time.perf_counter() - began}


def _as_bytes(payload: Any) -> bytes:
    if isinstance(payload, str):
        return payload.encode()
    if not isinstance(payload, bytes):
        raise TypeError(f"a payload is {type(payload).__name__}, not bytes")
    return payload


def _hash(payload: bytes) -> int:
    return int.from_bytes(blake2b(payload, digest_size=8).digest(), "little")


def _cpu_seconds() -> float:
    """Of this process and of its children that have ended."""
    all_usage = [
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    ]
    return sum(usage.ru_utime + usage.ru_stime for usage in all_usage)


def _memory() -> dict[str, float]:
    """MiB of this process now that belong to no file, and its peak with pages of mapped files."""
    # Not ru_maxrss, which is at least the size of the process that started this one.
    found = {}
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:  # noqa: PTH123
        for line in file:
            name, _, value = line.partition(":")
            found[name] = value
    return {
        "anonymous_mib": int(found["RssAnon"].split()[0]) / 1024,
        "peak_mib": int(found["VmHWM"].split()[0]) / 1024,
    }


def _write(path: str, data: bytes) -> None:
    with open(path, "wb") as file:  # noqa: PTH123
        file.write(data)


def main() -> None:
    """Run the action and print its result as the last line of standard output."""
    name, task = sys.argv[1], json.loads(sys.argv[2])
    result = os.dup(1)
    os.dup2(2, 1)  # whatever libraries and their workers print is not the result
    module = importlib.import_module(name)
    import_s = time.perf_counter() - STARTED
    actions = {"serve": serve, "check": check, "save": save, "resume": resume, "convert": convert}
    found = {"import_s": import_s, **actions[task["action"]](module, task)}
    os.write(result, (json.dumps(found) + "\n").encode())


if __name__ == "__main__":
    main()
