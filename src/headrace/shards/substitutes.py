"""Which sample is served in place of a removed one: a pure function of its key and what lives.

Of the samples that need no more room than the removed one had, the one with the highest score is
taken (rendezvous hashing: Thaler and Ravishankar 1998); the score is a hash of both.  So removing
further samples changes nothing but the substitutes that are removed themselves.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

NONE = -1
"""Where nothing fits."""


def seed_of(key: str, part: int = 0) -> int:
    """64 bits that stand for a removed sample, or for a part of it."""
    return xxhash.xxh3_64_intdigest(key.encode("utf-8", "surrogatepass"), seed=part)


def choose_substitutes(
    room: NDArray[np.integer[Any]],
    candidates: NDArray[np.bool_],
    removed: NDArray[np.int64],
    seeds: NDArray[np.uint64],
    ids: NDArray[np.uint64] | None = None,
) -> NDArray[np.int64]:
    """For each removed sample the number of another one that needs no more room.

    Args:
        room: ``[samples]``: bytes or tokens of each.
        candidates: ``[samples]``: which may be taken.
        removed: ``[removed]``: numbers of the removed samples.
        seeds: ``[removed]``: :func:`seed_of` each.
        ids: ``[samples]``: what the candidates are told by; their numbers if not given.

    Returns:
        ``[removed]``: numbers, -1 where no candidate is as short.
    """
    numbers = np.flatnonzero(candidates)
    numbers = numbers[np.argsort(room[numbers], kind="stable")]
    own = (numbers if ids is None else ids[numbers]).astype(np.uint64)
    ends = np.searchsorted(room[numbers], room[removed], side="right")
    chosen = np.full(len(removed), NONE, dtype=np.int64)
    for place, (end, seed) in enumerate(zip(ends.tolist(), seeds, strict=True)):
        if end:
            chosen[place] = numbers[np.argmax(_scores(own[:end], seed))]
    return chosen


def shortest(room: NDArray[np.integer[Any]], candidates: NDArray[np.bool_]) -> int:
    """The candidate that needs the least room, the first of several; -1 if there is none."""
    numbers = np.flatnonzero(candidates)
    return int(numbers[np.argmin(room[numbers])]) if numbers.size else NONE


def _scores(ids: NDArray[np.uint64], seed: np.uint64) -> NDArray[np.uint64]:
    """splitmix64 (Steele, Lea, Flood 2014) of the ids, from where the seed says."""
    mixed: NDArray[np.uint64] = (ids + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) ^ seed
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
