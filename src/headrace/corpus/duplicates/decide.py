"""Last stage: which document of each set is kept, part by part."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from headrace.corpus.duplicates.clusters import joined
from headrace.corpus.duplicates.layout import (
    Layout,
    Numbers,
    Stage,
    edges_path,
    load_layout,
    write_array,
    write_arrays,
    write_table,
)

EXACT_RULE = "exact duplicate"
NEAR_RULE = "near duplicate"
SEMANTIC_RULE = "semantic duplicate"
Kind = Literal["exact", "near", "semantic"]
"""What holds a set together; of several the loosest."""
_KINDS: tuple[Kind, ...] = ("exact", "near", "semantic")


@dataclass(frozen=True, slots=True)
class Decision:
    """About a document that has duplicates."""

    cluster: str
    """Id of the set: that of its first document, in the order of the recipe."""
    kind: Kind
    """Of the set."""
    kept: str
    """Id of the document that is kept."""
    rule: str | None
    """Why this one is left out; None: it is the one that is kept."""


def join(folder: Path) -> None:
    """Write the sets of exact and near-duplicates of all partitions."""
    layout = load_layout(folder)
    done = edges_path(folder, "copies")
    if not done.exists():
        kinds = ("pairs", "checked") if layout.reads_texts else ("pairs",)
        pieces = (
            np.load(layout.path(kind, partition, ".npz"))["edges"]
            for kind in kinds
            for partition in range(layout.partitions)
        )
        write_array(done, joined(pieces))


def clusters_of(folder: Path, stage: Stage) -> int:
    """How many sets a stage has found."""
    return len(np.unique(np.load(edges_path(folder, stage), mmap_mode="r")[:, 0]))


def members(folder: Path, stage: Stage, number: int) -> None:
    """Write id and length of those documents of a part that are in a set of a stage."""
    layout = load_layout(folder)
    done = layout.path(f"{stage}-members", number, ".npz")
    if done.exists():
        return
    numbers = np.unique(np.load(edges_path(folder, stage), mmap_mode="r"))
    low, high = np.searchsorted(numbers, layout.firsts[number : number + 2])
    own = numbers[low:high]
    rows = own - layout.firsts[number]
    table = pq.read_table(layout.parts[number].file, columns=["id", "characters"])
    chosen = table.take(pa.array(rows))
    ids = np.frombuffer(bytes.fromhex("".join(chosen["id"].to_pylist())), ">u8").reshape(-1, 2)
    hashes = np.load(layout.path("hashes", number), mmap_mode="r")[rows]
    characters = np.asarray(chosen["characters"], np.int64)
    write_arrays(done, numbers=own, ids=ids.astype(np.uint64), hashes=hashes, characters=characters)


def decide(folder: Path, stage: Stage) -> dict[str, int]:
    """Choose the document of each set that is kept, and write what becomes of the others.

    A document that copies of it had left out before is left out by that rule still.

    Returns:
        Documents left out, by rule.
    """
    layout = load_layout(folder)
    if not layout.parts:
        return {EXACT_RULE: 0, NEAR_RULE: 0}
    paths = [layout.path(f"{stage}-members", n, ".npz") for n in range(len(layout.parts))]
    pieces = [np.load(path) for path in paths]
    table = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0].files}
    numbers, hashes = table["numbers"], table["hashes"]
    roots = _roots(numbers, np.load(edges_path(folder, stage)))
    kept = _kept(layout, roots, numbers, table["characters"])
    # of exact and near-duplicates alone: all that this stage has, but for sets that mean the same
    copies, stands = roots, kept
    if stage != "copies":
        copies = _roots(numbers, np.load(edges_path(folder, "copies")))
        stands = _kept(layout, copies, numbers, table["characters"])
    exact = (hashes == hashes[stands]).all(-1) & layout.settings.exact
    semantic = stands == np.arange(len(numbers))
    rules = np.where(semantic, SEMANTIC_RULE, np.where(exact, EXACT_RULE, NEAR_RULE))
    out = kept != np.arange(len(numbers))
    kinds = np.zeros(len(numbers), np.int64)
    differs = (hashes != hashes[roots]).any(-1) | (not layout.settings.exact)
    np.maximum.at(kinds, roots, np.where(copies != roots, 2, np.where(differs, 1, 0)))
    ends = np.searchsorted(numbers, layout.firsts)
    for part in range(len(layout.parts)):
        own = slice(ends[part], ends[part + 1])
        rows = pa.table(
            {
                "row": numbers[own] - layout.firsts[part],
                "cluster": _hexadecimal(table["ids"][roots[own]]),
                "kind": [_KINDS[kind] for kind in kinds[roots[own]].tolist()],
                "kept": _hexadecimal(table["ids"][kept[own]]),
                "rule": pa.array(rules[own].tolist(), pa.string(), mask=~out[own]),
            }
        )
        write_table(layout.path(f"{stage}-decisions", part, ".parquet"), rows)
    names = (EXACT_RULE, NEAR_RULE, *([SEMANTIC_RULE] if stage == "all" else []))
    return {name: int((out & (rules == name)).sum()) for name in names}


def read_decisions(folder: Path, number: int) -> dict[int, Decision]:
    """What becomes of the documents of one part that have duplicates, by row.

    Raises:
        FileNotFoundError: if the search in the folder has not come to its end.
    """
    layout = load_layout(folder)
    path = layout.path(f"{layout.last_stage}-decisions", number, ".parquet")
    table = pq.read_table(path)
    columns = [table[name].to_pylist() for name in ("row", "cluster", "kind", "kept", "rule")]
    return {row: Decision(*rest) for row, *rest in zip(*columns, strict=True)}


def _roots(numbers: Numbers, edges: Numbers) -> Numbers:
    """For each member the place of the first of its set."""
    roots = np.arange(len(numbers))
    roots[np.searchsorted(numbers, edges[:, 1])] = np.searchsorted(numbers, edges[:, 0])
    return roots


def _kept(
    layout: Layout, roots: Numbers, numbers: Numbers, characters: NDArray[np.int64]
) -> Numbers:
    """For each member the place of the one that its set keeps."""
    keep = layout.settings.keep
    if keep == "first":
        return roots
    if keep == "longest":
        rank = -characters
    else:
        ranks = {source: place for place, source in enumerate(keep)}
        by_part = np.array([ranks.get(part.source, len(ranks)) for part in layout.parts])
        rank = by_part[layout.part_of(numbers)]
    order = np.lexsort([numbers, rank, roots])
    first = np.concatenate([[True], roots[order][1:] != roots[order][:-1]])[: len(order)]
    best = np.empty_like(roots)
    best[roots[order][first]] = order[first]
    return best[roots]


def _hexadecimal(ids: NDArray[np.uint64]) -> list[str]:
    return [f"{high:016x}{low:016x}" for high, low in ids.tolist()]
