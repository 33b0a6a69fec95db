"""The best rows by a key, exactly, from keys that are known to within an error.

This is the only step of the solvers that looks at all rows, and it needs no sorting: a histogram
of the keys' bits, summed over the ranks, finds the threshold in three rounds; the few rows so near
it that their fp32 keys do not decide are compared by exact keys and, where these are equal, by
the ties of the rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.selection.rows import Rows

_DIGITS = ((21, 11), (10, 11), (0, 10))
"""Lowest bit and number of bits of the digits of a key, highest first."""
_PIECE = 1 << 17
"""Keys that are counted at once."""


@dataclass(frozen=True)
class Top:
    """The answer of :func:`top`."""

    rows: NDArray[np.int64]
    """Rows of this rank that are among the best, ascending."""
    next_key: float
    """Exact key of the best row that is not, if its weight alone kept it out, else -inf."""


def top(
    rows: Rows,
    keys: NDArray[np.float32],
    error: float,
    exact_keys: Callable[[NDArray[np.int64]], NDArray[np.float64]],
    capacity: int,
    *,
    members: NDArray[np.int64] | None = None,
    weights: NDArray[np.int64] | None = None,
    floor: float = -np.inf,
) -> Top:
    """The longest head, within a capacity, of all ranks' rows in the order of their keys.

    Args:
        rows: the rows; their ties order rows with the same key.
        keys: ``[rows]`` fp32; rows with a key of ``-inf`` have no part.
        error: what a key may be off by at most.
        exact_keys: gives the keys of some rows in fp64.
        capacity: what the weights of the head may sum to.
        members: the rows of this rank that have a part; all if not given.
        weights: ``[rows]`` positive; 1 each if not given.
        floor: only rows with an exact key above it are taken.
    """
    if members is not None:
        keys = keys[members]
        weights = None if weights is None else weights[members]
    part = keys > max(floor - error, -np.inf) if capacity > 0 else np.zeros(len(keys), bool)
    low = max(_threshold(rows, keys, part, capacity, weights), floor)
    marks = part & (keys > low + 2 * error)
    sure = np.flatnonzero(marks)
    near = np.flatnonzero(part & ~marks & (keys >= low - 2 * error))
    heavy = len(sure) if weights is None else weights[sure].sum()
    used = int(rows.ranks.sum(np.array([heavy], np.int64))[0])
    weight = np.ones(len(near), np.int64) if weights is None else weights[near]
    if members is not None:
        sure, near = members[sure], members[near]

    gather = rows.ranks.gather
    key = gather(exact_keys(near))
    ties = gather(rows.ties[near])
    weight = gather(weight)
    position = gather(near + rows.offset)
    order = np.lexsort((ties, -key))
    order = order[key[order] > floor]
    fits = used + np.cumsum(weight[order]) <= capacity
    head = len(fits) if fits.all() else int(np.argmin(fits))
    chosen = np.union1d(sure, rows.local(position[order[:head]]))
    next_key = float(key[order[head]]) if head < len(order) else -np.inf
    return Top(chosen, next_key)


def _threshold(
    rows: Rows,
    keys: NDArray[np.float32],
    part: NDArray[np.bool_],
    capacity: int,
    weights: NDArray[np.int64] | None,
) -> float:
    """The key at which the weights of the rows above reach the capacity; -inf if they do not."""
    prefix = 0
    for shift, width in _DIGITS:
        counts = np.zeros(1 << width, np.int64)
        for start in range(0, len(keys), _PIECE):
            piece = slice(start, start + _PIECE)
            wanted = part[piece]
            weight = None if weights is None else weights[piece][wanted]
            digits = _ordered_bits(keys[piece][wanted]) >> shift
            if shift + width < 32:
                fitting = digits >> width == prefix
                digits = digits[fitting] & ((1 << width) - 1)
                weight = None if weight is None else weight[fitting]
            # integers below 2**53 add up exactly in the fp64 of a weighted count
            counts += np.bincount(digits, weight, minlength=1 << width).astype(np.int64)
        counts = rows.ranks.sum(counts)
        above = np.cumsum(counts[::-1])
        if above[-1] < capacity:
            return -np.inf
        place = int(np.argmax(above >= capacity))
        digit = (1 << width) - 1 - place
        prefix = (prefix << width) | digit
        capacity -= int(above[place] - counts[digit])
    return _from_ordered_bits(prefix)


def _ordered_bits(keys: NDArray[np.float32]) -> NDArray[np.uint32]:
    """fp32 as unsigned integers in the same order: all bits of negative numbers are turned."""
    bits = np.ascontiguousarray(keys).view(np.int32)
    turned = bits ^ (bits >> 31 | np.int32(-(2**31)))
    return np.asarray(turned.view(np.uint32))


def _from_ordered_bits(value: int) -> float:
    bits = value ^ (1 << 31) if value >> 31 else value ^ 0xFFFFFFFF
    return float(np.array([bits], np.uint32).view(np.float32)[0])
