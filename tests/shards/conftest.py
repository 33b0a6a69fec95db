from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.shards import Manifest, Sample, ShardWriter
from headrace.shards.sample import make_sample

MakeSamples = Callable[..., list[Sample]]


@pytest.fixture
def make_samples() -> MakeSamples:
    """Samples whose text is different in each and does not compress to one block."""

    def make(count: int, *, start: int = 0, words: int = 40) -> list[Sample]:
        return [
            make_sample(
                f"k{number:05d}",
                " ".join(f"wörd{number * word % 997}" for word in range(words)),
                {"id": f"k{number:05d}", "language": "en", "number": number},
            )
            for number in range(start, start + count)
        ]

    return make


@pytest.fixture
def write_source(make_samples: MakeSamples) -> Callable[..., Manifest]:
    def write(url: object, count: int = 50, per_shard: int = 20, **options: object) -> Manifest:
        with ShardWriter(str(url), samples_per_shard=per_shard, **options) as writer:
            for sample in make_samples(count):
                writer.write(sample)
        return writer.close()

    return write


@pytest.fixture
def source(tmp_path: Path, write_source: Callable[..., Manifest]) -> Path:
    """50 samples in shards of 20, 20 and 10."""
    folder = tmp_path / "source"
    write_source(folder)
    return folder


@pytest.fixture
def big_source(tmp_path: Path, make_samples: MakeSamples) -> Path:
    """One shard of a little more than three blocks of 1 MiB."""
    folder = tmp_path / "big"
    with ShardWriter(str(folder)) as writer:
        for sample in make_samples(300, words=1400):
            writer.write(sample)
    return folder
