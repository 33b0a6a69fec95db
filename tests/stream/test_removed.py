"""Removed documents: never served again, while no other position changes and the state holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.errors import ShardError
from headrace.shards import ShardReader, ShardWriter
from headrace.shards.sample import make_sample
from headrace.shards.tombstones import Removed, add_tombstones
from headrace.stream.dataset import ShardStream


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, str]:
    folders = {}
    for language, count in (("en", 70), ("hi", 33)):
        with ShardWriter(str(tmp_path / language), samples_per_shard=20) as writer:
            for number in range(count):
                text = "x" * (1 + number * 7 % 31)
                writer.write(make_sample(f"{language}-{number}", text, {"n": number}))
        folders[language] = str(tmp_path / language)
    return folders


def remove(url: str, *keys: str) -> None:
    reader = ShardReader(url)
    rows = [
        Removed(entry.name, number, key)
        for shard, entry in enumerate(reader.manifest.shards)
        for number, key in enumerate(reader.keys(shard))
        if key in keys
    ]
    assert len(rows) == len(keys)
    add_tombstones(url, rows)


def keys_of(sources: dict[str, str], world: int = 1, **options: object) -> list[str]:
    """The keys of an epoch, position by position."""
    parts = [
        [
            sample.key
            for sample in ShardStream(sources, rank=rank, world_size=world, seed=5, **options)
        ]
        for rank in range(world)
    ]
    return [parts[n % world][n // world] for n in range(sum(map(len, parts)))]


def test_other_positions_and_the_state_do_not_change(sources: dict[str, str]) -> None:
    before = keys_of(sources)
    stream = ShardStream(sources, seed=5)
    items = iter(stream)
    for _ in range(40):
        next(items)
    state = stream.state_dict()
    gone = {before[3], before[50], before[60], before[99]}
    for language, url in sources.items():
        remove(url, *(key for key in gone if key.startswith(language)))
    after = keys_of(sources)
    assert not gone & set(after)
    for was, now in zip(before, after, strict=True):
        assert now == was if was not in gone else now.split("-")[0] == was.split("-")[0]
    for world in (2, 3):
        assert keys_of(sources, world) == after
    later = ShardStream(sources, seed=5)
    later.load_state_dict(state)
    assert [sample.key for sample in later] == after[40:]
    assert later.substituted == 3
    assert later.state_dict() == stream.state_at(103)


def test_a_running_stream_stops_serving_what_is_removed(sources: dict[str, str]) -> None:
    before = keys_of(sources)
    stream = ShardStream(sources, seed=5)
    items = iter(stream)
    for _ in range(10):  # 32 are read at first
        next(items)
    gone = next(key for key in before[60:] if key.startswith("en"))
    remove(sources["en"], gone)
    rest = [sample.key for sample in items]
    assert gone not in rest
    assert [key for key in before[10:] if key != gone] == [
        now for was, now in zip(before[10:], rest, strict=True) if was != gone
    ]


def test_shards_and_sources_without_a_living_sample(sources: dict[str, str]) -> None:
    before = keys_of(sources)
    gone = {f"hi-{number}" for number in range(20)}
    remove(sources["hi"], *gone)
    after = keys_of(sources)
    for was, now in zip(before, after, strict=True):
        assert now == was if was not in gone else now in {f"hi-{n}" for n in range(20, 33)}
    remove(sources["hi"], *(f"hi-{number}" for number in range(20, 33)))
    with pytest.raises(ShardError, match="all samples of the source were removed"):
        keys_of(sources)


def test_fields_and_batches_are_those_of_the_substitutes(sources: dict[str, str]) -> None:
    before = keys_of(sources)
    remove(sources["en"], "en-1", "en-2", "en-3")
    texts = [text for batch in ShardStream(sources, seed=5, fields="txt", batch_size=8)
             for text in batch]  # fmt: skip
    samples = list(ShardStream(sources, seed=5))
    assert texts == [sample.fields["txt"] for sample in samples]
    for key, text in zip(before, texts, strict=True):
        assert len(text) <= 1 + int(key.split("-")[1]) * 7 % 31
