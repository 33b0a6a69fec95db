"""Headrace: a method of ``headrace.selection.select``, by itself or as one of several ranks."""

from __future__ import annotations

import atexit
import os
from datetime import timedelta
from typing import Any

import numpy as np
import torch

from headrace.selection import Limits, select
from headrace.selection.neighbours import neighbour_graph
from headrace.selection.ranks import ProcessGroup, Ranks


class CountedGroup(ProcessGroup):
    """Counts what this rank gives to collectives."""

    sent = 0

    def gather(self, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The arrays of all ranks one after the other."""
        self.sent += values.nbytes
        return super().gather(values)

    def _reduce(self, values: np.ndarray[Any, Any], operation: Any) -> np.ndarray[Any, Any]:
        self.sent += 8 * values.size
        return super()._reduce(values, operation)


def choose(
    vectors: np.ndarray[Any, Any], rows: int, trade_off: float, task: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """The chosen rows of all ranks, and the certificate."""
    torch.set_num_threads(task["threads"])
    ranks: Ranks = Ranks()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group("gloo", timeout=timedelta(seconds=120))
            atexit.register(torch.distributed.destroy_process_group)
        ranks = CountedGroup()
        ranks.sum(np.zeros(1))  # all begin together
    limits = Limits(rows=rows)
    if task["objective"] == "facility_location":
        graph = neighbour_graph(vectors)
        found = select(vectors, limits, objective="facility_location", graph=graph, ranks=ranks)
    else:
        found = select(
            vectors,
            limits,
            method=task["method"],
            trade_off=trade_off,
            seed=task["seed"],
            ranks=ranks,
        )
    facts = {"gap": found.gap} if task["method"] in ("frank_wolfe", "exact_greedy") else {}
    return found.rows, {**facts, "sent_bytes": getattr(ranks, "sent", 0)}
