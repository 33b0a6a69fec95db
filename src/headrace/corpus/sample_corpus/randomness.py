"""Random draws that are the same on every Python version and under every hash seed.

Only ``Random.random`` is documented to keep its sequence between Python versions, so every draw
here is made from it, and every seed is a BLAKE2 digest of text.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from hashlib import blake2b
from typing import TypeVar

Item = TypeVar("Item")


def digest(*parts: object, size: int = 8) -> bytes:
    """Return ``size`` bytes that depend on the text of ``parts`` only."""
    text = "\x1f".join(str(part) for part in parts)
    return blake2b(text.encode("utf-8"), digest_size=size).digest()


def fraction(*parts: object) -> float:
    """Return a number in [0, 1) that depends on the text of ``parts`` only."""
    return (int.from_bytes(digest(*parts), "big") >> 11) * 2.0**-53


def seeded(*parts: object) -> random.Random:
    """Return a generator whose seed depends on the text of ``parts`` only."""
    return random.Random(int.from_bytes(digest(*parts), "big"))


def pick(source: random.Random, items: Sequence[Item]) -> Item:
    """Return one of ``items``, each with the same probability."""
    return items[int(source.random() * len(items))]


def shuffled(source: random.Random, size: int) -> list[int]:
    """Return the numbers from 0 to ``size - 1`` in random order."""
    keys = [(source.random(), number) for number in range(size)]
    return [number for _, number in sorted(keys)]
