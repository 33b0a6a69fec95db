"""The method of the paper as it is written, with the whole matrix, and data to try it on."""

import json
import os
import socket
import subprocess
import sys
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest


@dataclass
class DenseReference:
    """Equation (3) and Algorithm 1 over the dense matrix of cosines."""

    vectors: np.ndarray
    ties: np.ndarray | None = None
    trade_off: float = 10.0
    matrix: np.ndarray = field(init=False)

    def __post_init__(self):
        # equal rows get equal rows and columns of the matrix, wherever they stand
        unique, inverse = np.unique(self.vectors.astype(np.float64), axis=0, return_inverse=True)
        unit = unique / np.linalg.norm(unique, axis=1, keepdims=True)
        self.matrix = (unit @ unit.T)[np.ix_(inverse.ravel(), inverse.ravel())]
        np.fill_diagonal(self.matrix, 1.0)
        if self.ties is None:
            self.ties = np.arange(len(self.vectors))

    def value(self, rows) -> float:
        """Equation (3), term by term; each pair of chosen rows counts once."""
        chosen = np.zeros(len(self.matrix), bool)
        chosen[rows] = True
        inside = self.matrix[np.ix_(chosen, chosen)]
        pairs = (inside.sum() - np.trace(inside)) / 2
        return float(self.matrix[np.ix_(~chosen, chosen)].sum() - self.trade_off * pairs)

    def greedy(self, count: int, allowed=lambda chosen: None) -> tuple[np.ndarray, np.ndarray]:
        """Algorithm 1 with the updates of equation (16): rows and their gains.

        ``allowed`` maps the rows chosen so far to a mask of rows that may come next, or None.
        """
        marginals = self.matrix.sum(axis=1) - 1.0
        chosen, gains = [], []
        free = np.ones(len(marginals), bool)
        for _ in range(count):
            mask = allowed(chosen)
            open_rows = np.flatnonzero(free if mask is None else free & mask)
            best = marginals[open_rows]
            # what differs in the last digits alone is equal: the sums of equal rows run differently
            near = open_rows[best >= best.max() - 1e-11 * len(marginals)]
            row = int(near[np.argmin(self.ties[near])])
            chosen.append(row)
            gains.append(marginals[row])
            free[row] = False
            marginals = marginals - (2 + self.trade_off) * self.matrix[row]
        return np.array(chosen), np.array(gains)


@pytest.fixture(scope="session")
def dense_reference():
    return DenseReference


@pytest.fixture(scope="session")
def clusters():
    """Rows around centres, every fifth a copy or near-copy of another; cosines mixed or above 0."""

    def make(n: int, d: int, seed: int, *, mixed: bool = False, dtype=np.float32) -> np.ndarray:
        random = np.random.default_rng(seed)
        centres = random.standard_normal((max(2, n // 40), d))
        rows = centres[random.integers(0, len(centres), n)] + 0.7 * random.standard_normal((n, d))
        if not mixed:
            rows = rows + 1.5 * random.standard_normal(d)
        copies = random.permutation(n)[: n // 5]
        rows[copies] = rows[random.integers(0, n, len(copies))]
        near = copies[: len(copies) // 2]
        rows[near] += 0.05 * random.standard_normal((len(near), d))
        return rows.astype(dtype)

    return make


@pytest.fixture(scope="session")
def start_ranks():
    """Starts the ranks of a worker script, which gets the words."""

    def start(worker: Path, ranks: int, *words: str) -> list[subprocess.Popen]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        return [
            subprocess.Popen(
                [sys.executable, str(worker), *words],
                env={
                    **os.environ, "OMP_NUM_THREADS": "1", "RANK": str(rank),
                    "WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
                },
                stderr=subprocess.PIPE, text=True,
            )
            for rank in range(ranks)
        ]  # fmt: skip

    return start


@pytest.fixture(scope="session")
def run_ranks(start_ranks):
    """What the ranks of a worker found in a folder, which has to be the same on all."""

    def run(worker: Path, folder: Path, ranks: int) -> list:
        started = start_ranks(worker, ranks, str(folder))
        errors = [process.communicate(timeout=300)[1] for process in started]
        assert [process.returncode for process in started] == [0] * ranks, "\n".join(errors)
        results = [
            json.loads((folder / f"rank-{rank}-of-{ranks}.json").read_text())
            for rank in range(ranks)
        ]
        assert all(result == results[0] for result in results)
        return results[0]

    return run


@pytest.fixture(scope="session")
def rank_folder(clusters, tmp_path_factory):
    """Makes a folder for the ranks of a worker: the same 4,000 rows each time, and the cases."""

    def make(cases: list[dict]) -> Path:
        folder = tmp_path_factory.mktemp("ranks")
        random = np.random.default_rng(0)
        n = 4000
        np.savez(
            folder / "data.npz", vectors=clusters(n, 16, 7, dtype=np.float16),
            ties=random.permutation(n), groups=random.integers(0, 2, n).astype(np.int32),
            costs=random.integers(5, 60, n), required=np.sort(random.permutation(n)[:12]),
        )  # fmt: skip
        (folder / "cases.json").write_text(json.dumps(cases))
        return folder

    return make


@pytest.fixture(scope="session")
def die_writing():
    """Code for a program: ``die_writing(N)`` kills it when half the vectors of shard N are written.

    The marker of the shard is not written then, but its vectors have begun.
    """
    return textwrap.dedent("""
        import os, signal
        from headrace.selection import vector_cache

        def die_writing(shard):
            plain, written = vector_cache.write_rows, []

            def write(path, start, rows):
                written.append(path.stem)
                last = path.stem == "vectors" and written.count("vectors") == shard + 1
                plain(path, start, rows[: len(rows) // 2] if last else rows)
                if last:
                    os.kill(os.getpid(), signal.SIGKILL)

            vector_cache.write_rows = write
    """)
