"""FAISS indexes of unit rows: which kind, how it is built, on which device it answers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from headrace.errors import MissingExtraError, Problem

IndexKind = Literal["auto", "flat", "ivf", "hnsw", "nn_descent"]
INDEX_KINDS: tuple[IndexKind, ...] = ("auto", "flat", "ivf", "hnsw", "nn_descent")
LARGEST_FLAT = 50_000
"""Rows up to which ``auto`` is exact."""
MARGIN = 16
"""Rows that are fetched beyond those that are kept: fp32 does not order near-equals surely."""
_SMALLEST_INDEXED = 1024
"""Blocks of fewer rows are searched exactly, whatever the kind."""
_ADDED_AT_ONCE = 1 << 16
_TRAINED_ON = 40
"""Rows for each list that the k-means of an inverted file reads; FAISS wants 39."""
_MOST_ON_GPU = 2048
"""Results of a query, and lists it looks into, that the GPU kernels of FAISS can give."""


@dataclass(frozen=True)
class IndexSettings:
    """How neighbours are looked for; None stands for what suits the number of rows."""

    kind: IndexKind = "auto"
    """``flat`` is exact; ``auto`` takes it up to 50,000 rows, and ``ivf`` beyond."""
    neighbours: int = 32
    """Rows that are kept for each row."""
    block: int = 1 << 18
    """Rows of an index at most: ``4 d`` bytes each are in memory at once."""
    lists: int | None = None
    """``ivf``: lists of each block; 4 times the root of its rows if not given."""
    probes: int = 32
    """``ivf``: lists of each block that a query looks into."""
    links: int = 32
    """``hnsw``: links of a row (``M``); ``nn_descent`` starts from twice as many (``K``)."""
    width: int = 128
    """``hnsw``, ``nn_descent``: candidates that a search keeps (``ef``, ``search_L``)."""

    def for_rows(self, rows: int) -> IndexSettings:
        """The settings with which neighbours among so many rows are looked for."""
        kind = self.kind
        if kind == "auto":
            kind = "flat" if rows <= LARGEST_FLAT else "ivf"
        return replace(self, kind=kind, neighbours=min(self.neighbours, max(1, rows - 1)))

    @property
    def fetched(self) -> int:
        """Results of a query: the row itself, its neighbours and a margin."""
        return self.neighbours + 1 + MARGIN

    def problems(self) -> list[Problem]:
        """All that is wrong with the settings."""
        problems = []
        if self.kind not in INDEX_KINDS:
            problems.append(
                Problem("no such index", "index", self.kind, f"One of {', '.join(INDEX_KINDS)}")
            )
        for name in ("neighbours", "block", "lists", "probes", "links", "width"):
            value = getattr(self, name)
            if value is not None and value < 1:
                problems.append(Problem("out of range", name, f"{value:,}", "Give 1 or more"))
        if not problems and self.kind in ("flat", "ivf", "auto") and gpus():
            for name, value in (("neighbours", self.fetched), ("probes", self.probes)):
                if value > _MOST_ON_GPU:
                    most = _MOST_ON_GPU - (MARGIN + 1 if name == "neighbours" else 0)
                    problems.append(
                        Problem(
                            "more than FAISS can find on a GPU",
                            name,
                            f"{getattr(self, name):,}",
                            f"Give {most:,} at most, or hide the GPUs: CUDA_VISIBLE_DEVICES=''",
                        )
                    )
        return problems


def load_faiss(purpose: str = "a neighbour graph") -> Any:
    """The module ``faiss``; ``purpose`` is what needs it.

    Raises:
        MissingExtraError: if neither the CPU's nor the GPU's package is installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise MissingExtraError("faiss", "faiss", purpose) from error
    return faiss


def gpus() -> int:
    """GPUs that FAISS can use: 0 with the package for the CPU."""
    return int(load_faiss().get_num_gpus())


def device_of(kind: IndexKind) -> str:
    """Where an index of a kind answers: ``cuda`` or ``cpu``."""
    return "cuda" if kind in ("flat", "ivf") and gpus() else "cpu"


def build(
    settings: IndexSettings, rows: int, unit: Callable[[NDArray[np.int64]], NDArray[np.float32]]
) -> Any:
    """An index, in the memory of the CPU, of ``rows`` rows.

    The same rows and settings give the same index: k-means has a fixed seed, and graphs are built
    by one thread, as with several they come out differently each time.

    Args:
        settings: of :meth:`IndexSettings.for_rows`.
        rows: how many.
        unit: gives the unit rows ``[numbers, d]`` of these numbers.
    """
    faiss = load_faiss()
    dimensions = unit(np.arange(1)).shape[1]
    kind = settings.kind if rows >= _SMALLEST_INDEXED else "flat"
    if kind == "nn_descent":
        index = faiss.IndexNNDescentFlat(dimensions, 2 * settings.links, faiss.METRIC_L2)
        index.nndescent.search_L = max(settings.width, settings.fetched)
        with threads(1):
            index.add(unit(np.arange(rows)))  # takes all rows at once
        return index
    if kind == "hnsw":
        index = faiss.IndexHNSWFlat(dimensions, settings.links, faiss.METRIC_L2)
        index.hnsw.efConstruction = settings.width
        index.hnsw.efSearch = max(settings.width, settings.fetched)
    elif kind == "ivf":
        lists = min(settings.lists or round(4 * rows**0.5), rows // _TRAINED_ON)
        coarse = faiss.IndexFlatIP(dimensions)
        index = faiss.IndexIVFFlat(coarse, dimensions, lists, faiss.METRIC_INNER_PRODUCT)
        step = rows // (_TRAINED_ON * lists)
        with threads():
            index.train(unit(step * np.arange(_TRAINED_ON * lists)))
        index.nprobe = min(settings.probes, lists)
    else:
        index = faiss.IndexFlatIP(dimensions)
    with threads(1 if kind == "hnsw" else None):
        for start in range(0, rows, _ADDED_AT_ONCE):
            index.add(unit(np.arange(start, min(start + _ADDED_AT_ONCE, rows))))
    return index


def on_device(index: Any, kind: IndexKind) -> Any:
    """The index where it answers: a copy on this rank's GPU if there is one for it."""
    if device_of(kind) == "cpu":
        return index
    faiss = load_faiss()
    number = int(os.environ.get("LOCAL_RANK", "0")) % gpus()
    return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), number, index)


@contextmanager
def threads(count: int | None = None) -> Iterator[None]:
    """Let FAISS use so many threads: if not given ``OMP_NUM_THREADS``, or this rank's share."""
    faiss = load_faiss()
    before = faiss.omp_get_max_threads()
    if count is None and "OMP_NUM_THREADS" in os.environ:
        count = before
    if count is None:
        ranks_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        count = max(1, len(os.sched_getaffinity(0)) // ranks_here)
    faiss.omp_set_num_threads(count)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
