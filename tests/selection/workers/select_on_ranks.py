"""One of several ranks that choose together: holds its part of the rows of a file."""

import json
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch.distributed

from headrace.errors import SelectionError
from headrace.selection import Limits, select
from headrace.selection.ranks import ProcessGroup


def main(folder: Path) -> None:
    torch.distributed.init_process_group("gloo", timeout=timedelta(seconds=120))
    ranks = ProcessGroup()
    data = np.load(folder / "data.npz")
    size = len(data["vectors"])
    # parts of different sizes; the last of three or four ranks has none
    inner = {1: [], 2: [0.2], 3: [0.2, 1.0], 4: [0.2, 0.9, 1.0]}[ranks.size]
    bounds = [0, *(size * np.array(inner)).astype(int), size]
    part = slice(bounds[ranks.rank], bounds[ranks.rank + 1])
    required = data["required"]
    mine = required[(required >= part.start) & (required < part.stop)] - part.start
    results = []
    for case in json.loads((folder / "cases.json").read_text()):
        limits = Limits(**case.pop("limits"))
        broken = case.pop("broken", False)
        vectors = data["vectors"][part].copy()
        if broken and part.start <= 3 < part.stop:
            vectors[3 - part.start] = 0
        try:
            found = select(
                vectors, limits, ties=data["ties"][part], groups=data["groups"][part],
                group_names=("a", "b"),
                costs=None if limits.budget is None else data["costs"][part],
                required=mine if case.pop("require", False) else None,
                names=lambda row: f"row {row + part.start}", ranks=ranks, **case,
            )  # fmt: skip
        except SelectionError as error:
            results.append([str(problem) for problem in error.problems])
            continue
        results.append(
            {
                "rows": found.rows.tolist(),
                "gains": found.gains.tolist(),
                "scores": found.scores.tolist(),
                "objective": found.objective,
                "bound": found.bound,
                "passes": found.passes,
                "knee": found.knee,
                "suggested": found.suggested_trade_off,
            }
        )
    (folder / f"rank-{ranks.rank}-of-{ranks.size}.json").write_text(json.dumps(results))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
