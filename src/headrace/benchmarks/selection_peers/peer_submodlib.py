"""submodlib: its graph cut on a ready matrix of cosines, in fp32, with its lazy greedy."""

from __future__ import annotations

import contextlib
import os
from typing import Any

import numpy as np
from submodlib import GraphCutFunction  # type: ignore[import-not-found]


def choose(
    vectors: np.ndarray[Any, Any], rows: int, trade_off: float, task: dict[str, Any]
) -> tuple[list[int], dict[str, Any]]:
    """Its lambda counts each pair twice and each row with itself: half of ``2 + trade_off``."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cut = GraphCutFunction(
        n=len(unit), mode="dense", lambdaVal=1 + trade_off / 2, ggsijs=unit @ unit.T
    )
    with _silence():
        found = cut.maximize(
            budget=rows,
            optimizer="LazyGreedy",
            stopIfZeroGain=False,
            stopIfNegativeGain=False,
            verbose=False,
        )
    return [row for row, _ in found], {}


@contextlib.contextmanager
def _silence() -> Any:
    """Its bar of progress is printed in any case, from C++."""
    kept = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(nowhere)
        os.close(kept)
