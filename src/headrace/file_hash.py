"""Hashes of files."""

from __future__ import annotations

from pathlib import Path

import xxhash

_PIECE_BYTES = 1 << 20


def hash_of(path: Path) -> str:
    """xxh3-128 of a local file, 32 hexadecimal digits; ``OSError`` if it cannot be read."""
    digest = xxhash.xxh3_128()
    with path.open("rb", buffering=0) as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()
