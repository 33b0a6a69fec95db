"""Runs one program of the benchmark once, in a process of its own.

``python harness.py MODULE TASK``, where MODULE is the name of a module beside this file and TASK
is JSON: ``cores`` (those that it and its processes may use), and what the module needs.  A module
has ``run(task)``; what it returns is printed as the last line, with the processor time of this
process and all that it has started and waited for, from the beginning to the end.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
from typing import Any


def main(name: str, task: dict[str, Any]) -> Any:
    """Load the program and run it."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, task["cores"])
    module: Any = importlib.import_module(name)
    found = module.run(task)
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {**found, "cpu_s": sum(one.ru_utime + one.ru_stime for one in spent)}


if __name__ == "__main__":
    print("\n" + json.dumps(main(sys.argv[1], json.loads(sys.argv[2]))))
