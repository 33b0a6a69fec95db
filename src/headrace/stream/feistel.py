"""Keyed permutations of ``0..size-1`` that need no memory: any element, any order, any size.

A permutation is a Feistel network over ``Z_a x Z_b`` with ``a * b >= size`` (the generalised
Feistel cipher of Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002),
followed by cycle walking for the few values that fall outside.  With ``a = ceil(sqrt(size))`` the
domain is larger than ``size`` by less than ``a``, so that a second walk is rare.  The round
function is the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): this is a shuffle,
not cryptography.

Everything is integer arithmetic modulo 2**64, so that an order is the same on every machine.
"""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Int64Array: TypeAlias = NDArray[np.int64]
UInt64Array: TypeAlias = NDArray[np.uint64]

MAX_SIZE = 2**60
"""The largest size that a permutation takes."""

_ROUNDS = 10
"""Six rounds shuffle a million well; permutations of five need ten to be about equally likely."""
_GOLDEN = 0x9E3779B97F4A7C15
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_HALF = np.uint64(32)


def derive_key(*parts: int | str) -> int:
    """A 64-bit key from parts such as a seed, a stage name and a URL.

    The parts are hashed as a JSON list, so that ``("a", "bc")`` and ``("ab", "c")``, or ``1`` and
    ``"1"``, give different keys, the same ones in every process and on every machine.
    """
    canonical = json.dumps(list(parts), ensure_ascii=True, separators=(",", ":"))
    return int.from_bytes(blake2b(canonical.encode(), digest_size=8).digest(), "little")


def derive_keys(key: int | UInt64Array, numbers: Int64Array) -> UInt64Array:
    """One key for each of ``numbers`` (int64, any shape) under ``key``; uint64, the same shape.

    ``key`` may be an array of the same shape: a key for each number.
    """
    under = np.uint64(key) if isinstance(key, int) else key
    return _mix(_mix(numbers.astype(np.uint64) * np.uint64(_GOLDEN)) ^ under)


def permute(values: Int64Array, sizes: Int64Array, keys: UInt64Array) -> Int64Array:
    """Map each value by the permutation that belongs to its own size and key.

    The arrays are one-dimensional; ``sizes`` and ``keys`` are as long as ``values`` or have one
    element for all of them.  ``0 <= values < sizes``, which is not checked here.
    """
    return _walk(values, sizes, keys, inverse=False)


class Permutation:
    """The keyed permutation of ``0..size-1``; costs no memory and no set-up."""

    def __init__(self, size: int, key: int) -> None:
        """``size`` is from 0 to ``MAX_SIZE``; ``key`` is any 64-bit number.

        Raises ``ValueError`` for another size.
        """
        if not 0 <= size <= MAX_SIZE:
            raise ValueError(f"the size of a permutation is 0 to {MAX_SIZE}, not {size}")
        self.size = size
        self.key = key

    def __call__(self, values: Int64Array) -> Int64Array:
        """Where each of ``values`` (int64, any shape) goes; ``IndexError`` if not in range."""
        return self._map(values, inverse=False)

    def inverse(self, values: Int64Array) -> Int64Array:
        """What each of ``values`` (int64, any shape) came from; undoes the call."""
        return self._map(values, inverse=True)

    def _map(self, values: Int64Array, *, inverse: bool) -> Int64Array:
        values = np.asarray(values, dtype=np.int64)
        if values.size and not (values.min() >= 0 and values.max() < self.size):
            raise IndexError(f"a value lies outside 0..{self.size - 1}")
        flat = values.ravel()
        sizes = np.array([self.size], dtype=np.int64)
        keys = np.array([self.key], dtype=np.uint64)
        return _walk(flat, sizes, keys, inverse=inverse).reshape(values.shape)


def _mix(values: UInt64Array) -> UInt64Array:
    """The SplitMix64 finaliser: a bijection of 64-bit numbers that changes half of the bits."""
    values = (values ^ (values >> np.uint64(30))) * _MIX_1
    values = (values ^ (values >> np.uint64(27))) * _MIX_2
    return values ^ (values >> np.uint64(31))


def _walk(values: Int64Array, sizes: Int64Array, keys: UInt64Array, *, inverse: bool) -> Int64Array:
    """Apply the network again to whatever it sends outside of ``0..size-1`` (cycle walking)."""
    network = _decrypt if inverse else _encrypt
    mapped = network(values, sizes, keys)
    outside = np.flatnonzero(mapped >= sizes)
    while outside.size:
        sizes_outside = sizes if sizes.size == 1 else sizes[outside]
        keys_outside = keys if keys.size == 1 else keys[outside]
        walked = network(mapped[outside], sizes_outside, keys_outside)
        mapped[outside] = walked
        outside = outside[walked >= sizes_outside]
    return mapped


def _sides(sizes: Int64Array) -> tuple[UInt64Array, UInt64Array]:
    """The factors ``a`` and ``b``, about equal, with ``a * b >= size`` whatever sqrt rounds to."""
    first = np.maximum(np.ceil(np.sqrt(sizes.astype(np.float64))).astype(np.int64), 1)
    second = np.maximum(-(-sizes // first), 1)
    return first.astype(np.uint64), second.astype(np.uint64)


def _round(
    other_side: UInt64Array, side_size: UInt64Array, keys: UInt64Array, number: int
) -> UInt64Array:
    """A number in ``0..side_size-1`` from the other side, by multiplication instead of modulo."""
    key = _mix(keys + np.uint64((number + 1) * _GOLDEN % 2**64))
    return ((_mix(other_side ^ key) >> _HALF) * side_size) >> _HALF


def _encrypt(values: Int64Array, sizes: Int64Array, keys: UInt64Array) -> Int64Array:
    first, second = _sides(sizes)
    right, left = np.divmod(values.astype(np.uint64), first)
    for number in range(_ROUNDS):
        # The sum modulo the side: where it is less than the side, the difference wraps around to
        # a huge number, and the minimum takes the other.
        if number % 2 == 0:
            left = left + _round(right, first, keys, number)
            left = np.minimum(left, left - first)
        else:
            right = right + _round(left, second, keys, number)
            right = np.minimum(right, right - second)
    return (right * first + left).astype(np.int64)


def _decrypt(values: Int64Array, sizes: Int64Array, keys: UInt64Array) -> Int64Array:
    first, second = _sides(sizes)
    right, left = np.divmod(values.astype(np.uint64), first)
    for number in reversed(range(_ROUNDS)):
        if number % 2 == 0:
            left = left - _round(right, first, keys, number)
            left = np.minimum(left, left + first)
        else:
            right = right - _round(left, second, keys, number)
            right = np.minimum(right, right + second)
    return (right * first + left).astype(np.int64)
