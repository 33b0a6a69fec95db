"""The collectives of a selection: sums, maxima and gathered arrays of a few or of many ranks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
import torch.distributed
from numpy.typing import NDArray

from headrace.errors import HeadraceError, Problem


class Ranks:
    """One process by itself: each collective returns what it is given."""

    rank = 0
    size = 1

    def sum(self, values: NDArray[Any]) -> NDArray[Any]:
        """The element-wise sum over all ranks; integers are exact."""
        return values

    def max(self, values: NDArray[Any]) -> NDArray[Any]:
        """The element-wise maximum over all ranks."""
        return values

    def gather(self, values: NDArray[Any]) -> NDArray[Any]:
        """The arrays of all ranks one after the other; their lengths may differ."""
        return values

    def joint(self, problems: Sequence[Problem]) -> list[Problem]:
        """The problems of all ranks, each once, on every rank."""
        lines = "".join(json.dumps(asdict(problem)) + "\n" for problem in problems)
        gathered = self.gather(np.frombuffer(lines.encode(), np.uint8)).tobytes().decode()
        return list(dict.fromkeys(Problem(**json.loads(line)) for line in gathered.splitlines()))


class ProcessGroup(Ranks):
    """The ranks of the default group of ``torch.distributed``, which must be initialised.

    A collective raises :class:`HeadraceError` when another rank has ended or does not answer
    within the time limit of the group.
    """

    def __init__(self, device: torch.device | None = None) -> None:
        self.rank = torch.distributed.get_rank()
        self.size = torch.distributed.get_world_size()
        self._device = device or torch.device("cpu")

    def sum(self, values: NDArray[Any]) -> NDArray[Any]:
        """The element-wise sum over all ranks; integers are exact."""
        return self._reduce(values, torch.distributed.ReduceOp.SUM)

    def max(self, values: NDArray[Any]) -> NDArray[Any]:
        """The element-wise maximum over all ranks."""
        return self._reduce(values, torch.distributed.ReduceOp.MAX)

    def gather(self, values: NDArray[Any]) -> NDArray[Any]:
        """The arrays of all ranks one after the other; their lengths may differ."""
        lengths = np.zeros(self.size, np.int64)
        lengths[self.rank] = len(values)
        lengths = self.sum(lengths)
        if not lengths.any():
            return values
        row = int(np.prod(values.shape[1:], dtype=np.int64)) * values.dtype.itemsize
        mine = torch.zeros(int(lengths.max()) * row, dtype=torch.uint8)
        flat = np.ascontiguousarray(values).view(np.uint8).reshape(-1)
        mine[: flat.size] = torch.from_numpy(flat.copy())
        mine = mine.to(self._device)
        parts = [torch.empty_like(mine) for _ in range(self.size)]
        with _all_alive():
            torch.distributed.all_gather(parts, mine)
        joined = [
            part.cpu().numpy()[: int(length) * row]
            for part, length in zip(parts, lengths, strict=True)
        ]
        return np.concatenate(joined).view(values.dtype).reshape(-1, *values.shape[1:])

    def _reduce(self, values: NDArray[Any], operation: Any) -> NDArray[Any]:
        # the same type on all ranks, whatever NumPy made of an empty part
        kind = np.int64 if values.dtype.kind in "iub" else np.float64
        tensor = torch.from_numpy(np.array(values, dtype=kind)).to(self._device)
        with _all_alive():
            torch.distributed.all_reduce(tensor, op=operation)
        return np.asarray(tensor.cpu().numpy())


@contextmanager
def _all_alive() -> Iterator[None]:
    """Say what it means that a connection broke."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise HeadraceError(
            "another process of the selection has ended, or cannot be reached. What it said is "
            "with its own output; start all of them again to go on from the last checkpoint "
            f"({reason})"
        ) from error
