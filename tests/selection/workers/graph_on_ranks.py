"""One of several ranks that make a neighbour graph together, and choose on it."""

import json
import os
import resource
import signal
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch.distributed

from headrace.errors import SelectionError
from headrace.selection import IndexSettings, Limits, graph_files, neighbour_graph, select
from headrace.selection.ranks import ProcessGroup


def main(folder: Path) -> None:
    torch.distributed.init_process_group("gloo", timeout=timedelta(seconds=120))
    ranks = ProcessGroup()
    data = np.load(folder / "data.npz")
    vectors, size = data["vectors"], len(data["vectors"])
    # parts of different sizes; the last of three or four ranks has none
    inner = {1: [], 2: [0.2], 3: [0.2, 1.0], 4: [0.2, 0.9, 1.0]}[ranks.size]
    bounds = [0, *(size * np.array(inner)).astype(int), size]
    part = slice(bounds[ranks.rank], bounds[ranks.rank + 1])
    required = data["required"]
    mine = required[(required >= part.start) & (required < part.stop)] - part.start
    cache = folder / f"cache-{ranks.size}"
    if "kill" in sys.argv:
        _die_in(int(sys.argv[sys.argv.index("kill") + 1]))
    results = []
    for kind in ("flat", "ivf"):
        graph = neighbour_graph(
            vectors, IndexSettings(kind, neighbours=8, block=1300), ties=data["ties"],
            cache=cache, ranks=ranks,
        )  # fmt: skip
        results.append([graph.indices.tolist(), graph.similarities.tolist(), graph.facts.recall])
    for case in json.loads((folder / "cases.json").read_text()):
        limits = Limits(**case.pop("limits"))
        found = select(
            vectors[part], limits, graph=graph, ties=data["ties"][part],
            groups=data["groups"][part], group_names=("a", "b"), costs=data["costs"][part],
            required=mine if case.pop("require", False) else None, ranks=ranks, **case,
        )  # fmt: skip
        results.append(
            [
                found.rows.tolist(), found.gains.tolist(), found.scores.tolist(),
                found.objective, found.bound, found.dense_objective,
            ]
        )  # fmt: skip
    # what goes wrong on one rank is raised on all
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    if ranks.rank == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limit[1]))
    try:
        neighbour_graph(vectors, IndexSettings(neighbours=9), cache=cache, ranks=ranks)
    except SelectionError as error:
        results.append([problem.what for problem in error.problems])
    resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    (folder / f"rank-{ranks.rank}-of-{ranks.size}.json").write_text(json.dumps(results))
    torch.distributed.destroy_process_group()


def _die_in(part: int) -> None:
    plain = graph_files.GraphFiles.write_part
    written = 0

    def write_part(files, block, chunk, *arrays):
        nonlocal written
        written += 1
        if written == part:
            os.kill(os.getpid(), signal.SIGKILL)
        plain(files, block, chunk, *arrays)

    graph_files.GraphFiles.write_part = write_part


if __name__ == "__main__":
    main(Path(sys.argv[1]))
