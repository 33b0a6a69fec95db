"""The method of the paper: the matrix of all cosines in fp32, and the greedy over its rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def choose(
    vectors: np.ndarray[Any, Any], rows: int, trade_off: float, task: dict[str, Any]
) -> tuple[list[int], dict[str, Any]]:
    """Algorithm 1 with the updates of equation (16): a row of the matrix is read at each step."""
    torch.set_num_threads(task["threads"])
    unit = torch.from_numpy(vectors).float()
    unit = unit / unit.norm(dim=1, keepdim=True)
    matrix = unit @ unit.T
    gains = matrix.sum(1) - 1
    chosen = []
    for _ in range(rows):
        row = int(gains.argmax())
        chosen.append(row)
        gains.sub_(matrix[row], alpha=2 + trade_off)
        gains[row] = -torch.inf
    return chosen, {}
