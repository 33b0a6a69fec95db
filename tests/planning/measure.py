"""Predicted and measured peaks of memory, side by side.

``python tests/planning/measure.py`` trains three networks at every ZeRO stage on one and on two
ranks of the CPU, and prints a table.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from networks import NETWORKS, predicted

WORKER = Path(__file__).parent / "workers" / "measured_peak.py"
CELL = {"micro": 4, "length": 128, "ranks": 1, "stage": 0}
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}
"""Large arrays are given back as soon as they are freed, as they are on a GPU."""


def measured(spec: dict[str, Any]) -> int:
    """Train on as many ranks as are asked for, and return the largest peak, in bytes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    environment = {
        **os.environ, **MALLOC, "OMP_NUM_THREADS": "1", "WORLD_SIZE": str(spec["ranks"]),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
    }  # fmt: skip
    ranks = [
        subprocess.Popen(
            [sys.executable, str(WORKER), json.dumps(spec)],
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(spec["ranks"])
    ]
    try:
        outputs = [rank.communicate(timeout=900) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    for rank, (_, errors) in zip(ranks, outputs, strict=True):
        if rank.returncode:
            raise RuntimeError(errors[-2000:])
    return max(json.loads(output.splitlines()[-1])["peak"] for output, _ in outputs)


def main(names: Sequence[str]) -> None:
    print("| network | ranks | ZeRO | predicted (MB) | at | measured (MB) | difference |")
    print("|---|---|---|---|---|---|---|")
    for name in names or list(NETWORKS):
        for ranks in (1, 2):
            for stage in range(4):
                spec = {**CELL, "network": name, "ranks": ranks, "stage": stage}
                peak = predicted(spec).peak
                found = measured(spec)
                print(
                    f"| {name} | {ranks} | {stage} | {peak.bytes / 1e6:,.0f} | {peak.name} | "
                    f"{found / 1e6:,.0f} | {peak.bytes / found - 1:+.1%} |",
                    flush=True,
                )


if __name__ == "__main__":
    main(sys.argv[1:])
