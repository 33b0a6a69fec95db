"""Hashes of files: those of their bytes, in however many pieces they are read."""

import random
from pathlib import Path

import pytest
import xxhash

from headrace.file_hash import hash_of

PIECE = 1 << 20
"""Bytes that are read at once."""


@pytest.mark.parametrize("size", [0, 1, 1000, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 77])
def test_the_hash_is_that_of_the_bytes(tmp_path: Path, size: int) -> None:
    content = random.Random(size).randbytes(size)
    path = tmp_path / "file"
    path.write_bytes(content)
    assert hash_of(path) == xxhash.xxh3_128_hexdigest(content)


def test_a_file_that_cannot_be_read_has_no_hash(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        hash_of(tmp_path / "none")
    with pytest.raises(IsADirectoryError):
        hash_of(tmp_path)
