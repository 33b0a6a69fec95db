"""Bands of a signature: how many, and the keys under which they are looked up."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from headrace.corpus.duplicates.shingles import Hashes, mixed

MISSED_WEIGHT = 0.98
"""What a missed pair counts, against a false candidate: the latter costs one comparison."""
_MOST_BANDS = 64
_STEPS = 2001


def proposed(similarity: NDArray[np.float64] | float, bands: int, rows: int) -> NDArray[np.float64]:
    """Probability that a pair of that similarity has a band in common: ``1 - (1 - s^r)^b``.

    Leskovec, Rajaraman and Ullman, "Mining of massive datasets", section 3.4.
    """
    return np.asarray(1 - (1 - np.asarray(similarity) ** rows) ** bands)


@cache
def bands_and_rows(threshold: float, permutations: int) -> tuple[int, int]:
    """The number of bands, and of values in each, with the smallest weighted error.

    That is ``(1 - w) * (integral of P over [0, t]) + w * (integral of 1 - P over [t, 1])``, with P
    as in :func:`proposed` and w = 0.98 (Zhu, Nargesian, Pu and Miller, "LSH Ensemble", PVLDB 9(12),
    2016, section 4; datasketch has w = 0.5).  No more than 64 bands, each of which costs 24 bytes
    a document on disk.
    """
    s = np.linspace(0, 1, _STEPS)
    below = s < threshold
    best = (np.inf, 1, permutations)
    for rows in range(1, permutations + 1):
        for bands in range(1, min(permutations // rows, _MOST_BANDS) + 1):
            p = proposed(s, bands, rows)
            error = (1 - MISSED_WEIGHT) * p[below].sum() + MISSED_WEIGHT * (1 - p[~below]).sum()
            best = min(best, (float(error), bands, rows))
    return best[1:]


def band_keys(signatures: NDArray[np.uint32], bands: int, rows: int) -> Hashes:
    """``[documents, bands]`` keys, even numbers, from ``[documents, permutations]`` signatures.

    The number of its band goes into a key: equal ones are equal values of one band.
    """
    keys = np.empty((len(signatures), bands), np.uint64)
    for band in range(bands):
        key = np.full(len(signatures), band, np.uint64)
        for column in range(band * rows, (band + 1) * rows):
            key = mixed(key ^ signatures[:, column])
        keys[:, band] = key
    return keys & ~np.uint64(1)


def text_keys(texts: Hashes) -> Hashes:
    """``[documents]`` keys, odd numbers: equal for documents of the same text."""
    return mixed(texts) | np.uint64(1)
