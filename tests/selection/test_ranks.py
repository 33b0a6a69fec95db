"""The same choice on 1, 2, 3 and 4 ranks, to the last bit."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow
WORKER = Path(__file__).parent / "workers" / "select_on_ranks.py"
CASES = [
    {"limits": {"rows": 150}},
    {"limits": {"rows": 150}, "method": "exact_greedy"},
    {"limits": {"rows": 150}, "method": "random", "seed": 3},
    {"limits": {"rows": 150}, "method": "top_similarity"},
    {"limits": {"rows": 400}, "method": "exact_greedy"},
    {"limits": {"fraction": 0.1, "minimum": {"a": 40}, "maximum": {"b": 200}}, "require": True},
    {"limits": {"rows": 100, "proportional": True}, "method": "exact_greedy"},
    {"limits": {"budget": 3000}, "require": True},
    {"limits": {"budget": 3000}, "method": "random"},
    {"limits": {"rows": 150}, "trade_off": "balanced"},
]
BROKEN = {"limits": {"rows": 10}, "broken": True}


def run_ranks(folder: Path, ranks: int) -> list:
    """What the ranks found, which has to be the same on all."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = [
        subprocess.Popen(
            [sys.executable, str(WORKER), str(folder)],
            env={
                **os.environ, "OMP_NUM_THREADS": "1", "RANK": str(rank), "WORLD_SIZE": str(ranks),
                "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
            },
            stderr=subprocess.PIPE, text=True,
        )
        for rank in range(ranks)
    ]  # fmt: skip
    errors = [process.communicate(timeout=300)[1] for process in started]
    assert [process.returncode for process in started] == [0] * ranks, "\n".join(errors)
    results = [
        json.loads((folder / f"rank-{rank}-of-{ranks}.json").read_text()) for rank in range(ranks)
    ]
    assert all(result == results[0] for result in results)
    return results[0]


@pytest.fixture(scope="module")
def folder(clusters, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    random = np.random.default_rng(0)
    n = 4000
    np.savez(
        folder / "data.npz", vectors=clusters(n, 16, 7, dtype=np.float16),
        ties=random.permutation(n), groups=random.integers(0, 2, n).astype(np.int32),
        costs=random.integers(5, 60, n), required=np.sort(random.permutation(n)[:12]),
    )  # fmt: skip
    (folder / "cases.json").write_text(json.dumps([*CASES, BROKEN]))
    return folder


@pytest.fixture(scope="module")
def alone(folder):
    return run_ranks(folder, 1)


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_the_choice_is_the_same_on_any_number_of_ranks(folder, alone, ranks):
    together = run_ranks(folder, ranks)
    for case, one, many in zip(CASES, alone, together, strict=False):
        assert one["rows"] == many["rows"], case
        for name in ("gains", "scores", "objective", "bound", "knee", "suggested"):
            assert one[name] == many[name], (case, name)
    # what is wrong on one rank is raised on all, instead of a wait without end
    assert alone[-1] == together[-1]
    assert "row 3" in alone[-1][0]
