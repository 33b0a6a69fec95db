"""A bit flipped anywhere: found before a sample is served, in this run and in the next."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from headrace.errors import ShardError
from headrace.shards import Manifest, RetryPolicy, Sample, ShardCache, ShardReader, storage

LOCAL, CACHED = 700, 300
QUICK = RetryPolicy(first_wait=0.001, longest_wait=0.001)


@contextmanager
def flipped(path: Path, position: int, bit: int) -> Iterator[None]:
    """One bit of a file is wrong, in place, as on a failing disk."""
    _flip(path, position, bit)
    try:
        yield
    finally:
        _flip(path, position, bit)


def _flip(path: Path, position: int, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 1 << bit]))


def served(url: str, **options: Any) -> tuple[list[Sample], bool]:
    """The samples that come out, in order, and whether an error ended them."""
    found: list[Sample] = []
    try:
        with ShardReader(url, **options) as reader:
            found += reader  # one by one: what comes before the error is kept
    except ShardError:
        return found, True
    return found, False


def places(paths: list[Path], count: int, seed: int) -> Iterator[tuple[Path, int, int]]:
    """Random bits of files; small files get as many flips as large ones."""
    draw = random.Random(seed)
    for _ in range(count):
        path = draw.choice(paths)
        yield path, draw.randrange(path.stat().st_size), draw.randrange(8)


def test_flips_in_shards_indexes_and_manifest(
    tmp_path: Path, write_source: Callable[..., Manifest]
) -> None:
    write_source(tmp_path / "s", 6, 2)
    url = str(tmp_path / "s")
    clean, ended = served(url)
    assert (len(clean), ended) == (6, False)
    files = sorted((tmp_path / "s").iterdir())
    assert len(files) == 7
    for path, position, bit in places(files, LOCAL, seed=1):
        with flipped(path, position, bit):
            for _ in range(2):
                found, ended = served(url)
                assert ended, (path.name, position, bit)
                assert found == clean[: len(found)]
                if path.suffix != ".json":
                    # Shards before the bad one are served, nothing of the bad one is.
                    assert len(found) == 2 * int(path.stem[-1])
    assert served(url) == (clean, False)


def test_flips_in_the_cache(tmp_path: Path, write_source: Callable[..., Manifest]) -> None:
    """They are mended while the source can be reached, and found while it cannot."""
    url = f"memory://{tmp_path.name}/s"
    write_source(url, 6, 2)
    cache = ShardCache(tmp_path / "cache")
    options = {"cache": cache, "retry": QUICK}
    clean, _ = served(url)
    assert served(url, **options) == (clean, False)
    for number in range(CACHED):
        # Mending replaces files, so the list is made anew each time.
        files = sorted(cache.folder.rglob("shard-*"))
        assert len(files) == 6
        ((path, position, bit),) = places(files, 1, seed=number)
        before = path.read_bytes()
        _flip(path, position, bit)
        if number % 3 == 0:
            reader = ShardReader(url, **options)
            tar = storage.join(url, path.with_suffix(".tar").name)
            content = storage.read_bytes(tar)
            storage.delete(tar)
            for _ in range(2):
                found: list[Sample] = []
                with pytest.raises(ShardError):
                    found += reader
                assert found == clean[: 2 * int(path.stem[-1])]
            storage.write_atomically(tar, content)
        assert served(url, **options) == (clean, False), (path.name, position, bit)
        assert path.read_bytes() == before
