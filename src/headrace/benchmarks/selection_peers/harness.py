"""Runs one way to choose rows once, in a process of its own, and prints what it measured.

``python harness.py MODULE TASK``, where MODULE is the name of a module beside this file and TASK
is JSON: ``vectors`` (a ``.npy`` file), ``rows`` (how many to choose), ``trade_off`` (lambda),
``threads``, ``chosen`` (the ``.npy`` file to write), and what the module needs.

A module has ``choose(vectors, rows, trade_off, task)``, which returns the chosen rows and facts.
It is called once for some rows before anything is measured: libraries are loaded and compiled.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

_WARM_UP_ROWS = 2000


def main(name: str, task: dict[str, Any]) -> dict[str, Any]:
    """Load, warm up, and measure seconds and the peak of memory beside the vectors."""
    module: Any = importlib.import_module(name)
    vectors = np.load(task["vectors"])
    start, stop = task.get("part", (0, len(vectors)))
    vectors = vectors[start:stop].copy()
    few = min(_WARM_UP_ROWS, len(vectors))
    module.choose(vectors[:few].copy(), few // 20, task["trade_off"], task)
    before = _forget_peak()
    began = time.perf_counter()
    chosen, facts = module.choose(vectors, task["rows"], task["trade_off"], task)
    seconds = time.perf_counter() - began
    peak = _status("VmHWM") - before
    if "chosen" in task:
        np.save(task["chosen"], np.asarray(chosen, np.int64))
    return {"seconds": seconds, "peak_bytes": peak, **facts}


def _forget_peak() -> int:
    """Make the peak of memory that of now, in bytes."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _status("VmHWM")


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return 1024 * int(line.split()[1])
    raise RuntimeError(f"the system does not tell {field}")


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], json.loads(sys.argv[2]))))
