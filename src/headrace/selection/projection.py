"""A map of rows in two dimensions: the first principal components of a sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.selection.measures import unit_rows
from headrace.selection.vectors import Table

_ROWS = 1200
"""Rows of the sample of all."""
_CHOSEN = 400
"""Chosen rows on the map at most."""


@dataclass(frozen=True)
class Map:
    """Some rows in two dimensions."""

    points: NDArray[np.float64]
    """``[points, 2]``, the rows that are not chosen first."""
    others: int
    """How many of them are not chosen."""
    variance: float
    """Share of the variance of the unit rows that the two dimensions hold."""


def project(vectors: Table, chosen: NDArray[np.int64]) -> Map:
    """Place a seeded sample of rows, and one of the chosen rows, along two principal components.

    The components are those of the sample of all rows, so that the chosen ones, which are few, do
    not decide what the map shows.

    Args:
        vectors: ``[rows, d]``, without NaN and zero rows.
        chosen: row numbers.
    """
    random = np.random.default_rng(0)
    rows = np.sort(random.choice(len(vectors), min(_ROWS, len(vectors)), replace=False))
    some = np.sort(random.choice(chosen, min(_CHOSEN, len(chosen)), replace=False))
    sample = unit_rows(vectors, rows).double().numpy()
    mean = sample.mean(0)
    components, variance = principal_components(sample - mean)
    others = rows[~np.isin(rows, chosen)]
    shown = np.concatenate([others, some]).astype(np.int64)
    points = (unit_rows(vectors, shown).double().numpy() - mean) @ components
    return Map(points, len(others), variance)


def principal_components(centred: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """``[d, 2]``: the first two principal components, and their share of the variance.

    Args:
        centred: ``[rows, d]``, each column with mean 0.
    """
    count, dimensions = centred.shape
    wide = dimensions > count  # then the smaller matrix is that of the rows
    gram = centred @ centred.T if wide else centred.T @ centred
    values, columns = np.linalg.eigh(gram)
    first = columns[:, ::-1][:, :2]
    if wide:
        first = centred.T @ first
    components = np.zeros((dimensions, 2))
    lengths = np.linalg.norm(first, axis=0)
    components[:, : first.shape[1]] = first / np.where(lengths > 0, lengths, 1)
    # the sign of a component is arbitrary: its largest entry is positive
    largest = np.abs(components).argmax(0)
    components *= np.where(components[largest, [0, 1]] < 0, -1, 1)
    total = float(values.sum())
    return components, float(values[::-1][:2].sum()) / total if total > 0 else 1.0
