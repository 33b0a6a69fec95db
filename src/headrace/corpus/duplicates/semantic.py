"""Stages after all others: documents that mean the same, by the vectors that an encoder gives them.

Only what the earlier stages keep takes part, and only documents of one language are compared: a
translation is no duplicate.  FAISS proposes the neighbours of each document, and pairs whose cosine
is at least the threshold are joined.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from headrace.corpus.duplicates.clusters import star_edges
from headrace.corpus.duplicates.layout import (
    Layout,
    Numbers,
    edges_path,
    load_layout,
    write_array,
    write_arrays,
)
from headrace.corpus.duplicates.settings import SemanticSettings

if TYPE_CHECKING:
    from headrace.selection.encoder import Encoder

NEIGHBOURS = 32
"""Documents that each one is compared with: the nearest of its language."""


@lru_cache(maxsize=1)
def encoder_of(settings: SemanticSettings) -> Encoder:
    """The encoder, loaded once a process.

    Raises:
        MissingExtraError: without FAISS.
        EncodingError: if there is no such encoder, or it cannot read so many tokens.
    """
    from headrace.selection.encoder import load_encoder
    from headrace.selection.indexes import load_faiss

    load_faiss("finding semantic duplicates")
    return load_encoder(settings.model, pooling=settings.pooling, max_length=settings.max_length)


def embed(folder: Path, number: int) -> None:
    """Write the vectors of those documents of a part that the earlier stages keep.

    ``vectors-N.npy`` is float16 ``[documents, d]``; ``embedded-N.npz`` has their numbers and
    languages.
    """
    import torch

    layout = load_layout(folder)
    done = layout.path("embedded", number, ".npz")
    if done.exists():
        return
    settings = layout.settings.semantic
    assert settings is not None
    rows, languages = _kept(layout, number)
    encoder = encoder_of(settings)
    column = pq.read_table(layout.parts[number].file, columns=["text"])["text"]
    texts = [text.as_py().decode("utf-8", "replace") for text in column.take(pa.array(rows))]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # with another number sums may differ in their last digits
    try:
        vectors, _ = encoder.embed(texts)
    finally:
        torch.set_num_threads(threads)
    write_array(layout.path("vectors", number), vectors)
    numbers = rows + int(layout.firsts[number])
    write_arrays(done, numbers=numbers, languages=np.array(languages, np.str_))


def relate(folder: Path) -> int:
    """Join what means the same to the edges of the earlier stages, and write all edges.

    Returns:
        Pairs of documents that mean the same.
    """
    layout = load_layout(folder)
    done, counts = edges_path(folder, "all"), folder / "related.npy"
    if not done.exists():
        found = [_related(layout, language) for language in _languages(layout)]
        pairs = np.concatenate([np.empty((0, 2), np.int64), *found])
        write_array(counts, np.array(len(pairs)))
        write_array(
            done, star_edges(np.concatenate([np.load(edges_path(folder, "copies")), pairs]))
        )
    return int(np.load(counts))


def _kept(layout: Layout, number: int) -> tuple[Numbers, list[str]]:
    """Rows of a part that are kept so far, with their languages."""
    table = pq.read_table(layout.parts[number].file, columns=["outcome", "language"])
    kept = np.asarray(pc.fill_null(pc.equal(table["outcome"], "kept"), False)).copy()
    decisions = pq.read_table(layout.path("copies-decisions", number, ".parquet"))
    left_out = decisions.filter(pc.is_valid(decisions["rule"]))
    kept[np.asarray(left_out["row"], np.int64)] = False
    rows = np.flatnonzero(kept).astype(np.int64)
    return rows, table["language"].take(pa.array(rows)).to_pylist()


def _languages(layout: Layout) -> list[str]:
    found: set[str] = set()
    for number in range(len(layout.parts)):
        with np.load(layout.path("embedded", number, ".npz")) as file:
            found.update(file["languages"].tolist())
    return sorted(found)


def _related(layout: Layout, language: str) -> Numbers:
    """Pairs ``[pairs, 2]`` of documents of a language that mean the same."""
    from headrace.selection.indexes import IndexSettings
    from headrace.selection.neighbours import neighbour_graph

    settings = layout.settings.semantic
    assert settings is not None
    numbers, vectors = _table(layout, language)
    if len(numbers) < 2:
        return np.empty((0, 2), np.int64)
    graph = neighbour_graph(
        vectors,
        IndexSettings(neighbours=NEIGHBOURS),
        names=lambda row: f"document {numbers[row]}",
        cache=layout.folder / "neighbours",
    )
    near = (graph.indices >= 0) & (graph.similarities >= settings.threshold)
    left, place = np.nonzero(near)
    pairs = np.sort(np.stack([left, graph.indices[left, place].astype(np.int64)], 1), 1)
    return np.asarray(numbers[np.unique(pairs, axis=0)])


def _table(layout: Layout, language: str) -> tuple[Numbers, NDArray[np.float16]]:
    """Numbers and vectors of the documents of a language, in their order."""
    numbers, vectors = [], []
    for number in range(len(layout.parts)):
        with np.load(layout.path("embedded", number, ".npz")) as file:
            own = np.flatnonzero(file["languages"] == language)
            numbers.append(file["numbers"][own])
        if len(own):
            vectors.append(np.load(layout.path("vectors", number), mmap_mode="r")[own])
    return np.concatenate(numbers), np.concatenate(vectors)
