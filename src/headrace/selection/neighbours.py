"""The neighbour graph of a table: for each row its nearest rows by cosine, in mapped files.

``CACHE/neighbours-FINGERPRINT/`` holds ``indices.npy`` and ``similarities.npy``.  The rows are cut
into index blocks and query chunks that do not depend on the number of ranks.  The ranks share out
the pairs of a block and a chunk; each pair leaves a file with a hash in ``parts/``, so that a
process that is killed loses the pair in hand.  The parts of a chunk are merged by similarity and
then tie number.  FAISS only proposes neighbours: similarities are computed again one by one, so
they are equal for equal rows, and for ``(i, j)`` and ``(j, i)``.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from headrace.encoding.store import writing_problems
from headrace.errors import Problem, SelectionError, UserError
from headrace.selection.graph_files import GraphFiles
from headrace.selection.indexes import IndexSettings, build, device_of, load_faiss, on_device
from headrace.selection.indexes import threads as faiss_threads
from headrace.selection.ranks import Ranks
from headrace.selection.rows import Rows
from headrace.selection.vectors import Table

CHUNK = 1 << 14
"""Rows whose neighbours are looked for in one block before anything is written."""
_BATCH = 1024
"""Queries that FAISS gets at once."""
_COMPARED_BYTES = 1 << 23
"""fp32 bytes of the neighbours whose similarities are computed at once."""
_SAMPLE = 256
"""Rows on which recall is estimated."""
_EQUAL = 1e-6
"""Similarities that differ by less count as equal in the recall."""
_VERSION = 1


@dataclass(frozen=True)
class GraphFacts:
    """How a graph was made, and how good it is."""

    index: str
    neighbours: int
    rows: int
    recall: float
    """Share of the true neighbours that were found, over 256 rows drawn from a fixed seed."""
    device: str
    """Where FAISS ran: ``cpu`` or ``cuda``."""
    seconds: float


@dataclass(frozen=True)
class NeighbourGraph:
    """The nearest rows of each row, itself left out."""

    indices: NDArray[np.int32]
    """``[rows, m]``: row numbers by falling similarity, of equals the smaller tie number first;
    -1 where an approximate index found no more."""
    similarities: NDArray[np.float32]
    """``[rows, m]``: cosines; 0 where there is no neighbour."""
    facts: GraphFacts
    fingerprint: str
    """32 hexadecimal digits over the vectors, the ties and the settings."""


def neighbour_graph(
    vectors: Table,
    settings: IndexSettings | None = None,
    *,
    ties: NDArray[np.int64] | None = None,
    names: Callable[[int], str] = lambda row: f"row {row}",
    cache: Path | str | None = None,
    fingerprint: str | None = None,
    ranks: Ranks | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> NeighbourGraph:
    """Open the graph of a table, and compute what is missing.

    The graph is the same on any number of ranks.  Beside the vectors each rank needs memory for
    one index block (``4 d`` bytes a row, and what the index adds to it) and some 100 MiB.

    Args:
        vectors: ``[rows, d]``, the whole table on every rank; need not be normalised.
        settings: how neighbours are looked for.
        ties: ``[rows]`` the place of each row's id among all ids.  Row numbers if not given.
        names: what to call row ``i`` in messages.
        cache: folder that all ranks see; without one the graph is kept in memory, and there
            must be one rank only.
        fingerprint: of the vectors; hashed from their bytes if not given.
        ranks: who shares the work.
        progress: is told what goes on.

    Raises:
        MissingExtraError: without FAISS.
        SelectionError: with all that is wrong with settings and vectors, or what cannot be written.
    """
    load_faiss()
    settings, ranks = settings or IndexSettings(), ranks or Ranks()
    problems = settings.problems()
    if vectors.ndim != 2 or len(vectors) < 2 or len(vectors) > np.iinfo(np.int32).max:
        found, remedy = f"{list(vectors.shape)}", "Give a table of 2 to 2**31 - 1 rows"
        problems.append(Problem("no neighbours to look for", "vectors", found, remedy))
    if problems:
        raise SelectionError(problems)
    rows = Rows(vectors, ties=ties)
    problems = rows.problems(names)
    if problems:
        raise SelectionError(problems)
    settings = settings.for_rows(len(vectors))
    fingerprint = _fingerprint(rows, settings, fingerprint or _hash_of_vectors(vectors))
    if cache is not None:
        folder = Path(cache).expanduser() / f"neighbours-{fingerprint}"
        return _Work(rows, settings, folder, fingerprint, ranks, progress).run()
    if ranks.size > 1:
        remedy = "Give a folder that all ranks see"
        raise SelectionError(Problem("ranks share a graph in files", "cache", None, remedy))
    with tempfile.TemporaryDirectory() as temporary:
        work = _Work(rows, settings, Path(temporary), fingerprint, ranks, progress)
        graph = work.run()
        indices, similarities = np.array(graph.indices), np.array(graph.similarities)
        return NeighbourGraph(indices, similarities, graph.facts, fingerprint)


def unit_rows(rows: Rows, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
    """``[numbers, d]`` fp32: some rows with norm 1; equal rows are equal."""
    unit = rows.matrix[numbers].astype(np.float32)
    unit *= rows.inverse_norms[numbers, None].astype(np.float32)
    return np.ascontiguousarray(unit)


def similarities_of(
    rows: Rows, queries: NDArray[np.int64], others: NDArray[np.int64]
) -> NDArray[np.float32]:
    """``[queries, k]``: cosines of each query with its ``[queries, k]`` others; 0 with row -1."""
    found = np.zeros(others.shape, np.float32)
    step = max(1, _COMPARED_BYTES // (4 * rows.dimensions * max(1, others.shape[1])))
    for start in range(0, len(queries), step):
        part = slice(start, start + step)
        left = unit_rows(rows, queries[part])[:, None]
        some = np.maximum(others[part], 0)
        right = unit_rows(rows, some.ravel()).reshape(*some.shape, -1)
        right *= left
        # summed in an order that does not depend on where the rows stand
        found[part] = np.add.reduce(right, axis=-1)
    np.clip(found, -1, 1, out=found)
    found[others < 0] = 0
    return found


def best_first(
    similarities: NDArray[np.float32],
    others: NDArray[np.int64],
    ties: NDArray[np.int64],
    count: int,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The ``count`` most similar of each row's others, of equals those with the smaller ties."""
    absent = others < 0
    order = np.lexsort((ties[others], np.where(absent, np.inf, -similarities)), axis=-1)
    order = order[:, :count]
    return np.take_along_axis(others, order, 1), np.take_along_axis(similarities, order, 1)


@dataclass
class _Work:
    """One call of :func:`neighbour_graph`."""

    rows: Rows
    settings: IndexSettings
    folder: Path
    fingerprint: str
    ranks: Ranks
    progress: Callable[[str], None]

    def __post_init__(self) -> None:
        total = len(self.rows)
        self.blocks = _cut(total, self.settings.block)
        self.chunks = _cut(total, CHUNK)
        self.files = GraphFiles(self.folder, (total, self.settings.neighbours))
        self.index: tuple[int, Any] | None = None

    def run(self) -> NeighbourGraph:
        """The graph, of which only what is missing is made."""
        began = perf_counter()
        self._on_main(self.files.allocate)
        missing = self._missing(
            len(self.chunks), lambda chunk: self.files.has_chunk(chunk, *self.chunks[chunk])
        )
        if len(missing) or self.files.read_report() is None:
            self._on_main(self.files.begin)
            self._make(missing)
            self._on_main(lambda: self._finish(began))
        report = self.files.read_report()
        assert report is not None
        return NeighbourGraph(
            self.files.array("indices"),
            self.files.array("similarities"),
            GraphFacts(**report["facts"]),
            self.fingerprint,
        )

    def _make(self, chunks: NDArray[np.int64]) -> None:
        pairs = np.array(
            [(block, chunk) for block in range(len(self.blocks)) for chunk in chunks], np.int64
        ).reshape(-1, 2)
        pairs = pairs[self._missing(len(pairs), lambda place: self.files.has_part(*pairs[place]))]
        if self.settings.kind != "flat":
            blocks = np.unique(pairs[:, 0])[self.ranks.rank :: self.ranks.size]
            self._jointly(lambda: self._build_all(blocks))
        self._jointly(lambda: self._search_all(pairs[_share(len(pairs), self.ranks)]))
        self._jointly(lambda: self._merge_all(chunks[_share(len(chunks), self.ranks)]))

    def _build_all(self, blocks: NDArray[np.int64]) -> None:
        for block in blocks.tolist():
            self.progress(f"index {block + 1} of {len(self.blocks)}")
            self._index_of(block)

    def _search_all(self, pairs: NDArray[np.int64]) -> None:
        for done, (block, chunk) in enumerate(pairs.tolist()):
            self.progress(f"neighbours {done / len(pairs):.0%}")
            if self.index is None or self.index[0] != block:
                self.index = None  # two at once need twice the memory
                self.index = block, on_device(self._index_of(block), self.settings.kind)
            self._search(self.index[1], block, chunk)
        self.index = None

    def _search(self, index: Any, block: int, chunk: int) -> None:
        queries = np.arange(*self.chunks[chunk])
        low, high = self.blocks[block]
        fetched = min(self.settings.fetched, high - low)
        kept = self.settings.neighbours
        indices = np.full((len(queries), kept), -1, np.int64)
        similarities = np.zeros((len(queries), kept), np.float32)
        for start in range(0, len(queries), _BATCH):
            part = queries[start : start + _BATCH]
            with faiss_threads():
                _, found = index.search(unit_rows(self.rows, part), fetched)
            found = np.where(found < 0, -1, found + low)
            found[found == part[:, None]] = -1
            exact = similarities_of(self.rows, part, found)
            found, exact = best_first(exact, found, self.rows.ties, kept)
            place = np.s_[start : start + len(part), : found.shape[1]]
            indices[place], similarities[place] = found, exact
        self.files.write_part(block, chunk, indices.astype(np.int32), similarities)

    def _merge_all(self, chunks: NDArray[np.int64]) -> None:
        for chunk in chunks.tolist():
            parts = [self.files.read_part(block, chunk) for block in range(len(self.blocks))]
            indices = np.concatenate([part[0] for part in parts], 1).astype(np.int64)
            similarities = np.concatenate([part[1] for part in parts], 1)
            indices, similarities = best_first(
                similarities, indices, self.rows.ties, self.settings.neighbours
            )
            start = self.chunks[chunk][0]
            self.files.write_chunk(chunk, start, indices.astype(np.int32), similarities)

    def _finish(self, began: float) -> None:
        self.progress("recall")
        facts = GraphFacts(
            index=self.settings.kind,
            neighbours=self.settings.neighbours,
            rows=len(self.rows),
            recall=self._recall(),
            device=device_of(self.settings.kind),
            seconds=round(perf_counter() - began, 3),
        )
        self.files.write_report({"settings": asdict(self.settings), "facts": asdict(facts)})

    def _recall(self) -> float:
        """Share of the neighbours that are as near as the true ones, on a sample of rows."""
        total, kept = len(self.rows), self.settings.neighbours
        sample = np.sort(np.random.default_rng(0).permutation(total)[:_SAMPLE])
        queries = unit_rows(self.rows, sample)
        best = np.full((len(sample), 0), -1.0, np.float32)
        for start, stop in self.chunks:
            numbers = np.arange(start, stop)
            scores = queries @ unit_rows(self.rows, numbers).T
            scores[sample[:, None] == numbers] = -2
            best = np.concatenate([best, scores], 1)
            if best.shape[1] > kept:
                best = -np.partition(-best, kept - 1, axis=1)[:, :kept]
        found = self.files.array("similarities")[sample]
        found = np.where(self.files.array("indices")[sample] < 0, -2, found)
        return float((found >= best.min(1, keepdims=True) - _EQUAL).mean())

    def _index_of(self, block: int) -> Any:
        """The index of a block: built, or read where it was built before."""
        low, high = self.blocks[block]

        def make() -> Any:
            return build(
                self.settings, high - low, lambda numbers: unit_rows(self.rows, numbers + low)
            )

        if self.settings.kind == "flat":
            return make()
        faiss = load_faiss()
        made = self.files.index(block, lambda: faiss.serialize_index(make()).tobytes())
        return faiss.deserialize_index(np.frombuffer(made, np.uint8))

    def _missing(self, count: int, has: Callable[[int], bool]) -> NDArray[np.int64]:
        """Those of ``count`` pieces of work that are not done; the ranks share out the look."""
        mine = range(count)[_share(count, self.ranks)]
        return self.ranks.gather(np.array([place for place in mine if not has(place)], np.int64))

    def _on_main(self, work: Callable[[], None]) -> None:
        self._jointly(work if self.ranks.rank == 0 else lambda: None)

    def _jointly(self, work: Callable[[], None]) -> None:
        """Do this rank's work; what goes wrong on one rank is raised on all."""
        mine: tuple[Problem, ...] = ()
        try:
            with writing_problems(self.folder):
                work()
        except UserError as error:
            mine = error.problems
        problems = self.ranks.joint(mine)
        if problems:
            raise SelectionError(problems)


def _cut(total: int, largest: int) -> list[tuple[int, int]]:
    """Bounds of the fewest parts of at most ``largest`` rows, all of about the same size."""
    count = -(-total // largest)
    return [(total * part // count, total * (part + 1) // count) for part in range(count)]


def _share(count: int, ranks: Ranks) -> slice:
    """The pieces of work of this rank."""
    return slice(count * ranks.rank // ranks.size, count * (ranks.rank + 1) // ranks.size)


def _fingerprint(rows: Rows, settings: IndexSettings, vectors: str) -> str:
    ties = xxhash.xxh3_128_hexdigest(np.ascontiguousarray(rows.ties).data)
    parts = [_VERSION, vectors, ties, asdict(settings), CHUNK]
    return xxhash.xxh3_128_hexdigest(json.dumps(parts).encode())


def _hash_of_vectors(vectors: Table) -> str:
    digest = xxhash.xxh3_128(f"{vectors.dtype} {vectors.shape}".encode())
    for start, stop in _cut(len(vectors), CHUNK):
        digest.update(np.ascontiguousarray(vectors[start:stop]).view(np.uint8).data)
    return digest.hexdigest()
