"""How many samples of each source lie before any position: exact, in closed form.

The counts are rounded down a binary tree over the sources, in integer arithmetic: a node that has
``c`` samples gives its first child ``floor(c * w / t + 1/2)`` and its second child the rest, where
``w`` is the first child's weight and ``t`` the node's.  So the counts add up to the position,
never fall as the position grows, and are exactly proportional wherever the proportions are whole
numbers, above all at the end of an epoch when the weights are the sizes.  The tree is Huffman's
(Proc. IRE 40, 1952), which keeps every count within 1.68 of its ideal share.  The proof is in
``docs/decisions/0002-exact-mixture.md``.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from headrace.errors import ConfigError, Problem
from headrace.stream.feistel import Int64Array

WEIGHT_SCALE = 2**32
"""Shares that are not whole numbers are rounded to multiples of 1 / WEIGHT_SCALE."""

MAX_DEVIATION = 1.68
"""A count differs from its ideal share by less than this: half the sum 1/F(n) of Fibonacci's."""


def temperature_weights(
    sizes: Sequence[int], temperature: float, *, where: str = "mixture.temperature"
) -> list[int]:
    """Integer weights of sources with ``sizes`` samples, proportional to ``p ** temperature``.

    ``p`` is a source's share of all samples: temperature 1 draws in proportion to size (and the
    weights are the sizes, so that an epoch is exact), 0 draws from every source alike, values
    between lift the small sources (Devlin et al. 2019; Conneau et al. 2020, section 3.1).

    Raises ``ConfigError``, naming ``where``, for a temperature that is negative or not finite.
    """
    if not (math.isfinite(temperature) and temperature >= 0):
        raise ConfigError(
            Problem(
                what="a mixture temperature is a number of at least 0",
                where=where,
                value=repr(temperature),
                remedy="Use 1 for the natural mixture, 0 for a uniform one, or a value between",
            )
        )
    if temperature == 1:
        return list(sizes)
    total = sum(sizes)
    return integer_weights([(size / total) ** temperature for size in sizes], where=where)


def integer_weights(
    weights: Sequence[float], *, where: str = "mixture.weights", zero_allowed: bool = False
) -> list[int]:
    """Weights as integers: whole numbers stay as they are, others are scaled to 2**32.

    The rounding hides what C libraries differ in, so that an order is the same on every machine.
    Raises ``ConfigError`` that lists every weight that is not finite and positive (or 0, with
    ``zero_allowed``); one at least has to be positive.
    """
    problems = [
        Problem(
            what="a mixture weight is a positive number",
            where=f"{where}.{number}",
            value=repr(weight),
            remedy="Give it a positive weight, or leave the source out of the stage",
        )
        for number, weight in enumerate(weights)
        if not (math.isfinite(weight) and (weight > 0 or (zero_allowed and weight == 0)))
    ]
    if not problems and not any(weights):
        problems.append(Problem("all weights are 0", where, remedy="Make one of them positive"))
    if problems:
        raise ConfigError(problems)
    if all(isinstance(weight, int) for weight in weights):
        return [int(weight) for weight in weights]
    largest = max(weights)
    scaled = [weight / largest for weight in weights]
    total = math.fsum(scaled)
    return [
        max(1, round(part / total * WEIGHT_SCALE)) if weight else 0
        for weight, part in zip(weights, scaled, strict=True)
    ]


def bounded_weights(
    weights: Sequence[int], least: Sequence[Fraction], most: Sequence[Fraction]
) -> list[int]:
    """Weights whose shares are clipped to ``least`` and ``most``, exactly.

    What clipping takes or gives is redistributed in proportion (water filling): there is one
    level at which ``clip(level * weight, least, most)`` adds up to 1, and these are the shares.
    Sources of weight 0 take no part, and their bounds do not count.

    Raises ``ValueError`` where no shares can meet the bounds.
    """
    members = [number for number, weight in enumerate(weights) if weight]

    def shares(level: Fraction) -> list[Fraction]:
        return [min(max(level * weights[n], least[n]), most[n]) for n in members]

    def filled(level: Fraction) -> Fraction:
        return sum(shares(level), Fraction(0))

    # What is filled grows with the level, in a straight line between two levels where a source
    # begins or ceases to be clipped.
    levels = sorted({bound[n] / weights[n] for n in members for bound in (least, most)})
    if filled(levels[0]) > 1 or filled(levels[-1]) < 1:
        raise ValueError("the bounds leave no shares that add up to 1")
    above = bisect_left(levels, Fraction(1), key=filled)
    level = levels[above]
    if filled(level) > 1:
        low, high = filled(levels[above - 1]), filled(level)
        level = levels[above - 1] + (1 - low) / (high - low) * (level - levels[above - 1])
    chosen = shares(level)
    scale = math.lcm(*(share.denominator for share in chosen))
    bounded = [0] * len(weights)
    for number, share in zip(members, chosen, strict=True):
        bounded[number] = int(share * scale)
    return bounded


class Mixture:
    """Cumulative counts of sources that are drawn in proportion to integer weights."""

    def __init__(self, weights: Sequence[int]) -> None:
        """``weights`` are integers of any magnitude, 0 for a source that is not drawn from."""
        if any(weight < 0 for weight in weights) or not any(weights):
            raise ValueError("a mixture needs a positive weight, and none that is negative")
        self.weights = tuple(weights)
        self._nodes = _huffman_tree(self.weights)
        # The root is the node that is made last, or the only source that is drawn from.
        self._root = (
            self._nodes[0][0]
            if self._nodes
            else next(number for number, weight in enumerate(weights) if weight)
        )

    @property
    def shares(self) -> NDArray[np.float64]:
        """The share of each source, float64; they add up to 1."""
        total = sum(self.weights)
        return np.array([weight / total for weight in self.weights], dtype=np.float64)

    def counts(self, position: int) -> Int64Array:
        """Samples of each source among the first ``position`` positions; int64, one a source."""
        # Python integers, since the product of a position and a weight outgrows 64 bits.
        values = [0] * (len(self.weights) + len(self._nodes))
        values[self._root] = position
        for node, first, second, first_weight, weight in self._nodes:
            count = values[node]
            values[first] = (2 * count * first_weight + weight) // (2 * weight)
            values[second] = count - values[first]
        return np.array(values[: len(self.weights)], dtype=np.int64)

    def counts_at(self, positions: Sequence[int]) -> Int64Array:
        """``counts`` of several positions; int64 of shape (positions, sources)."""
        return np.stack([self.counts(position) for position in positions])


def _huffman_tree(weights: Sequence[int]) -> list[tuple[int, int, int, int, int]]:
    """Inner nodes from the root down: (node, first child, second child, first's weight, weight).

    Leaves are numbered ``0..n-1``, inner nodes from ``n`` on, the root last.  Equal weights are
    merged in numeric order; weights of 0 are no part of the tree.
    """
    heap = [(weight, number) for number, weight in enumerate(weights) if weight]
    heapq.heapify(heap)
    nodes: list[tuple[int, int, int, int, int]] = []
    while len(heap) > 1:
        first_weight, first = heapq.heappop(heap)
        second_weight, second = heapq.heappop(heap)
        weight = first_weight + second_weight
        node = len(weights) + len(nodes)
        nodes.append((node, first, second, first_weight, weight))
        heapq.heappush(heap, (weight, node))
    return nodes[::-1]
