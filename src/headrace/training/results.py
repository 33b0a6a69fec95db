"""Results of a run: one file a finished branch, and ``results.json`` made of them."""

from __future__ import annotations

import datetime
import json
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from headrace import __version__
from headrace.shards import storage
from headrace.tasks.task import Task
from headrace.training.stages import Branch


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole or not at all."""
    text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
    storage.write_atomically(str(path), text.encode())


def environment(world_size: int, device: torch.device) -> dict[str, str]:
    """Return the facts about software and machine that belong to a result."""
    packages = ("torch", "deepspeed", "transformers", "tokenizers", "numpy")
    name = str(device)
    if device.type == "cuda":
        name = f"{device} ({torch.cuda.get_device_name(device)})"
    return {
        "headrace": __version__,
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
        "system": f"{platform.system()} {platform.machine()}",
        "device": name,
        "ranks": str(world_size),
        "threads a rank": str(torch.get_num_threads()),
    }


def collect_results(
    run: str,
    output: Path,
    branches: Sequence[Branch],
    *,
    task: Task,
    environment_facts: dict[str, str],
) -> dict[str, Any]:
    """Write ``results.json`` from the branches that are finished, and return its content."""
    with FileLock(output / ".results.lock"):  # other jobs may finish branches at the same time
        return _collect(run, output, branches, task, environment_facts)


def _collect(
    run: str,
    output: Path,
    branches: Sequence[Branch],
    task: Task,
    environment_facts: dict[str, str],
) -> dict[str, Any]:
    results = {
        "run": run,
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "environment": environment_facts,
        "task": task.name,
        "scores": task.describe_scores(),
        "label_set": task.facts().get("label_set"),
        "stages": [
            json.loads(branch.result_file.read_text(encoding="utf-8"))
            for branch in branches
            if branch.result_file.exists()
        ],
    }
    write_json(output / "results.json", results)
    return results
