"""Masking, written from docs/language_models.md alone: slow, plain, without the library.

Nothing here imports Headrace or numpy.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence

BITS = 2**64


def key_of(*parts: int | str) -> int:
    text = json.dumps(list(parts), ensure_ascii=True, separators=(",", ":"))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def mix(x: int) -> int:
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % BITS
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % BITS
    return x ^ (x >> 31)


def under(key: int, number: int) -> int:
    return mix(mix(number * 0x9E3779B97F4A7C15 % BITS) ^ key)


def fraction(number: int) -> float:
    return (number >> 11) / 2**53


def masked(
    tokens: Sequence[int],
    word_starts: Sequence[bool] | None,
    key: int,
    place: Sequence[int],
    share: float,
    special: set[int],
    ordinary: Sequence[int],
    mask: int,
) -> tuple[list[int], list[int]]:
    """What a sequence becomes, and its labels; ``place`` is shard, number and pass."""
    for number in place:
        key = under(key, number)
    words: list[list[int]] = []
    for position, token in enumerate(tokens):
        if position == 0 or word_starts is None or word_starts[position]:
            words.append([])
        if token not in special:
            words[-1].append(position)
    words = [word for word in words if word]
    count = math.floor(share * len(words) + fraction(under(key, BITS - 1)))
    order = sorted(range(len(words)), key=lambda number: under(key, number))
    ids, labels = list(tokens), [-100] * len(tokens)
    for number in order[:count]:
        for position in words[number]:
            labels[position] = tokens[position]
            fate = fraction(under(under(key, BITS - 2), position))
            if fate < 0.8:
                ids[position] = mask
            elif fate < 0.8 + 0.1:
                drawn = under(under(key, BITS - 3), position) >> 32
                ids[position] = ordinary[drawn * len(ordinary) >> 32]
    return ids, labels
